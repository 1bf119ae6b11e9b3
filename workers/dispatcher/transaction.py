"""One ledger transaction of the dispatcher, as its step functions work with it.

Made by ``dispatcher`` for each batch; nothing of it outlives the commit. Writes single steps of single executions and
decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from workers.dispatcher.clock_watch import ClockWatch
from workers.dispatcher.ledger_rows import Rows
from workers.dispatcher.rows import STAGE_SEQ, ExecutionRow
from workers.dispatcher.services import Services
from workers.domain.outcome import NOTHING, Outcome, Stage, Values, code
from workers.domain.request import ActionRequest
from workers.domain.request_bounds import NotARequest
from workers.domain.result import ActionResult
from workers.store.ports import LedgerTx

KEEP_NS: Final = 8 * 86_400 * 1_000_000_000
"""How long an ended execution is kept: the request topics keep 7 days, so for that long a request may be read again."""

ALARM_EVERY_NS: Final = 60_000_000_000
"""An alarm about the same subject is audited once in this time; whoever causes it may do so a thousand times a second.
"""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One ledger transaction, at one moment."""

    services: Services
    ledger: LedgerTx
    rows: Rows
    clocks: ClockWatch
    now_ns: int

    def accept(self, rows: Sequence[ExecutionRow], request: ActionRequest, value: bytes = b"") -> bool:
        """Keep a request with a row for each of its steps, and write REQUESTED; False when it is here already.

        Raises:
            NotARequest: ``id_taken``, another request has one of its execution ids.
        """
        known = [found for row in rows if (found := self.rows.execution(row.execution_id)) is not None]
        if known:
            if len(known) == len(rows) and all(found.request_id == rows[0].request_id for found in known):
                self.services.telemetry.count("dispatcher.duplicates")
                return False
            raise NotARequest("id_taken", f"execution id {known[0].execution_id} belongs to another request")
        self.rows.put_request(rows[0].request_id, request, value=value)
        for row in rows:
            self.rows.put_execution(row)
            self._write(row, Stage.REQUESTED, STAGE_SEQ[Stage.REQUESTED], request=request)
        return True

    def held(self, row: ExecutionRow, reason: str, message: str) -> None:
        """Write HELD: it waits for approval."""
        self._write(row, Stage.HELD, STAGE_SEQ[Stage.HELD], code=reason, message=message)
        self.audit("held", row, actor="", detail={"reason": reason})

    def dispatched(self, row: ExecutionRow, *, actor: str, approval_class: str) -> None:
        """Write DISPATCHED: its signed command is in the outbox."""
        seq = STAGE_SEQ[Stage.DISPATCHED]
        self._write(row, Stage.DISPATCHED, seq, deadline_ns=row.expires_at_ns, command_sha256=row.command_sha256)
        detail: Values = {"action": row.action, "node_id": row.node_id, "approval_class": approval_class}
        self.audit("dispatched", row, actor=actor, detail={**detail, "command_sha256": row.command_sha256})

    def ended(self, row: ExecutionRow, outcome: Outcome, reason: str, message: str) -> ExecutionRow:
        """Write an end that the dispatcher may decide; the caller goes on with ``release.release_next``."""
        stable_code = code(row.action, outcome, reason)
        self._write(row, Stage.ENDED, row.seq, outcome=outcome, code=stable_code, message=message)
        self.audit(outcome.value.lower(), row, actor="", detail={"action": row.action, "reason": reason})
        self.services.telemetry.count("dispatcher.ended", labels={"outcome": outcome.value, "reason": reason})
        after = replace(row, stage=Stage.ENDED, outcome=outcome.value, seq=row.seq + 1)
        self.rows.put_execution(after, due_ns=self.now_ns + KEEP_NS)
        return after

    def alarm(self, row: ExecutionRow, name: str, message: str) -> None:
        """Write an alarm on a dispatched execution. It is not an end, and no timer is set again."""
        self._write(row, Stage.DISPATCHED, row.seq, alarm=name, message=message)
        self.audit("alarm", row, actor="", detail={"alarm": name, "node_id": row.node_id})
        self.rows.put_execution(replace(row, seq=row.seq + 1))

    def fleet_alarm(self, name: str, subject: str, detail: Values) -> None:
        """Raise an alarm that is about no execution: counted always, logged and audited once a minute per subject.
        ``subject`` must be of few values: a node that is known, or empty."""
        self.services.telemetry.count("dispatcher.alarms", labels={"alarm": name})
        last_ns = self.rows.alarm_ns(name, subject)
        if last_ns is not None and 0 <= self.now_ns - last_ns < ALARM_EVERY_NS:
            return
        self.rows.put_alarm(name, subject, at_ns=self.now_ns)
        self.services.telemetry.log(name, level="error", **detail)
        self.services.recorder.audit(self.ledger, name, at_ns=self.now_ns, detail=detail)

    def audit(self, kind: str, row: ExecutionRow, *, actor: str, detail: Values = NOTHING) -> None:
        """Write one audit record about an execution."""
        self.services.recorder.audit(
            self.ledger,
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
            record_no=0,  # the recorder numbers it
            attempt=0,
            seq=seq,
            stage=stage,
            at_ns=self.now_ns,
            action=row.action,
            undo_of=row.undo_of,
            **more,
        )
        self.services.recorder.result(self.ledger, result, trace=row.trace)
