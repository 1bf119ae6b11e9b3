"""A dispatcher on fakes: what is put in, and what came out, both as plain records.

Used by the tests of ``workers.dispatcher``. Everything real but ledger, signatures, codec, clock and broker.
Annotations are not postponed here: an action reads its parameters' types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tests.fakes.clock import START_NS, FakeClock
from tests.fakes.codec import FakeCodec
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from tests.fakes.stores import MemoryLedger
from tests.fakes.telemetry import FakeTelemetry
from workers.actions.base import AnyAction, FieldSpec, Job, Lane, NoParameters, NotDone, Permission, Probe, parameter
from workers.dispatcher.dispatcher import Dispatcher
from workers.dispatcher.services import Services
from workers.dispatcher.tails import Tails
from workers.domain import policy
from workers.domain.command import ActionCommand
from workers.domain.event import ProcessRef
from workers.domain.ids import ExecutionId, Incarnation, InstanceId, KeyId, LogId, NodeId, id_from_cause
from workers.domain.log import topics
from workers.domain.log.record import LogPosition, OutRecord, Record
from workers.domain.log.routing import partition_for
from workers.domain.log.topology import Topology
from workers.domain.node_state import CommandPosition, DeadLetter, NodeState
from workers.domain.outcome import NOTHING, Outcome, Report, Stage, Values
from workers.domain.request import ActionRequest, Actor, ActorKind, Step, Verb
from workers.domain.result import ActionResult
from workers.domain.target import ProcessTarget
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, PublicKey
from workers.host.ports import Host
from workers.log.ports import Ack
from workers.wire.recorder import ChainRecorder

LOG = LogId("log-1")
NODE = NodeId("0" * 31 + "1")
OTHER = NodeId("0" * 31 + "2")
BORN = Incarnation("01890000-0000-4000-8000-000000000001")
REBORN = Incarnation("01890000-0000-4000-8000-000000000002")
COMMANDS = "response.commands.default"
PARTITION = partition_for(NODE, 64)
SECOND = 1_000_000_000

DISPATCHER_KEY = fake_key("dispatcher", KeyRole.DISPATCHER)
NODE_KEYS = {node: fake_key(node, KeyRole.NODE) for node in (NODE, OTHER)}
OPERATOR_KEY = fake_key("operator", KeyRole.OPERATOR)
GATEWAY_KEY = fake_key("gateway", KeyRole.GATEWAY)
RESPONDER_KEY = fake_key("responder", KeyRole.RESPONDER)
REQUESTER_KEYS = {topics.REQUESTS_PEOPLE: GATEWAY_KEY, topics.REQUESTS_RULES: RESPONDER_KEY}
KEYSET = fake_keyset(DISPATCHER_KEY, OPERATOR_KEY, GATEWAY_KEY, RESPONDER_KEY, *NODE_KEYS.values())


@dataclass(frozen=True, slots=True)
class HaltParameters:
    """What ``halt`` takes."""

    grace: int = parameter("seconds", default=1, maximum=10)


class _Made(AnyAction):
    """An action that only describes itself: a dispatcher never runs one."""

    summary = "made for a test"
    drawbacks = ()
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = ProcessTarget
    parameters: ClassVar[type] = NoParameters
    outputs: ClassVar[tuple[FieldSpec, ...]] = ()
    privileges = ()
    mounts = ()
    example: ClassVar[Mapping[str, Any]] = {}

    def admit(self, job: Job[Any], host: Host) -> None:
        raise AssertionError

    def bind(self, job: Job[Any], host: Host) -> Any:
        raise AssertionError

    def execute(self, job: Job[Any], claim: Any, host: Host) -> Report:
        raise AssertionError

    def probe(self, job: Job[Any], claim: Any, host: Host) -> Probe:
        return NotDone()


class Kill(_Made):
    name = "kill"


class Halt(_Made):
    name = "halt"
    parameters = HaltParameters
    reversible_by = "go_on"
    ttl_s = 60
    timeout_s = 5


class GoOn(_Made):
    name = "go_on"
    undo_only = True
    reversible_by = "halt"


ACTIONS: Mapping[str, AnyAction] = {action.name: action for action in (Kill(), Halt(), GoOn())}


class NoWriter:
    """A ``LogWriter`` that acknowledges at once, at the next offset."""

    def __init__(self) -> None:
        self.log_id = LOG
        """Empty: a log that does not name itself."""
        self._acks: list[Ack] = []
        self._next: dict[LogPosition, int] = {}

    def send(self, record: OutRecord, *, token: int) -> None:
        position = LogPosition(self.log_id, record.topic, record.partition or 0)
        offset = self._next.get(position, 0)
        self._next[position] = offset + 1
        self._acks.append(Ack(token, "", position, offset))

    def acks(self, timeout_s: float = 0.0) -> list[Ack]:
        acks, self._acks = self._acks, []
        return acks

    def flush(self, timeout_s: float) -> int:
        return 0

    def close(self) -> None:
        pass


def target(pid: int = 4711, *, observed_at_ns: int = START_NS) -> ProcessTarget:
    return ProcessTarget((ProcessRef(pid),), observed_at_ns)


def an_id(*causes: object) -> ExecutionId:
    return id_from_cause(START_NS, *map(str, causes))


def person(name: str = "ada") -> Actor:
    return Actor(ActorKind.PERSON, name)


def a_rule(name: str = "Terminal shell") -> Actor:
    return Actor(ActorKind.RULE, name)


def steps(cause: object, *actions: str, parameters: Values = NOTHING) -> tuple[Step, ...]:
    return tuple(Step(an_id(cause, n), name, target(), parameters) for n, name in enumerate(actions))


def execute(cause: object = "one", *actions: str, **more: Any) -> ActionRequest:
    """A person's request of these actions, one step each."""
    made = ActionRequest(Verb.EXECUTE, START_NS, person(), NODE, steps(cause, *(actions or ("kill",))))
    return replace(made, **more)


