"""Intake: makes what was read durable. Rows and next offset are one commit.

Called by ``executor`` with what the feed read; calls ``inspection`` for each delivery, then ``transitions``. The offset
passes everything, a poison pill too. Must never run an action; where an idle node has bound a command already, RECEIVED
and CLAIMED are one commit. Next: ``lanes``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from workers.actions.base import Lane
from workers.domain.command import ActionCommand
from workers.domain.log.record import Delivery, Gap
from workers.domain.outcome import Outcome, Report, code
from workers.node.attempts import fresh_claim
from workers.node.failures import Unreadable
from workers.node.gate import Gate
from workers.node.inspection import Accepted, Inspected, Inspector, NotForUs
from workers.node.lanes import Lanes, Task
from workers.node.services import Services
from workers.node.transitions import Transitions
from workers.store.ports import JournalTx

GROUP: Final = 128
"""Deliveries to a commit. One fsync is 0.3 ms and a verification 0.14 ms, so at this size the fsync costs a command
next to nothing, and the journal is never held longer than some 20 ms against a kill that wants to be claimed."""


class Intake:
    """Inspects outside the transaction, so that the journal is held for writing only."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions, lanes: Lanes) -> None:
        """``lanes`` is only asked how long the queues are."""
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._lanes = lanes
        self._inspector = Inspector(services, gate, lanes)

    def step(self, deliveries: Sequence[Delivery]) -> Iterator[Sequence[Task]]:
        """Take everything in, in groups; after each commit, the tasks of what may now run.

        Raises:
            JournalUnavailable: this group is not durable, and none after it was inspected.
            PermanentFailure: ``keyset_expired``: nothing is taken in and nothing is put aside.
        """
        for start in range(0, len(deliveries), GROUP):
            group, behind = deliveries[start : start + GROUP], deliveries[start + GROUP :]
            read = [(delivery, self._inspector.inspect(delivery, alone=len(deliveries) == 1)) for delivery in group]
            if any(isinstance(inspected, Unreadable) for _, inspected in read):
                read += [(delivery, self._inspector.inspect(delivery, alone=False)) for delivery in behind]
                yield from self._genuine_first(read)
                return
            yield self._commit(read)

    def _genuine_first(self, read: Sequence[tuple[Delivery, Inspected]]) -> Iterator[Sequence[Task]]:
        """A kill must not wait until a flood of unreadable records in front of it is written. What is genuine becomes
        durable first, while the offset stays; then come the dead letters, and the offset passes all. A crash between
        the two reads everything again, and finds the genuine ones known."""
        genuine = [(delivery, inspected) for delivery, inspected in read if isinstance(inspected, Accepted)]
        for start in range(0, len(genuine), GROUP):
            yield self._commit(genuine[start : start + GROUP], advance=False)
        rest = [
            (delivery, NotForUs() if isinstance(inspected, Accepted) else inspected) for delivery, inspected in read
        ]
        for start in range(0, len(rest), GROUP):
            yield self._commit(rest[start : start + GROUP])

    def _commit(self, read: Sequence[tuple[Delivery, Inspected]], *, advance: bool = True) -> Sequence[Task]:
        bound = any(isinstance(inspected, Accepted) and inspected.bound for _, inspected in read)
        tasks: list[Task] = []
        coming: Counter[Lane] = Counter()
        with self._transitions.commit(*(("intake", "claim") if bound else ("intake",))) as tx:
            for delivery, inspected in read:
                task = self._take(tx, delivery, inspected, coming)
                if task is not None:
                    coming[task.lane] += 1
                    tasks.append(task)
                if advance:
                    tx.advance(delivery.position, _next_offset(delivery))
        return tasks

    def _take(self, tx: JournalTx, delivery: Delivery, inspected: Inspected, coming: Counter[Lane]) -> Task | None:
        if isinstance(delivery, Gap):
            self._gap(tx, delivery)
            return None
        match inspected:
            case NotForUs():
                return None
            case Unreadable(reason=reason, message=message):
                now_ns = self._services.time.now_ns()
                self._services.recorder.dead_letter(tx, delivery, reason=reason, message=message, at_ns=now_ns)
                self._services.telemetry.count("node.dead_letters", labels={"reason": reason})
                return None
            case Accepted():
                return self._receive(tx, inspected, coming)

    def _receive(self, tx: JournalTx, accepted: Accepted, coming: Counter[Lane]) -> Task | None:
        command, entry, task = accepted.command, accepted.entry, accepted.task
        known = tx.entry(entry.execution_id)
        if known is not None:
            self._services.telemetry.count("node.duplicates")
            self._transitions.repeat(tx, known)
            return None
        self._services.telemetry.count("node.commands")
        refusal = accepted.refusal or self._queue_full(command, task, coming[task.lane])
        if refusal is not None:
            self._transitions.end(tx, entry, command, refusal)
            return None
        if accepted.bound is not None:
            configuration = self._gate.configuration(command)
            self._transitions.claim(tx, fresh_claim(entry, accepted.bound), command, configuration)
        else:
            tx.put(entry)
        return task

    def _queue_full(self, command: ActionCommand, task: Task, coming: int) -> Report | None:
        if not self._lanes.full(task.lane, task.rank, coming=coming):
            return None
        message = f"{self._services.settings.queue_length} commands wait in the {task.lane} lane already"
        return Report(Outcome.REJECTED, code(command.action, Outcome.REJECTED, "queue_full"), message)

    def _gap(self, tx: JournalTx, gap: Gap) -> None:
        self._services.recorder.audit(tx, "gap", at_ns=self._services.time.now_ns(), detail=gap.detail)
        self._services.telemetry.log("gap", level="error", **gap.detail)


def _next_offset(delivery: Delivery) -> int:
    """Where reading continues."""
    return delivery.resumed_at if isinstance(delivery, Gap) else delivery.offset + 1
