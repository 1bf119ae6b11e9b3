"""Makes history anew out of the log, into a store beside the live one, and says whether the two are equal.

Called by bootstrap for ``douse history rebuild``; calls a projector on the new store. Never writes to the live store,
and never alarms anybody: what was wrong then was told then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from workers.core.ids import NO_EXECUTION, ExecutionId
from workers.core.node_state import NodeState
from workers.core.outcome import NOTHING, Values
from workers.core.record import Delivery, Gap, Headers, LogPosition, Record, Start
from workers.core.result import ActionResult
from workers.ports import Chained, HistoryStore, LogReader
from workers.projector.projector import Projector

_POLL_S: Final = 1.0

_PATIENCE: Final = 10
"""Polls in a row that bring nothing before the log is taken for read."""


class SilentScribe:
    """Implements ``Scribe`` by writing nothing."""

    def result(self, tx: Chained, result: ActionResult, *, trace: Headers = ()) -> None:
        """Nothing."""

    def audit(
        self,
        tx: Chained,
        kind: str,
        *,
        at_ns: int,
        execution_id: ExecutionId = NO_EXECUTION,
        actor: str = "",
        detail: Values = NOTHING,
        trace: Headers = (),
    ) -> None:
        """Nothing."""

    def node_state(self, tx: Chained, state: NodeState) -> None:
        """Nothing."""

    def dead_letter(self, tx: Chained, record: Record, *, reason: str, message: str, at_ns: int) -> None:
        """Nothing."""


class UpTo:
    """Implements ``LogReader`` by passing on what another reads, up to where the live store stands and no further."""

    def __init__(self, reader: LogReader, live: HistoryStore) -> None:
        """``live`` is asked once for every partition, at its first record."""
        self._reader = reader
        self._live = live
        self._ends: dict[LogPosition, int] = {}

    def partitions(self, topic: str) -> tuple[LogPosition, ...]:
        """As the port says."""
        return self._reader.partitions(topic)

    def assign(self, starts: Mapping[LogPosition, Start]) -> None:
        """As the port says."""
        self._reader.assign(starts)

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """As the port says; gaps pass."""
        found = self._reader.poll(timeout_s, limit=limit)
        return [each for each in found if isinstance(each, Gap) or each.offset < self._end(each.position)]

    def close(self) -> None:
        """As the port says."""
        self._reader.close()

    def _end(self, position: LogPosition) -> int:
        if position not in self._ends:
            self._ends[position] = self._live.next_offset(position) or 0
        return self._ends[position]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it."""

    records: int
    behind: Mapping[str, int]
    """``topic/partition`` to the records that the live store has folded and the log did not give."""
    digest: str
    live_digest: str

    @property
    def equal(self) -> bool:
        """Whether the new store holds exactly what the live one does."""
        return self.digest == self.live_digest


def rebuild(
    projector: Projector,
    fresh: HistoryStore,
    live: HistoryStore,
    *,
    progress: Callable[[int], None] = lambda records: None,
) -> Rebuilt:
    """Fold the log into ``fresh``, which ``projector`` writes to, until it has come as far as ``live`` is.

    ``projector`` reads through ``UpTo``. Stop the live one first, or its store moves on meanwhile. What is older than
    the log's retention is in neither place: then ``behind`` stays empty and ``equal`` is false.

    Raises:
        TransientFailure: the log or a store is away.
    """
    projector.start()
    records, idle = 0, 0
    while (behind := _behind(fresh, live)) and idle < _PATIENCE:
        taken = projector.step(_POLL_S)
        records += taken
        idle = 0 if taken else idle + 1
        progress(records)
    return Rebuilt(records, behind, fresh.digest(), live.digest())


def _behind(fresh: HistoryStore, live: HistoryStore) -> Mapping[str, int]:
    have = fresh.health().next_offsets
    missing = {place: upto - have.get(place, 0) for place, upto in live.health().next_offsets.items()}
    return {place: count for place, count in missing.items() if count > 0}
