"""The projector, put together; and a rebuild of history, which runs one over a second store.

Imported by ``wiring.ROLES`` only when a projector starts, and by ``douse history rebuild``.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing

from workers.domain.history.rebuild import Rebuilt
from workers.domain.ids import ChainId
from workers.log.memory_outbox import MemoryOutbox
from workers.log.ports import LogReader
from workers.log.readers import KafkaLogReader
from workers.projector.alarms import Alarms
from workers.projector.bounded_log import BoundedLog
from workers.projector.loop import Loop
from workers.projector.projector import Projector
from workers.projector.pruner import Pruner
from workers.projector.rebuild import Choice as Choice
from workers.projector.rebuild import Rebuild, SilentRecorder
from workers.projector.record_reader import RecordReader
from workers.settings import ProjectorSettings
from workers.store.history.ports import HistoryStore
from workers.store.history.rebuild import open_rebuilding
from workers.store.history.store import open_history
from workers.system.clock import SystemClock
from workers.system.failpoints import NoFailpoints, failpoints
from workers.system.ports import Failpoints, Runnable, Telemetry
from workers.system.telemetry import quiet
from workers.wire.avro import AvroCodec
from workers.wire.event_reader import DetectorEvents
from workers.wire.keys import NewestKeyset
from workers.wire.signing import EnvelopeVerifier
from workers.wiring.kit import Kit


def projector(settings: ProjectorSettings) -> Runnable:
    """The projector.

    Raises:
        ConfigError: keys, keyset, store or broker settings cannot be used.
        TransientFailure: the database is away or busy.
    """
    with ExitStack() as opened:
        kit = Kit("projector", settings, opened)
        store = kit.opened(open_history(settings.history, kit.codec, check=True))
        outbox = kit.memory_outbox()
        alarms = Alarms(recorder=kit.recorder, outbox=outbox, telemetry=kit.telemetry, clock=kit.clock)
        loop = Loop(
            projector=_projector(
                settings,
                store,
                kit.reader(),
                alarms,
                verifier=kit.verifier(),
                telemetry=kit.telemetry,
                armed=kit.failpoints,
            ),
            forgetting=Pruner(
                store=store,
                retention=settings.retention.retention(),
                alarms=alarms,
                clock=kit.clock,
                telemetry=kit.telemetry,
                failpoints=kit.failpoints,
            ),
            relay=kit.relay(outbox, kit.writer(), refused=kit.unsendable(outbox.begin)),
            telemetry=kit.telemetry,
            close=opened.pop_all().close,
        )
        return kit.following(loop, outbox.begin)


def rebuild_history(
    settings: ProjectorSettings, choice: Choice, *, progress: Callable[[int], None] = lambda records: None
) -> Rebuilt:
    """History made anew out of the log, in a store beside the live one, which it replaces if ``choice`` allows it.

    Raises:
        ConfigError: as ``projector``; or another rebuild is at work.
        TransientFailure: the log or a database is away or busy.
    """
    telemetry, clock, armed = quiet(), SystemClock(), failpoints(os.environ)
    with (
        closing(KafkaLogReader(settings.kafka, telemetry=telemetry, clock=clock)) as reader,
        closing(open_rebuilding(settings.history, AvroCodec(), armed)) as twin,
    ):
        upto, outbox = BoundedLog(reader), MemoryOutbox(ChainId("rebuild"))
        alarms = Alarms(recorder=SilentRecorder(), outbox=outbox, telemetry=telemetry, clock=clock)
        newest = NewestKeyset(settings.keys.keyset, settings.keys.newest)
        verifier = EnvelopeVerifier(newest.keyset, AvroCodec(), clock=clock)
        made = _projector(
            settings, twin.fresh, upto, alarms, verifier=verifier, telemetry=telemetry, armed=NoFailpoints()
        )
        return Rebuild(made, upto, twin, failpoints=armed, progress=progress).run(choice)


def _projector(
    settings: ProjectorSettings,
    store: HistoryStore,
    reader: LogReader,
    alarms: Alarms,
    *,
    verifier: EnvelopeVerifier,
    telemetry: Telemetry,
    armed: Failpoints,
) -> Projector:
    clock, codec = SystemClock(), AvroCodec()
    events = DetectorEvents(codec, verifier)
    return Projector(
        store=store,
        reader=reader,
        reading=RecordReader(verifier=verifier, codec=codec, events=events, telemetry=telemetry),
        alarms=alarms,
        clock=clock,
        telemetry=telemetry,
        failpoints=armed,
        limit=settings.batch,
        unsigned_topics=settings.unsigned_topics,
    )
