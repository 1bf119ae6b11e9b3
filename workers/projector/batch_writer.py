"""Writes one batch into one transaction: offsets, rows, and the executions that its steps now amount to.

Called by ``projector`` inside ``HistoryStore.begin``; calls the transaction and ``domain.history.execution.fold``.
Says nothing to anybody: what it found out on the way is its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from workers.domain.history.execution import Dispute, dispute, fold
from workers.domain.history.sequence import Ranges
from workers.domain.ids import ExecutionId
from workers.domain.log import topics
from workers.domain.log.record import LogPosition
from workers.projector.batch import Batch
from workers.projector.record_reader import StepItem
from workers.store.history.ports import HistoryTx

_KEPT_APART: Final = frozenset({topics.RESULTS, topics.AUDIT, topics.NODES, topics.RUNTIME_EVENTS})
"""Topics whose suspects are kept: they claim to come from a worker. A detector's broken JSON goes to the dead letters
alone."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the batch showed about its senders."""

    seen: Mapping[str, Ranges]
    """All record numbers of every sender in the batch."""
    clones: tuple[tuple[str, int], ...]
    """(sender, record number) that two different records carry."""
    disputes: Mapping[ExecutionId, Dispute | None]
    """Of every execution that got a step: the nodes that had no right to speak for it."""


def write_batch(tx: HistoryTx, batch: Batch, *, expected: Mapping[LogPosition, int | None], now_ns: int) -> Findings:
    """Write all of it.

    Raises:
        PermanentFailure: ``second_owner``, when another projector moved an offset.
    """
    for position, next_offset in batch.next_offsets.items():
        tx.advance(position, expected=expected[position], next_offset=next_offset)
    known = tx.senders(batch.record_numbers())
    findings = _senders(tx, batch, known)
    news = _without_forgotten(tx, batch.steps, known)
    tx.put_steps(item.step for item in news)
    disputes: dict[ExecutionId, Dispute | None] = {}
    for execution_id, steps in tx.steps({item.step.result.execution_id for item in news}).items():
        execution = fold(execution_id, steps)
        tx.put_execution(execution)
        disputes[execution_id] = dispute(execution_id, steps) if execution.conflict else None
    for audit in batch.audit:
        tx.put_audit(audit.record, payload=audit.payload, signed=audit.signed, verified=True)
    for heartbeat in batch.heartbeats:
        tx.put_node(heartbeat.state, payload=heartbeat.payload, verified=True, folded_at_ns=now_ns)
    for event in batch.events:
        tx.put_event(event.event, payload=event.payload)
    _put_aside(tx, batch, now_ns)
    return replace(findings, disputes=disputes)


def _put_aside(tx: HistoryTx, batch: Batch, now_ns: int) -> None:
    for suspect in batch.suspects:
        record = suspect.record
        if record.position.topic in _KEPT_APART:
            tx.put_unverified(
                record.position, record.offset, value=record.value or b"", reason=suspect.reason, at_ns=now_ns
            )
    for gap in batch.gaps:
        tx.put_gap(gap.position, expected=gap.expected, resumed_at=gap.resumed_at, reason=gap.reason, at_ns=now_ns)


def _without_forgotten(tx: HistoryTx, item: Sequence[StepItem], known: Mapping[str, Ranges]) -> Sequence[StepItem]:
    """Without the replays of steps that retention took: each would be an execution again that never ends. They are
    old, their numbers were seen before, and yet nothing of their execution is there."""
    before_ns = tx.forgotten().executions if item else 0
    old = [
        each
        for each in item
        if each.step.result.at_ns < before_ns and each.step.result.record_no in known.get(each.sender, Ranges())
    ]
    if not old:
        return item
    there = tx.steps({each.step.result.execution_id for each in old})
    gone = {each.step.digest for each in old if each.step.result.execution_id not in there}
    return [each for each in item if each.step.digest not in gone]


def _senders(tx: HistoryTx, batch: Batch, known: Mapping[str, Ranges]) -> Findings:
    numbers = batch.record_numbers()
    digests: dict[tuple[str, int], set[str]] = {}
    for item in batch.steps:
        digests.setdefault((item.sender, item.step.result.record_no), set()).add(item.step.digest)
    # Only a number that was there before can be a clone of an older one: in steady state nothing is asked here.
    again = [number for number in digests if number[1] in known.get(number[0], Ranges())]
    for number, older in tx.record_digests(again).items():
        digests[number] |= older
    seen = {name: known.get(name, Ranges()).union(taken) for name, taken in numbers.items()}
    for name, ranges in seen.items():
        if ranges != known.get(name):
            tx.put_sender(name, ranges)
    return Findings(seen, tuple(sorted(number for number, found in digests.items() if len(found) > 1)), {})