def about(verb: Verb, subject: ExecutionId, **more: Any) -> ActionRequest:
    """A person's request about an execution."""
    own = (Step(an_id("undo", subject), "go_on", None),) if verb is Verb.UNDO else ()
    return replace(ActionRequest(verb, START_NS, person(), "", own, subject=subject), **more)


class World:
    """One dispatcher, its ledger, and everything it wrote."""

    def __init__(self, *, ledger: MemoryLedger | None = None, clock: FakeClock | None = None) -> None:
        self.clock = clock if clock is not None else FakeClock()
        self.ledger = ledger if ledger is not None else MemoryLedger()
        self.codec = FakeCodec()
        self.failpoints = FakeFailpoints()
        self.telemetry = FakeTelemetry()
        self.offsets: dict[str, int] = {}
        signer = FakeSigner(DISPATCHER_KEY, self.codec)
        self.verifier = FakeVerifier(KEYSET, self.codec)
        self.writer = NoWriter()
        self.tails = Tails(self.writer)
        self.tails.note(LogPosition(LOG, COMMANDS, PARTITION), 0)
        self.services = Services(
            codec=self.codec,
            verifier=self.verifier,
            signer=signer,
            recorder=ChainRecorder("dispatcher", signer=signer, codec=self.codec),
            telemetry=self.telemetry,
            tails=self.tails,
            actions=ACTIONS,
            zones={"default": 64},
            silent_after_s=60,
            decide=policy.decide,
        )
        self.dispatcher = self.another_dispatcher()
        self.numbers = 0

    def another_dispatcher(self, **rules: Any) -> Dispatcher:
        return Dispatcher(replace(self.services, **rules), self.ledger, clock=self.clock, failpoints=self.failpoints)

    def restarted(self) -> "World":
        """The next process on the same ledger and the same log."""
        again = World(ledger=self.ledger.reopened(), clock=self.clock)
        again.offsets, again.numbers = self.offsets, self.numbers
        return again

    # --- in ---

    def record(self, topic: str, value: bytes | None, *, key: bytes = b"") -> Record:
        """The next record of a topic."""
        offset = self.offsets.get(topic, 0)
        self.offsets[topic] = offset + 1
        return Record(LogPosition(LOG, topic, 0), offset, key, value)

    def request_record(self, request: ActionRequest, *, topic: str = "", signed_by: PublicKey | None = None) -> Record:
        """A request, signed as its topic demands or by another key."""
        own = topics.REQUESTS_RULES if request.actor.kind is ActorKind.RULE else topics.REQUESTS_PEOPLE
        signer = FakeSigner(signed_by or REQUESTER_KEYS[topic or own], self.codec)
        return self.record(topic or own, signer.sign(PayloadType.REQUEST, request).value)

    def ask(self, *requests: ActionRequest, topic: str = "") -> None:
        self.dispatcher.take([self.request_record(request, topic=topic) for request in requests])

    def heartbeat_record(self, node: NodeId = NODE, *, signed_by: NodeId | None = None, **more: Any) -> Record:
        self.numbers += 1
        state = NodeState(
            node_id=node,
            record_no=self.numbers,
            at_ns=self.clock.now_ns(),
            incarnation=BORN,
            instance_id=InstanceId("i"),
            boot_id="b",
            machine_key="m",
            node_key=NODE_KEYS[node].key_id,
            host_names=(f"host-{node[-1]}",),
            zone="default",
            version="1",
            actions=("kill",),
            positions=(),
            queued=0,
            running=0,
            unpublished=0,
        )
        signer = FakeSigner(NODE_KEYS[signed_by or node], self.codec)
        value = signer.sign(PayloadType.NODE_STATE, replace(state, **more)).value
        return self.record(topics.NODES, value, key=node.encode())

    def beat(self, node: NodeId = NODE, **more: Any) -> None:
        self.dispatcher.take([self.heartbeat_record(node, **more)])

    def result_record(
        self,
        execution_id: ExecutionId,
        outcome: Outcome | None = Outcome.COMPLETED,
        *,
        signed_by: NodeId = NODE,
        **more: Any,
    ) -> Record:
        self.numbers += 1
        result = ActionResult(
            execution_id=execution_id,
            producer="node",
            node_id=NODE,
            incarnation=BORN,
            record_no=self.numbers,
            attempt=1,
            seq=2,
            stage=Stage.ENDED if outcome is not None else Stage.CLAIMED,
            at_ns=self.clock.now_ns(),
            action="kill",
            outcome=outcome,
        )
        sealed = FakeSigner(NODE_KEYS[signed_by], self.codec).sign(PayloadType.RESULT, replace(result, **more))
        return self.record(topics.RESULTS, sealed.value, key=NODE.encode())

    def node_reports(self, execution_id: ExecutionId, outcome: Outcome | None = Outcome.COMPLETED, **more: Any) -> None:
        self.dispatcher.take([self.result_record(execution_id, outcome, **more)])

    def topology_record(self, topology: Topology, *, signed_by: PublicKey = OPERATOR_KEY) -> Record:
        value = FakeSigner(signed_by, self.codec).sign(PayloadType.TOPOLOGY, topology).value
        return self.record(topics.TOPOLOGY, value, key=topology.key)

    def announce(self, topology: Topology, *, signed_by: PublicKey = OPERATOR_KEY) -> None:
        self.dispatcher.take([self.topology_record(topology, signed_by=signed_by)])

    # --- out ---

    def out(self, topic: str) -> list[OutRecord]:
        return [row.record for row in self.ledger.outbox(limit=1_000_000) if row.record.topic == topic]

    def commands(self) -> list[ActionCommand]:
        found = []
        for record in self.out(COMMANDS):
            assert record.value is not None
            found.append(self.verifier.verify(record.value, PayloadType.COMMAND, ActionCommand).record)
        return found

    def results(self, execution_id: ExecutionId | None = None) -> list[ActionResult]:
        found = []
        for record in self.out(topics.RESULTS):
            assert record.value is not None
            found.append(self.verifier.verify(record.value, PayloadType.RESULT, ActionResult).record)
        return [result for result in found if execution_id in (None, result.execution_id)]

    def ends(self) -> dict[ExecutionId, tuple[Outcome | None, str]]:
        """What the dispatcher ended itself, by execution."""
        return {r.execution_id: (r.outcome, r.code) for r in self.results() if r.stage is Stage.ENDED}

    def stages(self, execution_id: ExecutionId) -> list[str]:
        return [result.stage.value for result in self.results(execution_id)]

    def dead_letters(self) -> list[DeadLetter]:
        values = [record.value for record in self.out(topics.DEAD_LETTERS)]
        return [self.codec.decode(value, DeadLetter) for value in values if value is not None]

    def audit(self) -> list[AuditRecord]:
        values = [record.value for record in self.out(topics.AUDIT)]
        return [self.verifier.verify(v, PayloadType.AUDIT, AuditRecord).record for v in values if v is not None]


def position(next_offset: int, *, log_id: LogId = LOG) -> CommandPosition:
    """A node's position in its command partition."""
    return CommandPosition(log_id, COMMANDS, PARTITION, next_offset)


def node_key(node: NodeId = NODE) -> KeyId:
    return NODE_KEYS[node].key_id
