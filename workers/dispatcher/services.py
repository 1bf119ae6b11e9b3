"""What every step function of the dispatcher works with: the room's ports and rules, and the transaction of this turn.

Made by ``dispatcher``; handed down; holds no logic beyond writing one step of one execution. A turn ends with its
transaction: nothing of it outlives the commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workers.actions.base import Action
from workers.dispatcher.rows import STAGE_SEQ, ExecutionRow, Rows
from workers.dispatcher.tails import Tails
from workers.domain.outcome import NOTHING, Outcome, Stage, Values, code
from workers.domain.policy import Decision, PolicyState
from workers.domain.request import ActionRequest
from workers.domain.result import ActionResult
from workers.store.ports import LedgerTx
from workers.system.ports import Telemetry
from workers.wire.ports import Codec, Recorder, RecordSigner, RecordVerifier

DAY_NS = 86_400 * 1_000_000_000

KEEP_NS = 8 * DAY_NS
"""How long an ended execution is remembered: the request topics keep 7 days, so one may be read again so long."""


@dataclass(frozen=True, slots=True)
class Services:
    """The dispatcher's ports and rules, the same for every turn."""

    codec: Codec
    verifier: RecordVerifier
    signer: RecordSigner
    """Holds the command key; nobody else does."""
    recorder: Recorder
    telemetry: Telemetry
    tails: Tails
    actions: Mapping[str, Action[Any]]
    """The closed catalogue."""
    zones: Mapping[str, int]
    silent_after_s: int
    decide: Callable[[ActionRequest, PolicyState], Decision]


@dataclass(frozen=True, slots=True)
class Turn:
    """One transaction at one moment."""

    services: Services
    tx: LedgerTx
    rows: Rows
    now_ns: int

    def requested(self, row: ExecutionRow, request: ActionRequest) -> None:
        """Write that it was asked for, the whole request inside."""
        self._write(row, Stage.REQUESTED, STAGE_SEQ[Stage.REQUESTED], request=request)

    def held(self, row: ExecutionRow, reason: str, message: str) -> None:
        """Write that it waits for somebody."""
        self._write(row, Stage.HELD, STAGE_SEQ[Stage.HELD], code=reason, message=message)
        self.audit("held", row, actor="", detail={"reason": reason})

    def dispatched(self, row: ExecutionRow, *, actor: str, approval_class: str) -> None:
        """Write that its signed command is on its way."""
        seq = STAGE_SEQ[Stage.DISPATCHED]
        self._write(row, Stage.DISPATCHED, seq, deadline_ns=row.expires_at_ns, command_sha256=row.command_sha256)
        detail: Values = {"action": row.action, "node_id": row.node_id, "approval_class": approval_class}
        self.audit("dispatched", row, actor=actor, detail={**detail, "command_sha256": row.command_sha256})

    def ended(self, row: ExecutionRow, outcome: Outcome, reason: str, message: str) -> ExecutionRow:
        """Write an end that the dispatcher may decide, and keep it; the caller goes on with ``release.settle``."""
        said = code(row.action, outcome, reason)
        self._write(row, Stage.ENDED, row.seq, outcome=outcome, code=said, message=message)
        self.audit(outcome.value.lower(), row, actor="", detail={"action": row.action, "reason": reason})
        self.services.telemetry.count("dispatcher.ended", labels={"outcome": outcome.value, "reason": reason})
        after = replace(row, stage=Stage.ENDED, outcome=outcome.value, seq=row.seq + 1)
        self.rows.put_execution(after, due_ns=self.now_ns + KEEP_NS)
        return after

    def alarm(self, row: ExecutionRow, name: str, message: str) -> None:
        """Write an alarm on a dispatched execution; it is not an end, and the timer does not ring again."""
        self._write(row, Stage.DISPATCHED, row.seq, alarm=name, message=message)
        self.audit("alarm", row, actor="", detail={"alarm": name, "node_id": row.node_id})
        self.rows.put_execution(replace(row, seq=row.seq + 1))

    def audit(self, kind: str, row: ExecutionRow, *, actor: str, detail: Values = NOTHING) -> None:
        """One record of the dispatcher's chain about an execution."""
        self.services.recorder.audit(
            self.tx,
            kind,
            at_ns=self.now_ns,
            execution_id=row.execution_id,
            actor=actor,
            detail=detail,
            trace=row.trace,
        )

    def _write(self, row: ExecutionRow, stage: Stage, seq: int, **more: Any) -> None:
        result = ActionResult(
            execution_id=row.execution_id,
            producer="dispatcher",
            node_id=row.node_id,
            incarnation=row.incarnation,
            record_no=0,  # the scribe's to fill in
            attempt=0,
            seq=seq,
            stage=stage,
            at_ns=self.now_ns,
            action=row.action,
            undo_of=row.undo_of,
            **more,
        )
        self.services.recorder.result(self.tx, result, trace=row.trace)
