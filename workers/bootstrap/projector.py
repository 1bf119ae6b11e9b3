"""The projector, put together.

Called by the composition root. Imports of adapters stand inside the function, so that no other worker pays for them.
"""

import os
from collections.abc import Callable
from contextlib import closing

from workers.core.ids import RANDOM_BYTES, ChainId, uuid7
from workers.core.rebuilding import Rebuilt
from workers.ports import Chained, Failpoints, HistoryStore, LogReader, Runnable, Scribe, Telemetry
from workers.projector.projector import Projector
from workers.projector.rebuild import Choice as Choice
from workers.settings import ProjectorSettings


def projector(settings: ProjectorSettings) -> Runnable:
    """The projector.

    Raises:
        ConfigError: keys, keyset, store or broker settings cannot be used.
        TransientFailure: the database is away or busy.
    """
    from workers.adapters.avro import AvroCodec
    from workers.adapters.chance import SystemChance
    from workers.adapters.clock import SystemClock
    from workers.adapters.failpoints import failpoints
    from workers.adapters.history_store.store import open_history
    from workers.adapters.kafka.memory_outbox import MemoryOutbox
    from workers.adapters.kafka.reader import KafkaLogReader
    from workers.adapters.kafka.relay import OutboxRelay
    from workers.adapters.kafka.unsendable import Unsendable
    from workers.adapters.kafka.writer import KafkaLogWriter
    from workers.adapters.keys import load_private_key
    from workers.adapters.scribe import ChainScribe
    from workers.adapters.signing import EnvelopeSealer
    from workers.adapters.telemetry import telemetry
    from workers.projector.alarms import Alarms
    from workers.projector.forgetting import Forgetting
    from workers.projector.loop import Loop

    clock, codec = SystemClock(), AvroCodec()
    instance = uuid7(clock.now_ns(), SystemChance().bytes(RANDOM_BYTES))
    told = telemetry(settings.telemetry, worker="projector", instance_id=instance)
    armed = failpoints(os.environ)
    sealer = EnvelopeSealer(load_private_key(settings.keys.private_key), codec)
    outbox = MemoryOutbox(ChainId(f"projector/{instance}"))
    store = open_history(settings.history, codec)
    reader = KafkaLogReader(settings.kafka, telemetry=told, clock=clock)
    writer = KafkaLogWriter(settings.kafka, telemetry=told, clock=clock)
    scribe = ChainScribe("projector", sealer=sealer, codec=codec)
    return Loop(
        projector=_over(settings, store, reader, scribe=scribe, outbox=outbox, told=told, armed=armed),
        forgetting=Forgetting(
            store=store,
            retention=settings.retention.retention(),
            alarms=Alarms(scribe=scribe, outbox=outbox, telemetry=told, clock=clock),
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
            refused=Unsendable(outbox.begin, scribe, clock.now_ns, told),
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
    from workers.adapters.avro import AvroCodec
    from workers.adapters.clock import SystemClock
    from workers.adapters.failpoints import NoFailpoints, failpoints
    from workers.adapters.history_store.rebuilding import open_rebuilding
    from workers.adapters.kafka.memory_outbox import MemoryOutbox
    from workers.adapters.kafka.reader import KafkaLogReader
    from workers.adapters.telemetry import quiet
    from workers.projector.rebuild import Rebuild
    from workers.projector.silent import SilentScribe
    from workers.projector.up_to import UpTo

    told, codec, armed = quiet(), AvroCodec(), failpoints(os.environ)
    with (
        closing(KafkaLogReader(settings.kafka, telemetry=told, clock=SystemClock())) as reader,
        closing(open_rebuilding(settings.history, codec, armed)) as twin,
    ):
        upto, outbox = UpTo(reader), MemoryOutbox(ChainId("rebuild"))
        made = _over(settings, twin.fresh, upto, scribe=SilentScribe(), outbox=outbox, told=told, armed=NoFailpoints())
        return Rebuild(made, upto, twin, failpoints=armed, progress=progress).run(choice)


def _over(
    settings: ProjectorSettings,
    store: HistoryStore,
    reader: LogReader,
    *,
    scribe: Scribe,
    outbox: Chained,
    told: Telemetry,
    armed: Failpoints,
) -> Projector:
    from workers.adapters.avro import AvroCodec
    from workers.adapters.clock import SystemClock
    from workers.adapters.falco import DetectorEvents
    from workers.adapters.keys import load_keyset
    from workers.adapters.signing import EnvelopeOpener
    from workers.projector.alarms import Alarms
    from workers.projector.reading import Reading

    clock, codec = SystemClock(), AvroCodec()
    opener = EnvelopeOpener(load_keyset(settings.keys.keyset), codec, clock=clock)
    return Projector(
        store=store,
        reader=reader,
        reading=Reading(opener=opener, codec=codec, events=DetectorEvents(codec), telemetry=told),
        alarms=Alarms(scribe=scribe, outbox=outbox, telemetry=told, clock=clock),
        clock=clock,
        telemetry=told,
        failpoints=armed,
        limit=settings.batch,
    )
