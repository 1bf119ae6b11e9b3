"""``Relay``: moves an outbox to the log, at least once and in order.

Made by ``wiring``; called by a worker's loop, from one thread; calls an ``Outbox`` and a ``LogWriter``. Rows leave
the outbox only when the log acknowledged them. Must never skip a row silently, nor let one hold up the others for ever.
"""

from collections.abc import Callable, Sequence
from typing import Final

from workers.domain.errors import MalformedMessage, TransientFailure
from workers.log.ports import Ack, LogWriter, Outbox, OutboxRow
from workers.system.ports import Clock, Failpoints, Telemetry

FAILPOINTS: Final = ("relay.sent", "relay.before_acknowledge")

REFUSALS: Final = frozenset({"oversize", "invalid_record"})
"""Errors that no second attempt changes: the log will never take this record."""

_WINDOW: Final = 1_000
"""Rows under way at once: enough to fill batches, few enough to send again without harm."""

_COUNTED: Final = 100_000
"""How far ``drain`` counts what is left."""

_PAUSE_NS: Final = 500_000_000
"""Between two attempts at a record that the log did not take, for example because its topic does not exist."""


class OutboxRelay:
    """Sends an outbox's rows in order, a bounded window of them unacknowledged.

    When the log did not take a record, nothing more is sent until all that is under way is decided and a pause is over;
    then everything from that record on is sent again. A record it will never take (``REFUSALS``) is passed to
    ``refused``, whose job is to leave an audit record; then it is acknowledged, so that it blocks no other record.
    Without ``refused`` such a row is set aside: it stays in the outbox, is logged, and is tried again after a restart.
    """

    def __init__(
        self,
        outbox: Outbox,
        writer: LogWriter,
        *,
        failpoints: Failpoints,
        telemetry: Telemetry,
        clock: Clock,
        refused: Callable[[OutboxRow, str], None] | None = None,
        window: int = _WINDOW,
    ) -> None:
        self._outbox = outbox
        self._writer = writer
        self._failpoints = failpoints
        self._telemetry = telemetry
        self._clock = clock
        self._refused = refused
        self._window = window
        self._under_way: dict[int, OutboxRow] = {}
        self._sent_up_to = 0
        self._again_from: int | None = None
        """The first row that failed; nothing new is sent until every other is decided."""
        self._pause_until_ns = 0
        self._done: list[int] = []
        self._hopeless: dict[int, tuple[OutboxRow, str]] = {}
        self._aside: set[int] = set()

    def step(self, timeout_s: float = 0.0) -> int:
        """Send what waits, take in what was acknowledged; how many rows left the outbox.

        Waits only when something is under way, so that a row written meanwhile never waits for it: when this returns 0
        at once, the caller sleeps until there is work.
        """
        self._take_in(self._writer.acks())
        self._send()
        moved = self._remove_decided()
        if not moved and self._under_way:
            self._take_in(self._writer.acks(timeout_s))
            moved = self._remove_decided()
        return moved

    def drain(self, timeout_s: float) -> int:
        """Step until the outbox is empty or the time is over; how many rows are left, those set aside included."""
        until = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while (remaining := until - self._clock.monotonic_ns()) > 0:
            if self.step(min(remaining / 1e9, 0.1)) or self._under_way:
                continue
            if self._left() <= len(self._aside):
                break
            self._clock.sleep(min(remaining / 1e9, 0.01))
        return self._left()

    def _left(self) -> int:
        return len(self._outbox.outbox(limit=_COUNTED))

    def _send(self) -> None:
        if self._again_from is not None and not self._go_back():
            return
        free = self._window - len(self._under_way)
        rows = self._outbox.outbox(after=self._sent_up_to, limit=free) if free > 0 else ()
        for row in rows:
            skipped = row.row_id in self._aside or row.row_id in self._hopeless
            if not skipped and not self._send_one(row):
                break
            self._sent_up_to = row.row_id
        if rows:
            self._failpoints.reach("relay.sent")

    def _go_back(self) -> bool:
        """Begin again at the first row that failed, once nothing is under way and the pause is over."""
        if self._under_way or self._clock.monotonic_ns() < self._pause_until_ns or self._again_from is None:
            return False
        self._sent_up_to = self._again_from - 1
        self._again_from = None
        return True

    def _send_one(self, row: OutboxRow) -> bool:
        try:
            self._writer.send(row.record, token=row.row_id)
        except TransientFailure:
            return False
        except MalformedMessage as error:
            self._hopeless[row.row_id] = (row, error.reason)
        else:
            self._under_way[row.row_id] = row
        return True

    def _take_in(self, acks: Sequence[Ack]) -> None:
        for ack in acks:
            row = self._under_way.pop(ack.token, None)
            if row is None:
                continue
            if ack.ok:
                self._done.append(ack.token)
            elif ack.error in REFUSALS:
                self._hopeless[row.row_id] = (row, ack.error)
            else:
                self._failed(row, ack.error)

    def _remove_decided(self) -> int:
        """Remove from the outbox what is decided; the next call finishes what an exception interrupts."""
        moved = len(self._done)
        if self._done:
            self._failpoints.reach("relay.before_acknowledge")
            self._outbox.acknowledge(self._done)
            self._done = []
        for row, reason in list(self._hopeless.values()):
            moved += self._refuse(row, reason)
            del self._hopeless[row.row_id]
        return moved

    def _failed(self, row: OutboxRow, error: str) -> None:
        self._again_from = row.row_id if self._again_from is None else min(self._again_from, row.row_id)
        self._pause_until_ns = self._clock.monotonic_ns() + _PAUSE_NS
        self._telemetry.log("relay_failed", level="warning", topic=row.record.topic, row=row.row_id, error=error)

    def _refuse(self, row: OutboxRow, reason: str) -> int:
        self._telemetry.log("relay_refused", level="error", topic=row.record.topic, row=row.row_id, error=reason)
        if self._refused is None:
            self._aside.add(row.row_id)
            return 0
        self._refused(row, reason)
        self._outbox.acknowledge((row.row_id,))
        return 1
