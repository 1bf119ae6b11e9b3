"""A whole node worker without threads or disk: the real room on fake ports, stepped by hand.

    bench = NodeBench()
    bench.world.spawn(1)
    bench.send(bench.command("scripted_kill", 1))
    bench.settle()

`crash` drops the process, `start` makes the next one on the same journal. `observation` is what the guarantees look at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.fakes.bus import FakeBus
from tests.fakes.chance import FakeRandomness
from tests.fakes.clock import FakeClock
from tests.fakes.codec import FakeCodec
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.outbox import RecordedOutbox
from tests.fakes.processes import FakeProcesses
from tests.fakes.retrying import FakeRetrying
from tests.fakes.scripted import KINDS, World, catalogue, target
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from tests.fakes.stores import MemoryJournal
from tests.fakes.telemetry import FakeTelemetry
from tests.guarantees.observation import Observation
from workers.actions.base import AnyAction, Lane
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import LimitExceeded, MalformedMessage, PermanentFailure, TransientFailure
from workers.domain.ids import ExecutionId, InstanceId, NodeId, uuid7
from workers.domain.journal_entry import EntryState
from workers.domain.log import topics
from workers.domain.log.record import OutRecord, Record
from workers.domain.log.routing import command_topic
from workers.domain.log.topology import Topology, first
from workers.domain.node_state import DeadLetter, NodeState
from workers.domain.request import Actor, ActorKind
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, PublicKey
from workers.host.ports import Host
from workers.log.ports import OutboxRow
from workers.node.deadline_watch import DeadlineWatch
from workers.node.effect_watch import EffectWatch
from workers.node.executor import Executor
from workers.node.feed import Feed
from workers.node.gate import Gate
from workers.node.generations import Generations
from workers.node.heartbeat import Heartbeat
from workers.node.intake import Intake
from workers.node.lanes import Lanes
from workers.node.live_state import Health, TimeFloor, Uploads
from workers.node.loop import LaneSignals
from workers.node.recovery import Recovery
from workers.node.runner import Runner
from workers.node.services import Identity, Services
from workers.node.transitions import Transitions
from workers.settings import ResponseActions, features_with
from workers.wire.recorder import ChainRecorder

NODE = NodeId("a1" * 16)
TOPIC = command_topic("default")
PARTITIONS = 4
NODE_KEY = fake_key(NODE, KeyRole.NODE)
DISPATCHER_KEY = fake_key("dispatcher", KeyRole.DISPATCHER)
OPERATOR_KEY = fake_key("operator", KeyRole.OPERATOR)
KEYSET = fake_keyset(
    NODE_KEY, DISPATCHER_KEY, OPERATOR_KEY, fake_key("gateway", KeyRole.WORKER), fake_key("b" * 32, KeyRole.NODE)
)


def response_actions(**keys: Any) -> ResponseActions:
    """A node's settings of the scripted actions, out of what its settings file would have."""
    sections = {name: kind.settings for name, kind in KINDS.items()}
    return features_with(sections).model_validate({"respond": {"response_actions": keys}}).respond.response_actions


