"""The projector, put together.

Called by the composition root. Imports of adapters stand inside the function, so that no other worker pays for them.
"""

import os
from collections.abc import Callable
from contextlib import closing

from workers.domain.history.rebuild import Rebuilt
from workers.domain.ids import RANDOM_BYTES, ChainId, uuid7
from workers.log.ports import LogReader
from workers.projector.projector import Projector
from workers.projector.rebuild import Choice as Choice
from workers.settings import ProjectorSettings
from workers.store.history.ports import HistoryStore
from workers.system.ports import Failpoints, Runnable, Telemetry
from workers.wire.ports import Recorder, RecordTx


def projector(settings: ProjectorSettings) -> Runnable:
    """The projector.

    Raises:
        ConfigError: keys, keyset, store or broker settings cannot be used.
        TransientFailure: the database is away or busy.
    """
    from workers.log.memory_outbox import MemoryOutbox
    from workers.log.readers import KafkaLogReader
    from workers.log.relay import OutboxRelay
    from workers.log.unsendable import Unsendable
    from workers.log.writer import KafkaLogWriter
    from workers.projector.alarms import Alarms
    from workers.projector.forgetting import Forgetting
    from workers.projector.loop import Loop
    from workers.store.history.store import open_history
    from workers.system.clock import SystemClock
    from workers.system.failpoints import failpoints
    from workers.system.randomness import SystemRandomness
    from workers.system.telemetry import telemetry
    from workers.wire.avro import AvroCodec
    from workers.wire.keys import load_private_key
    from workers.wire.recorder import ChainRecorder
    from workers.wire.signing import EnvelopeSigner

    clock, codec = SystemClock(), AvroCodec()
    instance = uuid7(clock.now_ns(), SystemRandomness().bytes(RANDOM_BYTES))
    told = telemetry(settings.telemetry, worker="projector", instance_id=instance)
    armed = failpoints(os.environ)
    signer = EnvelopeSigner(load_private_key(settings.keys.private_key), codec)
    outbox = MemoryOutbox(ChainId(f"projector/{instance}"))
    store = open_history(settings.history, codec)
    reader = KafkaLogReader(settings.kafka, telemetry=told, clock=clock)
    writer = KafkaLogWriter(settings.kafka, telemetry=told, clock=clock)
    recorder = ChainRecorder("projector", signer=signer, codec=codec)
    return Loop(
        projector=_over(settings, store, reader, recorder=recorder, outbox=outbox, told=told, armed=armed),
        forgetting=Forgetting(
            store=store,
            retention=settings.retention.retention(),
            alarms=Alarms(recorder=recorder, outbox=outbox, telemetry=told, clock=clock),
            clock=clock,
            telemetry=told,
            failpoints=armed,
        ),
        relay=OutboxRelay(
            outbox,
            writer,
            failpoints=armed,
            telemetry=told,
            clock=clock,
            refused=Unsendable(outbox.begin, recorder, clock.now_ns, told),
        ),
        store=store,
        reader=reader,
        writer=writer,
        telemetry=told,
    )


def rebuild_history(
    settings: ProjectorSettings, choice: Choice, *, progress: Callable[[int], None] = lambda records: None
) -> Rebuilt:
    """History made anew out of the log, in a store beside the live one, which it replaces if ``choice`` says so.

    Raises:
        ConfigError: as ``projector``; or another rebuild is at work.
        TransientFailure: the log or a database is away or busy.
    """
    from workers.log.memory_outbox import MemoryOutbox
    from workers.log.readers import KafkaLogReader
    from workers.projector.bounded_log import UpTo
    from workers.projector.rebuild import Rebuild
    from workers.projector.silent_recorder import SilentRecorder
    from workers.store.history.rebuild import open_rebuilding
    from workers.system.clock import SystemClock
    from workers.system.failpoints import NoFailpoints, failpoints
    from workers.system.telemetry import quiet
    from workers.wire.avro import AvroCodec

    told, codec, armed = quiet(), AvroCodec(), failpoints(os.environ)
    with (
        closing(KafkaLogReader(settings.kafka, telemetry=told, clock=SystemClock())) as reader,
        closing(open_rebuilding(settings.history, codec, armed)) as twin,
    ):
        upto, outbox = UpTo(reader), MemoryOutbox(ChainId("rebuild"))
        made = _over(
            settings, twin.fresh, upto, recorder=SilentRecorder(), outbox=outbox, told=told, armed=NoFailpoints()
        )
        return Rebuild(made, upto, twin, failpoints=armed, progress=progress).run(choice)


def _over(
    settings: ProjectorSettings,
    store: HistoryStore,
    reader: LogReader,
    *,
    recorder: Recorder,
    outbox: RecordTx,
    told: Telemetry,
    armed: Failpoints,
) -> Projector:
    from workers.projector.alarms import Alarms
    from workers.projector.reading import Reading
    from workers.system.clock import SystemClock
    from workers.wire.avro import AvroCodec
    from workers.wire.event_reader import DetectorEvents
    from workers.wire.keys import load_keyset
    from workers.wire.signing import EnvelopeVerifier

    clock, codec = SystemClock(), AvroCodec()
    verifier = EnvelopeVerifier(load_keyset(settings.keys.keyset), codec, clock=clock)
    return Projector(
        store=store,
        reader=reader,
        reading=Reading(verifier=verifier, codec=codec, events=DetectorEvents(codec), telemetry=told),
        alarms=Alarms(recorder=recorder, outbox=outbox, telemetry=told, clock=clock),
        clock=clock,
        telemetry=told,
        failpoints=armed,
        limit=settings.batch,
    )
