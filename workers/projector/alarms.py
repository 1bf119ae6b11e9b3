"""Reports what history found wrong: to the log, to the metrics, to this projector's own audit chain.

Called by ``projector``. Bounded: one audit record a batch, topic and reason, so that a flood of forgeries is no flood
of alarms. What is wrong with the audit topic is never answered on the audit topic: a projector whose own key is not
trusted would answer itself for ever.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Final

from workers.domain.errors import TransientFailure
from workers.domain.history.execution import FOREIGN_NODE, Dispute
from workers.domain.history.retention import Cutoffs
from workers.domain.history.sequence import Ranges
from workers.domain.ids import ExecutionId, NodeId
from workers.domain.log import topics
from workers.domain.log.record import Gap, LogPosition
from workers.domain.outcome import Values
from workers.projector.record_reader import Suspect
from workers.system.ports import Clock, Telemetry
from workers.wire.ports import Recorder, RecordTx

UNVERIFIED: Final = "history.unverified"
UNREADABLE: Final = "history.unreadable"
GAPS: Final = "history.gaps"
CLONES: Final = "history.clones"
HOLES: Final = "history.missing_records"
DISPUTES: Final = "history.disputes"


GRACE_NS: Final = 60_000_000_000
"""A minute: six heartbeats at their usual pace."""

WAITING_MOST: Final = 10_000
"""Disputes that wait for the dispatcher's record, or are remembered as reported."""

Hole = tuple[int, int]


class Alarms:
    """Writes through a recorder into an outbox that the loop relays."""

    def __init__(self, *, recorder: Recorder, outbox: RecordTx, telemetry: Telemetry, clock: Clock) -> None:
        self._recorder = recorder
        self._outbox = outbox
        self._telemetry = telemetry
        self._clock = clock

    def started(self, detail: Values) -> None:
        """This projector begins to read."""
        self._audit("started", detail)

    def new_log(self, position: LogPosition) -> None:
        """A topic that was read before under another log id starts over."""
        self._telemetry.log("new_log", level="error", topic=position.topic, partition=position.partition)
        self._audit("new_log", {"topic": position.topic, "partition": position.partition, "log_id": position.log_id})

    def forgotten(self, counts: Mapping[str, int], cutoffs: Cutoffs) -> None:
        """Retention took rows: how many of each kind, and from before which moments."""
        before = {f"{each.name}_before_ns": getattr(cutoffs, each.name) for each in fields(cutoffs)}
        detail: Values = {**counts, **before}
        self._telemetry.log("forgotten", level="info", **detail)
        self._audit("forgotten", detail)

    def suspects(self, suspects: Sequence[Suspect]) -> None:
        """Records that are not believed; those that cannot be read also become dead letters."""
        grouped: dict[tuple[str, str], list[Suspect]] = defaultdict(list)
        for suspect in suspects:
            grouped[suspect.record.position.topic, suspect.reason].append(suspect)
            if not suspect.readable:
                self._dead_letter(suspect)
        for (topic, reason), group in grouped.items():
            metric = UNVERIFIED if group[0].readable else UNREADABLE
            self._telemetry.count(metric, len(group), labels={"topic": topic, "reason": reason})
            first = group[0].record
            where = f"{topic}/{first.position.partition}@{first.offset}"
            self._telemetry.log("not_folded", level="error", reason=reason, first=where, count=len(group))
            if group[0].readable and topic != topics.AUDIT:
                self._audit("unverified", {"topic": topic, "reason": reason, "first": where, "count": len(group)})

    def gaps(self, gaps: Iterable[Gap]) -> None:
        """Records that can no longer be read."""
        for gap in gaps:
            self._telemetry.count(GAPS, labels={"topic": gap.position.topic})
            self._telemetry.log("history_gap", level="error", **gap.detail)
            self._audit("gap", gap.detail)

    def clones(self, numbers: Iterable[tuple[str, int]]) -> None:
        """Two different signed records carry one number: a key is used twice."""
        for sender, record_no in numbers:
            self._telemetry.count(CLONES)
            self._telemetry.log("cloned_sender", level="error", sender=sender, record_no=record_no)
            self._audit("cloned_sender", {"sender": sender, "record_no": record_no})

    def holes(self, holes: Iterable[tuple[str, tuple[int, int]]]) -> None:
        """Signed records of a sender that never arrived."""
        for sender, (first, last) in holes:
            self._telemetry.count(HOLES, last - first + 1)
            self._telemetry.log("records_missing", level="error", sender=sender, first=first, last=last)
            self._audit("records_missing", {"sender": sender, "first": first, "last": last})

    def disputes(self, disputes: Iterable[Dispute]) -> None:
        """Nodes that spoke for executions which were not given to them: one audit record a node and batch."""
        grouped: dict[NodeId, list[Dispute]] = defaultdict(list)
        for each in disputes:
            for node_id in each.nodes:
                grouped[node_id].append(each)
        for node_id, group in grouped.items():
            self._telemetry.count(DISPUTES, len(group))
            first = group[0]
            detail: Values = {
                "node_id": node_id,
                "first": first.execution_id,
                "given_to": first.given_to,
                "count": len(group),
            }
            self._telemetry.log(FOREIGN_NODE, level="error", **detail)
            self._audit(FOREIGN_NODE, detail)

    def _audit(self, kind: str, detail: Values) -> None:
        self._write(lambda: self._recorder.audit(self._outbox, kind, at_ns=self._clock.now_ns(), detail=detail))

    def _dead_letter(self, suspect: Suspect) -> None:
        self._write(
            lambda: self._recorder.dead_letter(
                self._outbox,
                suspect.record,
                reason=suspect.reason,
                message=suspect.message,
                at_ns=self._clock.now_ns(),
            )
        )

    def _write(self, write: Callable[[], None]) -> None:
        # History goes on when its alarms cannot be sent: the store and the log have them already.
        try:
            write()
        except TransientFailure as error:
            self._telemetry.log("alarm_not_sent", level="error", reason=error.reason)


