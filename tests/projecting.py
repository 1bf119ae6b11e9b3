"""A projector among fakes: a log in memory, keys that sign, a store that may be any, and hands to write to the log.

world = World()
world.tell(Story(1).requested(), Story(1).claimed())
world.run()
world.store.execution(Story(1).id)
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.outbox import RecordedOutbox
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from tests.fakes.stores import MemoryHistory
from tests.fakes.telemetry import FakeTelemetry
from tests.stories import NODE, OTHER_NODE
from workers.domain.event import RuntimeEvent
from workers.domain.history.retention import Retention
from workers.domain.ids import ChainId
from workers.domain.log import topics
from workers.domain.log.record import OutRecord, Record
from workers.domain.node_state import NodeState
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord, ChainHead, advance
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole
from workers.log.ports import LogReader
from workers.projector.alarms import Alarms
from workers.projector.projector import Projector
from workers.projector.pruner import Pruner
from workers.projector.record_reader import TOPICS, RecordReader
from workers.store.history.ports import HistoryStore
from workers.wire.avro import AvroCodec
from workers.wire.event_reader import DetectorEvents
from workers.wire.ports import Recorder, RecordVerifier
from workers.wire.recorder import ChainRecorder

CODEC = AvroCodec()
DISPATCHER_KEY = fake_key("dispatcher", KeyRole.DISPATCHER)
NODE_KEY = fake_key(NODE, KeyRole.NODE)
OTHER_KEY = fake_key(OTHER_NODE, KeyRole.NODE)
GATEWAY_KEY = fake_key("gateway", KeyRole.GATEWAY)
PROJECTOR_KEY = fake_key("projector", KeyRole.WORKER)
STRANGER_KEY = fake_key("stranger", KeyRole.NODE)
REVOKED_KEY = fake_key("c" * 32, KeyRole.NODE, revoked=True)
KEYS = (DISPATCHER_KEY, NODE_KEY, OTHER_KEY, GATEWAY_KEY, PROJECTOR_KEY, REVOKED_KEY)

VERIFIER: RecordVerifier = FakeVerifier(fake_keyset(*KEYS), CODEC)

SIGNERS = {key.key_id: FakeSigner(key, CODEC) for key in (*KEYS, STRANGER_KEY)}
DISPATCHER, NODE_SIGNER, OTHER, GATEWAY = (
    SIGNERS[key.key_id] for key in (DISPATCHER_KEY, NODE_KEY, OTHER_KEY, GATEWAY_KEY)
)
STRANGER, REVOKED = SIGNERS[STRANGER_KEY.key_id], SIGNERS[REVOKED_KEY.key_id]


class World:
    """One log, one store, and projectors that come and go."""

    def __init__(self, store: HistoryStore | None = None, *, log: FakeBus | None = None, limit: int = 1000) -> None:
        self.clock = FakeClock()
        self.log = (
            log if log is not None else FakeBus(dict.fromkeys((*TOPICS, topics.FALCO_EVENTS), 2), clock=self.clock)
        )
        self.store = store if store is not None else MemoryHistory(CODEC)
        self.telemetry = FakeTelemetry()
        self.failpoints = FakeFailpoints()
        self.outbox = RecordedOutbox()
        self.limit = limit
        self.unsigned_topics: tuple[str, ...] = (topics.FALCO_EVENTS,)
        self.heads: dict[str, ChainHead] = {}

    def projector(
        self,
        *,
        reader: LogReader | None = None,
        recorder: Recorder | None = None,
        verifier: RecordVerifier | None = None,
    ) -> Projector:
        """A projector as a new process would be: nothing in memory, the store where it stands."""
        verifier = verifier if verifier is not None else VERIFIER
        mine = ChainRecorder("projector", signer=SIGNERS[PROJECTOR_KEY.key_id], codec=CODEC)
        return Projector(
            store=self.store,
            reader=reader if reader is not None else self.log.reader(),
            reading=RecordReader(
                verifier=verifier,
                codec=CODEC,
                events=DetectorEvents(CODEC, verifier),
                telemetry=self.telemetry,
            ),
            alarms=Alarms(
                recorder=recorder if recorder is not None else mine,
                outbox=self.outbox,
                telemetry=self.telemetry,
                clock=self.clock,
            ),
            clock=self.clock,
            telemetry=self.telemetry,
            failpoints=self.failpoints,
            limit=self.limit,
            unsigned_topics=self.unsigned_topics,
        )

    def forgetting(self, retention: Retention) -> Pruner:
        """Retention as the same process would have it."""
        recorder = ChainRecorder("projector", signer=SIGNERS[PROJECTOR_KEY.key_id], codec=CODEC)
        return Pruner(
            store=self.store,
            retention=retention,
            alarms=Alarms(recorder=recorder, outbox=self.outbox, telemetry=self.telemetry, clock=self.clock),
            clock=self.clock,
            telemetry=self.telemetry,
            failpoints=self.failpoints,
        )

    def run(self, projector: Projector | None = None) -> Projector:
        """Start, and step until nothing is left to read."""
        if projector is None:
            projector = self.projector()
            projector.start()
        while projector.step(0):
            pass
        return projector

    # --- what others write ---

    def tell(self, *results: ActionResult, signer: FakeSigner | None = None) -> list[Record]:
        """Results, signed by whoever they say they come from, or by `signer`."""
        written = []
        for result in results:
            own = DISPATCHER if result.producer == "dispatcher" else NODE_SIGNER if result.node_id == NODE else OTHER
            value = (signer or own).sign(PayloadType.RESULT, result).value
            key = (result.node_id or result.execution_id).encode()
            written.append(self.write(topics.RESULTS, value, key=key))
        return written

    def beat(self, *states: NodeState, signer: FakeSigner | None = None) -> None:
        """Heartbeats."""
        for state in states:
            own = NODE_SIGNER if state.node_id == NODE else OTHER
            value = (signer or own).sign(PayloadType.NODE_STATE, state).value
            self.write(topics.NODES, value, key=state.node_id.encode())

    def audit(self, chain_id: str, count: int = 1, *, signer: FakeSigner = NODE_SIGNER) -> None:
        """The next records of a chain."""
        for _ in range(count):
            head = self.heads.get(chain_id, ChainHead(ChainId(chain_id)))
            record = AuditRecord(head.chain_id, head.next_no, head.hash, self.clock.now_ns(), "node", "intent")
            sealed = signer.sign(PayloadType.AUDIT, record)
            self.heads[chain_id] = advance(head, sealed.payload)
            self.write(topics.AUDIT, sealed.value, key=chain_id.encode())

    def detect(self, *events: RuntimeEvent) -> None:
        """Events of our own making, as the gateway writes them."""
        for event in events:
            self.write(topics.RUNTIME_EVENTS, GATEWAY.sign(PayloadType.EVENT, event).value, key=event.host.encode())

    def write(self, topic: str, value: bytes | None, *, key: bytes | None = None) -> Record:
        """Any bytes."""
        return self.log.append(OutRecord(topic, key, value))

    # --- what the projector said ---

    def output(self) -> Sequence[AuditRecord]:
        """The projector's own audit records, in order."""
        verifier = FakeVerifier(fake_keyset(*KEYS), CODEC)
        values = [record.value for record in self.outbox.on(topics.AUDIT)]
        return [verifier.verify(value, PayloadType.AUDIT, AuditRecord).record for value in values if value is not None]

    def kinds(self) -> list[str]:
        """Their kinds, without the start."""
        return [record.kind for record in self.output() if record.kind != "started"]
