"""Everything the node writes about a command: each state with its signed result and audit record, in one commit.

Called by ``intake``, ``runner``, ``attempts``, ``recovery`` and the two watches; calls journal and recorder. Because
result and audit record are in the same commit, no state exists that was not reported. Every write looks at the entry as
the transaction sees it: a late writer (a run that returns after its deadline, a probe after a late return) finds the
execution ended and changes nothing. The last module on the way of a command; the relay sends what is written here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from workers.domain.command import ActionCommand
from workers.domain.errors import JournalUnavailable, LimitExceeded, PermanentFailure
from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log import topics
from workers.domain.log.record import OutRecord
from workers.domain.outcome import NOTHING, Outcome, Report, Stage, Values
from workers.domain.result import EFFECT_LOST, EFFECT_WEAKENED, ActionResult
from workers.node.owners import Owners, joined
from workers.node.services import Services
from workers.store.ports import JournalTx

_AUDIT_KIND = {Outcome.REJECTED: "rejected", Outcome.EXPIRED: "expired"}


class Transitions:
    """Writes transitions; decides none of them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.holding: set[ExecutionId] = set()
        """Executions whose effect is in place; the effect watch looks at them."""
        self.owners = Owners(services)
        self._next_record_no = 0
        """As of the last commit."""
        self._reserved_up_to = 0
        """Record numbers below were used outside the journal: two records of one number look like a cloned node."""

    @contextmanager
    def commit(self, *failpoints: str) -> Iterator[JournalTx]:
        """One transaction around a block, with these failpoints before and after. Also keeps the floor of time.

        Raises:
            JournalUnavailable: nothing became durable. Health knows.
        """
        try:
            with self._services.journal.begin() as tx:
                tx.record_no = max(tx.record_no, self._reserved_up_to)
                yield tx
                tx.raise_floor(self._services.time.floor_ns())
                for failpoint in failpoints:
                    self._services.failpoints.reach(f"node.{failpoint}.before_commit")
                next_record_no = tx.record_no
        except (LimitExceeded, PermanentFailure) as error:
            raise self._unavailable(error) from error
        self._next_record_no = max(self._next_record_no, next_record_no)
        self._services.health.journal_works()
        self._services.committed()
        for failpoint in failpoints:
            self._services.failpoints.reach(f"node.{failpoint}.after_commit")

    def reserve_record_number(self) -> int | None:
        """A record number for a heartbeat while the journal cannot count; None before the first commit."""
        if not self._next_record_no:
            return None
        self._reserved_up_to = max(self._reserved_up_to, self._next_record_no) + 1
        return self._reserved_up_to - 1

    def find(self, execution_id: ExecutionId) -> JournalEntry | None:
        """An entry, outside any transaction.

        Raises:
            JournalUnavailable: the journal cannot even be read.
        """
        try:
            return self._services.journal.entry(execution_id)
        except (LimitExceeded, PermanentFailure) as error:
            raise self._unavailable(error) from error

    def claim(self, tx: JournalTx, entry: JournalEntry, command: ActionCommand, configuration: Values) -> JournalEntry:
        """The intent, durable before the first destructive call: identity, audit record and CLAIMED result at once.

        ``entry`` has the attempt's number and what it is bound to; its step is counted here.
        """
        claimed = replace(entry, state=EntryState.CLAIMED, seq=entry.seq + 1, executing=True)
        self._audit(tx, "intent", claimed, command, {"attempt": claimed.attempt, **entry.claim})
        result = self._result(claimed, command, Stage.CLAIMED, outputs=claimed.claim, configuration=configuration)
        self._services.recorder.result(tx, result, trace=claimed.trace)
        tx.put(claimed)
        return claimed

    def mark(self, execution_id: ExecutionId, *, executing: bool) -> None:
        """Whether an open entry is inside its action now, durably; a mark that is right already costs nothing.

        Raises:
            JournalUnavailable: not marked; do not call the action.
        """
        with self.commit() as tx:
            entry = self.open(tx, execution_id)
            if entry is not None and entry.executing is not executing:
                tx.put(replace(entry, executing=executing))

    def end(
        self,
        tx: JournalTx,
        entry: JournalEntry,
        command: ActionCommand,
        report: Report,
        *,
        returned: bool = True,
    ) -> JournalEntry:
        """The outcome, with its result and audit record. UNKNOWN is reported, but the entry stays CLAIMED: it must be
        settled, by this process or by the next. ``returned`` is False while the action is still at work."""
        report = self._with_one_owner(entry, command, report)
        settled = report.outcome.is_final
        now_ns = self._services.time.now_ns()
        ended = replace(
            entry,
            state=EntryState.OBSERVED if settled else entry.state,
            seq=entry.seq + 1,
            report=report,
            executing=entry.executing and not returned,
            late=now_ns > entry.expires_at_ns and report.outcome is not Outcome.EXPIRED,
        )
        answer = self._services.recorder.result(tx, self._ended(ended, command, report, now_ns), trace=ended.trace)
        ended = replace(ended, answer=answer)
        kind = _AUDIT_KIND.get(report.outcome, "outcome" if settled else "unknown")
        self._audit(tx, kind, ended, command, {"outcome": report.outcome.value, "code": report.code})
        tx.put(ended)
        self._undone(tx, command, report)
        self.held(command, report)
        self._services.telemetry.count("node.outcomes", labels={"outcome": report.outcome.value})
        return ended

    def alarm(self, tx: JournalTx, entry: JournalEntry, command: ActionCommand, alarm: str, why: str = "") -> None:
        """An alarm on the execution; not an end."""
        raised = replace(entry, seq=entry.seq + 1)
        result = replace(self._result(raised, command, Stage.CLAIMED), alarm=alarm, message=why)
        self._services.recorder.result(tx, result, trace=raised.trace)
        self._audit(tx, "alarm", raised, command, {"alarm": alarm, "why": why} if why else {"alarm": alarm})
        tx.put(raised)
        self._services.telemetry.log("alarm", level="error", alarm=alarm, execution_id=entry.execution_id)

    def weakened(self, tx: JournalTx, entry: JournalEntry, command: ActionCommand, why: str) -> None:
        """The effect of an execution that ended was changed from outside: an alarm, and it can be undone as before."""
        self.alarm(tx, entry, command, EFFECT_WEAKENED, why)

    def lost(self, tx: JournalTx, entry: JournalEntry, command: ActionCommand, why: str) -> None:
        """The effect of an execution that ended is no longer in place: an alarm, and nothing to undo any more."""
        assert entry.report is not None
        without = replace(entry, report=replace(entry.report, effect_holds=False))
        self.alarm(tx, without, command, EFFECT_LOST, why)
        self.owners.release(entry.execution_id)

    def undoing(self, execution_id: ExecutionId) -> bool:
        """Whether an undo of it is queued or under way."""
        open_ones = self._services.journal.entries(EntryState.RECEIVED, EntryState.CLAIMED)
        return any(
            self._services.codec.decode(each.command, ActionCommand).undo_of == execution_id for each in open_ones
        )

    def held(self, command: ActionCommand, report: Report) -> None:
        """Keep ``holding`` up to date after an end."""
        if report.effect_holds:
            self.holding.add(command.command_id)
        if command.undo_of and report.outcome in (Outcome.COMPLETED, Outcome.NO_ACTION):
            self.holding.discard(command.undo_of)

    def repeat(self, tx: JournalTx, entry: JournalEntry) -> None:
        """The stored result, byte for byte, once more: its reader may have missed it."""
        if entry.answer:
            key = self._services.identity.node_id.encode()
            tx.publish(OutRecord(topics.RESULTS, key, entry.answer, entry.trace))

    def open(self, tx: JournalTx, execution_id: ExecutionId) -> JournalEntry | None:
        """The entry as this transaction sees it, if it has not ended."""
        entry = tx.entry(execution_id)
        return entry if entry and entry.state in (EntryState.RECEIVED, EntryState.CLAIMED) else None

    def _undone(self, tx: JournalTx, command: ActionCommand, report: Report) -> None:
        """What a successful undo lifted holds no more, and may be forgotten in time. An undo that found nothing to do
        lifted nothing: then the effect was lost before, and that is reported as any other loss."""
        if not command.undo_of or report.outcome not in (Outcome.COMPLETED, Outcome.NO_ACTION):
            return
        self.owners.release(command.undo_of)
        subject = tx.entry(command.undo_of)
        if subject is None or not subject.holds:
            return
        if report.outcome is Outcome.COMPLETED:
            tx.put(replace(subject, undone_by=command.command_id))
        else:
            why = f"its undo {command.command_id} found nothing to do: {report.message}"
            self.lost(tx, subject, self._services.codec.decode(subject.command, ActionCommand), why)

    def _with_one_owner(self, entry: JournalEntry, command: ActionCommand, report: Report) -> Report:
        """The report, or that of an execution that found its effect held by another one, and holds nothing itself."""
        action = self._services.catalogue.get(command.action)
        if action is None or not report.effect_holds or not report.outcome.is_final:
            return report
        owner = self.owners.of(command, entry.claim)
        if owner:
            return joined(action, owner, report.outputs)
        self.owners.take(command, entry.claim)
        return report

    def _unavailable(self, error: LimitExceeded | PermanentFailure) -> JournalUnavailable:
        self._services.health.journal_failed(error.reason)
        self._services.telemetry.log("journal_away", level="error", reason=error.reason, message=error.message)
        return JournalUnavailable(error.message, code=error.reason)

    def _ended(self, entry: JournalEntry, command: ActionCommand, report: Report, now_ns: int) -> ActionResult:
        return replace(
            self._result(entry, command, Stage.ENDED, outputs=report.outputs),
            at_ns=now_ns,
            outcome=report.outcome,
            code=report.code,
            message=report.message,
            post_condition=report.post_condition,
            effect_holds=report.effect_holds,
            cause=report.cause,
            late=entry.late,
        )

    def _result(
        self,
        entry: JournalEntry,
        command: ActionCommand,
        stage: Stage,
        *,
        outputs: Values = NOTHING,
        configuration: Values = NOTHING,
    ) -> ActionResult:
        return ActionResult(
            execution_id=entry.execution_id,
            producer="node",
            node_id=self._services.identity.node_id,
            incarnation=self._services.identity.incarnation,
            record_no=0,  # filled in by the recorder
            attempt=entry.attempt,
            seq=entry.seq,
            stage=stage,
            at_ns=self._services.time.now_ns(),
            action=command.action,
            outputs=outputs,
            configuration=configuration,
            undo_of=command.undo_of,
            command_sha256=entry.command_sha256,
        )

    def _audit(self, tx: JournalTx, kind: str, entry: JournalEntry, command: ActionCommand, detail: Values) -> None:
        self._services.recorder.audit(
            tx,
            kind,
            at_ns=self._services.time.now_ns(),
            execution_id=entry.execution_id,
            actor=f"{command.actor.kind.value}:{command.actor.name}",
            detail={"action": command.action, **detail},
            trace=entry.trace,
        )