class HoleWatch:
    """Which missing record numbers are worth an alarm: those that stay missing.

    Results and heartbeats of one sender share a count and travel on two topics, so a hole that closes within the grace
    is the delay of the other topic. Kept in memory: a restart waits once more and may report a hole again.
    """

    def __init__(self) -> None:
        self._holes: dict[str, dict[Hole, int | None]] = {}
        """Of each sender, since when (monotonic) each hole is there; None once it was reported."""

    def look(self, seen: Mapping[str, Ranges], now_ns: int) -> list[tuple[str, Hole]]:
        """Holes that have now been there for the grace and were not reported before. ``now_ns`` is monotonic."""
        due: list[tuple[str, Hole]] = []
        for sender, ranges in seen.items():
            known = self._holes.pop(sender, {})
            holes: dict[Hole, int | None] = {hole: known.get(hole, now_ns) for hole in ranges.holes}
            for hole, since_ns in holes.items():
                if since_ns is not None and now_ns - since_ns >= GRACE_NS:
                    due.append((sender, hole))
                    holes[hole] = None
            if holes:
                self._holes[sender] = holes
        return due


class DisputeWatch:
    """Which disputes are worth an alarm: at once where the dispatcher gave the execution to another node, and where it
    gave it to nobody, only if its record has not arrived within the grace; it travels in another partition. Kept in
    memory: a restart forgets those that wait. History shows all of them.
    """

    def __init__(self) -> None:
        self._waiting: dict[ExecutionId, tuple[int, Dispute]] = {}
        self._reported: dict[ExecutionId, Dispute] = {}

    def look(self, found: Mapping[ExecutionId, Dispute | None], now_ns: int) -> list[Dispute]:
        """Disputes to report now, each once. ``now_ns`` is monotonic."""
        due: list[Dispute] = []
        for execution_id, dispute in found.items():
            since_ns, _ = self._waiting.pop(execution_id, (now_ns, None))
            if dispute is None:
                continue
            if dispute.given_to or len(self._waiting) >= WAITING_MOST:
                due.append(dispute)
            else:
                self._waiting[execution_id] = (since_ns, dispute)
        for execution_id, (since_ns, dispute) in list(self._waiting.items()):
            if now_ns - since_ns >= GRACE_NS:
                del self._waiting[execution_id]
                due.append(dispute)
        news = [each for each in due if self._reported.get(each.execution_id) != each]
        self._reported |= {each.execution_id: each for each in news}
        while len(self._reported) > WAITING_MOST:
            del self._reported[next(iter(self._reported))]
        return news
