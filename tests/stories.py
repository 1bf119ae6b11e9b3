"""What happens to one execution, step by step, as dispatcher and node would report it: the records of history tests.

story = Story(1)
story.requested(), story.dispatched(), story.claimed(), story.ended(Outcome.COMPLETED)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from tests.fakes.clock import START_NS
from tests.fakes.codec import FakeCodec
from workers.domain.event import ContainerRef, ProcessRef, RuntimeEvent
from workers.domain.history.execution import FoldedStep
from workers.domain.ids import (
    NO_EVENT,
    NO_EXECUTION,
    EventId,
    ExecutionId,
    Incarnation,
    InstanceId,
    KeyId,
    NodeId,
    id_from_cause,
)
from workers.domain.node_state import NodeState
from workers.domain.outcome import NOTHING, Outcome, Stage, Values
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
from workers.domain.result import ActionResult
from workers.domain.target import ProcessTarget, Target
from workers.wire.ports import Codec

SECOND = 1_000_000_000
NODE = NodeId("a" * 32)
OTHER_NODE = NodeId("b" * 32)
BORN = Incarnation("11111111-1111-4111-8111-111111111111")
REBORN = Incarnation("22222222-2222-4222-8222-222222222222")
SHELL = ProcessTarget((ProcessRef(4711, name="sh"),), START_NS)


@dataclass(frozen=True)
class Story:
    """One execution; `number` makes it another one, a second later."""

    number: int = 0
    node_id: NodeId = NODE
    host: str = "web-1"
    rule: str = ""
    actor: str = "alice"
    action: str = "kill_process"
    target: Target | None = SHELL
    event_id: EventId = NO_EVENT
    caller_id: str = ""
    undo_of: ExecutionId = NO_EXECUTION

    @property
    def at_ns(self) -> int:
        return START_NS + self.number * SECOND

    @property
    def id(self) -> ExecutionId:
        return id_from_cause(self.at_ns, "story", str(self.number), self.node_id)

    def request(self) -> ActionRequest:
        return ActionRequest(
            verb=Verb.UNDO if self.undo_of else Verb.EXECUTE,
            requested_at_ns=self.at_ns,
            actor=Actor(ActorKind.RULE if self.rule else ActorKind.PERSON, self.rule or self.actor),
            host=self.host,
            steps=(Step(self.id, self.action, self.target),),
            reason="it looked wrong",
            subject=self.undo_of,
            caller_id=self.caller_id,
            causation=Causation(self.event_id, self.rule),
            detected_at_ns=self.at_ns - SECOND if self.event_id else 0,
        )

    def requested(self) -> ActionResult:
        return replace(self._dispatcher(0, Stage.REQUESTED), node_id=NodeId(""), request=self.request())

    def held(self) -> ActionResult:
        return self._dispatcher(1, Stage.HELD)

    def dispatched(self) -> ActionResult:
        return replace(self._dispatcher(2, Stage.DISPATCHED), command_sha256="c" * 64)

    def alarmed(self, alarm: str = "node_silent", *, seq: int = 3) -> ActionResult:
        return replace(self._dispatcher(seq, Stage.DISPATCHED), alarm=alarm, code=alarm)

    def refused(self, outcome: Outcome = Outcome.REJECTED, reason: str = "unknown_node") -> ActionResult:
        code = f"{self.action}_error_{reason}"
        return replace(self._dispatcher(3, Stage.ENDED), outcome=outcome, code=code)

    def lost(self) -> ActionResult:
        return replace(self.refused(Outcome.UNKNOWN, "node_state_lost"), incarnation=REBORN)

    def claimed(self, *, attempt: int = 1, seq: int = 1) -> ActionResult:
        return replace(self._node(attempt, seq, Stage.CLAIMED), configuration={"trigger": "ALL"})

    def ended(
        self,
        outcome: Outcome = Outcome.COMPLETED,
        *,
        attempt: int = 1,
        seq: int = 2,
        effect_holds: bool = False,
        outputs: Values = NOTHING,
    ) -> ActionResult:
        good = outcome in (Outcome.COMPLETED, Outcome.NO_ACTION, Outcome.DRY_RUN)
        return replace(
            self._node(attempt, seq, Stage.ENDED),
            outcome=outcome,
            code=f"{self.action}_{'success' if good else 'error'}_{outcome.lower()}",
            effect_holds=effect_holds,
            outputs=outputs,
        )

    def whole(self, outcome: Outcome = Outcome.COMPLETED, *, effect_holds: bool = False) -> list[ActionResult]:
        return [self.requested(), self.dispatched(), self.claimed(), self.ended(outcome, effect_holds=effect_holds)]

    def _dispatcher(self, seq: int, stage: Stage) -> ActionResult:
        return ActionResult(
            execution_id=self.id,
            producer="dispatcher",
            node_id=self.node_id,
            incarnation=BORN,
            record_no=self.number * 10 + seq,
            attempt=0,
            seq=seq,
            stage=stage,
            at_ns=self.at_ns + seq,
            action=self.action,
            undo_of=self.undo_of,
        )

    def _node(self, attempt: int, seq: int, stage: Stage) -> ActionResult:
        return replace(
            self._dispatcher(seq, stage),
            producer="node",
            record_no=self.number * 10 + attempt * 2 + seq,
            attempt=attempt,
            at_ns=self.at_ns + SECOND * attempt + seq,
        )


def step_of(result: ActionResult, codec: Codec | None = None) -> FoldedStep:
    """The step as the projector folds it; `codec` can read its bytes, `FakeCodec` if none is given."""
    payload = (codec if codec is not None else FakeCodec()).encode(result)
    return FoldedStep(result, hashlib.sha256(payload).hexdigest(), payload, b"signed " + payload)


def event(number: int = 0, *, host: str = "web-1", container: str = "", **texts: str) -> RuntimeEvent:
    """A detection; `texts` may be `rule`, `workload`, `cluster`, `message`."""
    return RuntimeEvent(
        event_id=EventId(f"event-{number}"),
        detector="falco",
        source="syscall",
        rule=texts.get("rule", "Shell in container"),
        priority="warning",
        occurred_at_ns=START_NS + number * SECOND,
        host=host,
        message=texts.get("message", ""),
        container=ContainerRef(container) if container else None,
        workload=texts.get("workload", ""),
        cluster=texts.get("cluster", ""),
    )


def heartbeat(record_no: int, *, node_id: NodeId = NODE, incarnation: Incarnation = BORN, **texts: str) -> NodeState:
    """A node's heartbeat; `texts` may be `cluster` and `name`."""
    return NodeState(
        node_id=node_id,
        record_no=record_no,
        at_ns=START_NS + record_no * SECOND,
        incarnation=incarnation,
        instance_id=InstanceId("33333333-3333-4333-8333-333333333333"),
        boot_id="boot",
        machine_key="machine",
        node_key=KeyId("f" * 32),
        host_names=(texts.get("name", "web-1"),),
        zone="default",
        version="0",
        actions=("kill_process",),
        positions=(),
        queued=0,
        running=0,
        unpublished=0,
        cluster=texts.get("cluster", ""),
    )
