"""The projector's step: read a batch, fold it in one transaction with its offsets, report what was wrong with it.

Called by ``loop`` and by ``rebuild``; calls the ports. Holds no thread and never sleeps. The offsets live in the store,
in the same transaction as the rows: whatever kills this process, each record is folded exactly once.
"""

from collections.abc import Sequence
from typing import Final

from workers.domain.errors import TransientFailure
from workers.domain.log.record import Delivery, Earliest, LogPosition, Offset, Start
from workers.log.ports import LogReader
from workers.projector.alarms import Alarms, DisputeWatch, HoleWatch
from workers.projector.batch import Batch, gather
from workers.projector.batch_writer import write_batch
from workers.projector.record_reader import TOPICS, RecordReader
from workers.store.history.ports import HistoryStore
from workers.system.ports import Clock, Failpoints, Telemetry

BEFORE_COMMIT: Final = "projector.fold.before_commit"
AFTER_COMMIT: Final = "projector.fold.after_commit"
FAILPOINTS: Final = (BEFORE_COMMIT, AFTER_COMMIT)

_LOOK_EVERY_NS: Final = 60_000_000_000
"""How often to look for partitions that an operator added: a minute of new records waits in the log unharmed."""

FOLDED: Final = "history.folded"
BATCH_SECONDS: Final = "history.batch.duration"


class Projector:
    """Folds what the log holds into a history store."""

    def __init__(
        self,
        *,
        store: HistoryStore,
        reader: LogReader,
        reading: RecordReader,
        alarms: Alarms,
        clock: Clock,
        telemetry: Telemetry,
        failpoints: Failpoints,
        limit: int,
        unsigned_topics: Sequence[str] = (),
    ) -> None:
        """``limit`` is the most records of one transaction; ``unsigned_topics`` are read beside ``TOPICS``."""
        self._store = store
        self._reader = reader
        self._reading = reading
        self._alarms = alarms
        self._clock = clock
        self._telemetry = telemetry
        self._failpoints = failpoints
        self._limit = limit
        self._topics = (*TOPICS, *unsigned_topics)
        self._holes = HoleWatch()
        self._disputes = DisputeWatch()
        self._next: dict[LogPosition, int | None] = {}
        self._look_again_ns = 0
        self._unsorted: Sequence[Delivery] = ()
        self._unwritten: Batch | None = None
        """Read, but not yet in the store: the next step tries it again."""

    def start(self) -> None:
        """Begin, or begin anew from where the store stands. Raises ``TransientFailure`` when the log or the store is
        away; call again."""
        self._next.clear()
        self._assign(self._partitions())
        self._alarms.started({"partitions": len(self._next), "topics": ",".join(self._topics)})

    def _partitions(self) -> Sequence[LogPosition]:
        found = [position for topic in self._topics for position in self._reader.partitions(topic)]
        self._look_again_ns = self._clock.monotonic_ns() + _LOOK_EVERY_NS
        return found

    def _assign(self, positions: Sequence[LogPosition]) -> None:
        """Read on where the store stands; a partition it never read, from the beginning."""
        known = self._store.health().next_offsets
        found = {position: self._expected(position) for position in positions}
        for position, next_offset in found.items():
            if next_offset is None and f"{position.topic}/{position.partition}" in known:
                self._alarms.new_log(position)
        starts: dict[LogPosition, Start] = {
            position: Earliest() if next_offset is None else Offset(next_offset)
            for position, next_offset in found.items()
        }
        self._reader.assign(starts)

    def step(self, timeout_s: float) -> int:
        """Fold one batch; how many records it had. Waits up to ``timeout_s`` for the first.

        Raises:
            TransientFailure: log or store is away, or the keyset has expired. What was read is kept: call again.
            PermanentFailure: ``second_owner``, another projector writes to this store; ``history_io``.
        """
        batch = self._unwritten or self._sorted(timeout_s)
        if batch is None:
            return 0
        self._unwritten = batch
        try:
            self._commit(batch)
        except TransientFailure:
            # Nobody knows whether a commit that broke off took effect: ask the store where it stands.
            self._next.clear()
            raise
        self._unwritten = None
        return batch.size

    def _sorted(self, timeout_s: float) -> Batch | None:
        if self._clock.monotonic_ns() >= self._look_again_ns:
            self._look_for_new_partitions()
        self._unsorted = self._unsorted or self._reader.poll(timeout_s, limit=self._limit)
        if not self._unsorted:
            return None
        batch = gather(self._unsorted, self._reading)
        self._unsorted = ()
        self._alarms.suspects(batch.suspects)
        self._alarms.gaps(batch.gaps)
        return batch

    def _look_for_new_partitions(self) -> None:
        found = self._partitions()
        assigned = {(position.topic, position.partition) for position in self._next}
        # Whatever was read is in the store, so that assigning anew from there skips and repeats nothing.
        if not self._unsorted and any((each.topic, each.partition) not in assigned for each in found):
            self._assign(found)

    def _commit(self, batch: Batch) -> None:
        began_ns = self._clock.monotonic_ns()
        expected = {position: self._expected(position) for position in batch.next_offsets}
        with self._store.begin() as tx:
            findings = write_batch(tx, batch, expected=expected, now_ns=self._clock.now_ns())
            self._failpoints.reach(BEFORE_COMMIT)
        self._next |= batch.next_offsets
        self._failpoints.reach(AFTER_COMMIT)
        now_ns = self._clock.monotonic_ns()
        self._alarms.clones(findings.clones)
        self._alarms.disputes(self._disputes.look(findings.disputes, now_ns))
        self._alarms.holes(self._holes.look(findings.seen, now_ns))
        self._telemetry.count(FOLDED, batch.size - len(batch.suspects))
        self._telemetry.observe(BATCH_SECONDS, (now_ns - began_ns) / 1e9)

    def _expected(self, position: LogPosition) -> int | None:
        # A position that was not assigned is that of a log that replaced another during the reading.
        if position not in self._next:
            self._next[position] = self._store.next_offset(position)
        return self._next[position]