class NodeBench:
    """A bus, a world, a journal, and a worker on them."""

    def __init__(
        self,
        *,
        settings: ResponseActions | None = None,
        seed: int = 0,
        lane_signals: LaneSignals | None = None,
        waits: bool = False,
        catalogue: Sequence[AnyAction] | None = None,
    ) -> None:
        """`lane_signals` and `waits` are for tests that run the loop's threads; without `catalogue` the node has the
        scripted actions."""
        self._catalogue = catalogue
        self.lane_signals, self._waits = lane_signals, waits
        self.clock = FakeClock()
        self.randomness = FakeRandomness(seed)
        self.world = World(self.clock.now_ns)
        self.settings = settings if settings is not None else response_actions()
        self.telemetry = FakeTelemetry()
        self.failpoints = FakeFailpoints()
        self.bus = FakeBus(
            {TOPIC: PARTITIONS}
            | dict.fromkeys((topics.RESULTS, topics.AUDIT, topics.DEAD_LETTERS, topics.NODES, topics.TOPOLOGY), 1),
            clock=self.clock,
        )
        self.journal = MemoryJournal(node_id=NODE)
        self.accepted: dict[ExecutionId, ActionCommand] = {}
        self.strangers: set[ExecutionId] = set()
        self.spare = RecordedOutbox()
        self.topology = first("default", PARTITIONS)
        """Where commands go: what a dispatcher would have heard."""
        self.started = 0
        self.start()

    # --- the worker --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A process: everything in memory anew, on the journal as it is."""
        self.started += 1
        self.journal = self.journal.reopened()
        journal = self.journal
        self.world.intended = lambda execution_id: _intended(journal, execution_id)
        codec = FakeCodec()
        uploads = Uploads()
        self.services = Services(
            identity=Identity(
                NODE, NODE_KEY.key_id, journal.incarnation, InstanceId(f"instance-{self.started}"), host_names=("h",)
            ),
            journal=journal,
            codec=codec,
            verifier=FakeVerifier(KEYSET, codec),
            recorder=ChainRecorder("node", signer=FakeSigner(NODE_KEY, codec), codec=codec),
            clock=self.clock,
            time=TimeFloor(self.clock, journal.floor_ns()),
            telemetry=self.telemetry,
            failpoints=self.failpoints,
            retrying=FakeRetrying(self.clock),
            host=Host(FakeProcesses(self.clock), self.clock, self.failpoints, progress=uploads),
            catalogue=catalogue(self.world)
            if self._catalogue is None
            else {action.name: action for action in self._catalogue},
            settings=self.settings,
            health=Health(self.clock),
            uploads=uploads,
        )
        signals, length = self.lane_signals, self.settings.queue_length
        self.lanes = Lanes(length, lock=signals.lock, wake=signals.wake) if signals else Lanes(length)
        self.gate = Gate(self.services)
        self.transitions = Transitions(self.services)
        self.watch = DeadlineWatch(self.services, self.gate, self.transitions)
        self.runner = Runner(self.services, self.gate, self.transitions, self.watch)
        self.effect_watch = EffectWatch(self.services, self.transitions)
        self.intake = Intake(self.services, self.gate, self.transitions, self.lanes)
        self.generations = Generations(self.services, self.transitions, partitions=PARTITIONS)
        self.executor = Executor(self.services, self.intake, self.transitions, self.lanes, self.generations)
        self.recovery = Recovery(self.services, self.gate, self.transitions)
        self.heartbeat = Heartbeat(self.services, self.transitions, self.lanes, self.spare)
        self.reader = self.bus.reader(waits=self._waits)
        self.feed = Feed(self.reader, self.executor, self.telemetry, self.clock)
        self.lanes.push(self.recovery.start())
        self._commits_at_start = journal.commits

    def commits(self) -> int:
        """Commits since this process had recovered."""
        return self.journal.commits - self._commits_at_start

    def restart(self) -> None:
        """The process ended, whatever it was doing; the next one starts."""
        self.start()

    def turn(self, lane: Lane = Lane.CONTAINMENT) -> bool:
        """One turn of one command; whether there was one."""
        task = self.lanes.take(lane, self.clock.monotonic_ns())
        if task is None:
            return False
        self.lanes.done(task, self.runner.step(task))
        return True

    def read(self) -> bool:
        """One step of the feed; whether broker and journal allowed it."""
        try:
            self.feed.step(0.0)
        except (TransientFailure, LimitExceeded, PermanentFailure):
            return False
        return True

    def relay(self) -> int:
        """Move the outbox to the bus."""
        rows: list[OutboxRow] = list(self.executor.outbox(limit=10_000))
        for row in rows:
            self.bus.append(row.record)
        if rows:
            self.executor.acknowledge([row.row_id for row in rows])
        return len(rows)

    def settle(self, *, patience_s: float = 0.0) -> None:
        """Step until nothing moves; then let up to `patience_s` pass for what is due later."""
        until_ns = self.clock.monotonic_ns() + round(patience_s * 1e9)
        while True:
            self.read()
            self.read()  # what the first learnt of topologies, the second reads
            worked = [self.turn(lane) for lane in Lane]
            if any(worked) or self.relay():
                continue
            due_ns = min((d for d in map(self.lanes.next_due_ns, Lane) if d is not None), default=None)
            if due_ns is None or due_ns > until_ns:
                return
            self.clock.advance(max(0, due_ns - self.clock.monotonic_ns()) / 1e9)

    # --- the bus -----------------------------------------------------------------------------------------------------

    def command(self, action: str = "scripted_kill", number: int = 1, **more: Any) -> ActionCommand:
        """A genuine command, issued now."""
        now_ns = self.clock.now_ns()
        made = ActionCommand(
            command_id=ExecutionId(uuid7(now_ns, self.randomness.bytes(10))),
            node_id=NODE,
            node_key=NODE_KEY.key_id,
            incarnation=self.journal.incarnation,
            action=action,
            target=target(number),
            parameters={},
            parameters_sha256=parameters_digest({}),
            issued_at_ns=now_ns,
            not_before_ns=now_ns,
            expires_at_ns=now_ns + 300_000_000_000,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "ada"),
        )
        made = replace(made, **more)
        if "parameters" in more and "parameters_sha256" not in more:
            made = replace(made, parameters_sha256=parameters_digest(made.parameters))
        return made

    def send(self, command: ActionCommand, *, key: PublicKey = DISPATCHER_KEY, genuine: bool = True) -> Record:
        """Sign it and put it on the bus; `genuine` says whether the node must answer it."""
        if genuine:
            self.accepted[command.command_id] = command
        else:
            self.strangers.add(command.command_id)
        return self.put(FakeSigner(key).sign(PayloadType.COMMAND, command).value)

    def put(self, value: bytes | None, *, key: bytes | None = NODE.encode()) -> Record:
        """Any bytes, on this node's partition of the newest generation."""
        topic, partition = self.topology.place_of(NODE)
        return self.bus.append(OutRecord(topic, key, value, _TRACE, partition))

    def grow(self, partitions: int) -> Topology:
        """The operator makes a generation, says so, and commands go there from now on."""
        self.topology = self.topology.grown(partitions, at_ns=self.clock.now_ns())
        self.bus.create_topic(self.topology.topic, partitions)
        self.tell(self.topology)
        return self.topology

    def tell(self, topology: Topology, *, key: PublicKey = OPERATOR_KEY) -> Record:
        """A record on `fleet.topology`, signed by whoever."""
        value = FakeSigner(key).sign(PayloadType.TOPOLOGY, topology).value
        return self.bus.append(OutRecord(topics.TOPOLOGY, topology.key, value))

    # --- what came out -----------------------------------------------------------------------------------------------

    def results(self, execution_id: ExecutionId | None = None) -> list[ActionResult]:
        """Every result on the bus, verified."""
        found = list(self._opened(topics.RESULTS, PayloadType.RESULT, ActionResult))
        return [r for r in found if execution_id in (None, r.execution_id)]

    def audit(self, kind: str = "") -> list[AuditRecord]:
        """Every audit record on the bus, verified."""
        found = list(self._opened(topics.AUDIT, PayloadType.AUDIT, AuditRecord))
        return [record for record in found if kind in ("", record.kind)]

    def dead_letters(self) -> list[DeadLetter]:
        """Every dead letter on the bus."""
        return [FakeCodec().decode(value or b"", DeadLetter) for value in self.bus.values(topics.DEAD_LETTERS)]

    def heartbeats(self) -> list[NodeState]:
        """Every heartbeat said, through the journal and then through memory."""
        verifier = FakeVerifier(KEYSET)
        spare = [
            verifier.verify(r.value or b"", PayloadType.NODE_STATE, NodeState).record for r in self.spare.published
        ]
        return [*self._opened(topics.NODES, PayloadType.NODE_STATE, NodeState), *spare]

    def state_of(self, command: ActionCommand) -> EntryState | None:
        """Where the journal has it."""
        entry = self.journal.entry(command.command_id)
        return entry.state if entry is not None else None

    def observation(self, **more: Any) -> Observation:
        """Everything the guarantees look at."""
        seen = Observation(
            accepted=dict(self.accepted),
            strangers=frozenset(self.strangers),
            results=self.results(),
            effects=list(self.world.effects),
            audit=self.audit(),
            dead_letters=self.dead_letters(),
            protected=frozenset(map(str, self.world.protected)),
            switched_off=frozenset(name for name in self.services.catalogue if not self.settings.allows(name)),
        )
        return replace(seen, **more)

    def _opened(self, topic: str, kind: PayloadType, as_: type[Any]) -> Iterator[Any]:
        verifier = FakeVerifier(KEYSET)
        for value in self.bus.values(topic):
            try:
                opened = verifier.verify(value or b"", kind, as_)
            except MalformedMessage as error:
                raise AssertionError(f"{topic} holds a record that does not verify: {error.reason}") from error
            assert opened.signatory.key_id == NODE_KEY.key_id
            yield opened.record


_TRACE = (("traceparent", b"00-%032x-%016x-01" % (0xABC, 0xDEF)),)


def digest_of(command: ActionCommand) -> str:
    """SHA-256 of the signed command."""
    return hashlib.sha256(FakeCodec().encode(command)).hexdigest()


def _intended(journal: MemoryJournal, execution_id: ExecutionId) -> bool:
    """Whether claim, CLAIMED result and audit intent are durable, or were and have been relayed."""
    entry = journal.entry(execution_id)
    return entry is not None and entry.state is EntryState.CLAIMED and bool(entry.claim) and entry.attempt > 0
