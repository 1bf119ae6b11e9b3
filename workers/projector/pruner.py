"""Retention: a pass every ten minutes, in small steps between the batches of the fold; reported when it removed rows.

Called by ``loop``; calls the store, which decides what may go (``store.history.retention``). The cutoffs come from the
earlier of two clocks: a projector whose own clock runs ahead must not remove what is young.
"""

from typing import Final

from workers.domain.history.retention import Cutoffs, Forgotten, Retention
from workers.projector.alarms import Alarms
from workers.store.history.ports import HistoryStore
from workers.system.ports import Clock, Failpoints, Telemetry

BEFORE_FORGETTING: Final = "projector.forget.before_commit"
AFTER_FORGETTING: Final = "projector.forget.after_commit"

FORGOTTEN: Final = "history.forgotten"

EVERY_NS: Final = 600_000_000_000

BATCH: Final = 1000
"""Rows of each kind in one transaction: the fold waits for it no longer than for one of its own."""


class Pruner:
    """Removes what is older than its retention."""

    def __init__(
        self,
        *,
        store: HistoryStore,
        retention: Retention,
        alarms: Alarms,
        clock: Clock,
        telemetry: Telemetry,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._retention = retention
        self._alarms = alarms
        self._clock = clock
        self._telemetry = telemetry
        self._failpoints = failpoints
        self._due_ns = 0
        self._pass: Cutoffs | None = None
        self._taken = Forgotten()

    def step(self) -> int:
        """One transaction, if a pass is due or under way; how many rows went.

        Raises:
            TransientFailure, PermanentFailure: as ``HistoryStore.begin``; nothing of the step happened, call again.
        """
        if self._pass is None:
            if self._clock.monotonic_ns() < self._due_ns:
                return 0
            self._pass = self._retention.cutoffs(self._now_ns())
        with self._store.begin() as tx:
            gone = tx.forget(self._pass, limit=BATCH)
            self._failpoints.reach(BEFORE_FORGETTING)
        self._failpoints.reach(AFTER_FORGETTING)
        self._taken += gone
        if not gone.total:
            self._end(self._pass)
        return gone.total

    def _now_ns(self) -> int:
        now_ns, last_heartbeat_ns = self._clock.now_ns(), self._store.health().last_heartbeat_ns
        return min(now_ns, last_heartbeat_ns) if last_heartbeat_ns else now_ns

    def _end(self, cutoffs: Cutoffs) -> None:
        if self._taken.total:
            counts = {
                "events": self._taken.events,
                "executions": self._taken.executions,
                "audit": self._taken.audit,
                "nodes": self._taken.nodes,
            }
            for kind, count in counts.items():
                self._telemetry.count(FORGOTTEN, count, labels={"kind": kind})
            self._alarms.forgotten(counts, cutoffs)
        self._pass, self._taken = None, Forgotten()
        self._due_ns = self._clock.monotonic_ns() + EVERY_NS
