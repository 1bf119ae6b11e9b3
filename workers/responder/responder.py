"""One round of the responder: read events, have them decided, commit once the log has everything.

Called by ``responder.loop``; calls ``responder.decider`` and the relay of an in-memory outbox. Keeps nothing: a crash
at any point reads the same events again and requests the very same executions.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from workers.domain.log.record import Delivery, Since
from workers.domain.log.topics import RUNTIME_EVENTS
from workers.log.ports import GroupReader, Outgoing, Relay
from workers.responder.decider import Decider
from workers.system.ports import Clock, Failpoints

FAILPOINTS: Final = ("responder.decided", "responder.before_commit", "responder.after_commit")

HELD_UP: Final = -1
"""What ``step`` returns while the log does not accept what is queued: pause, then call again."""

_COMMIT_EVERY_NS: Final = 1_000_000_000
"""A commit waits for the broker; what is read again after a crash requests the same ids, so once a second is enough."""

_SECOND_NS: Final = 1_000_000_000


class Responder:
    """Step functions over ports; called from one thread."""

    def __init__(
        self,
        *,
        decider: Decider,
        oldest_event_s: int,
        unsigned_topics: Sequence[str],
        reader: GroupReader,
        outgoing: Outgoing,
        relay: Relay,
        clock: Clock,
        failpoints: Failpoints,
    ) -> None:
        """``oldest_event_s``: a group that never read begins this long ago. ``unsigned_topics`` are read beside
        ``runtime.events``: whoever may write to them is believed."""
        self._decider = decider
        self._oldest_event_s = oldest_event_s
        self._sources = (RUNTIME_EVENTS, *unsigned_topics)
        self._reader = reader
        self._outgoing = outgoing
        self._relay = relay
        self._clock = clock
        self._failpoints = failpoints
        self._read: deque[Delivery] = deque()
        """Polled and not decided yet: only a full outbox leaves any behind."""
        self._uncommitted = False
        self._committed_at_ns = 0

    def start(self) -> None:
        """Join the group and record it in the audit."""
        oldest_ns = self._clock.now_ns() - self._oldest_event_s * _SECOND_NS
        self._reader.subscribe(self._sources, fresh=Since(oldest_ns))
        self._decider.write_started(self._sources)

    def step(self, timeout_s: float) -> int:
        """One round; how many deliveries it decided, or ``HELD_UP``. Nothing more is read while anything waits.

        Raises:
            TransientFailure: the log is unreachable; call again.
        """
        if not self._sent(timeout_s):
            return HELD_UP
        if not self._read:
            self._commit_when_due()
            self._read.extend(self._reader.poll(timeout_s))
        decided = self._decide()
        self._relay.step()
        return decided

    def drain(self, timeout_s: float) -> None:
        """Send what is queued and commit it, if that works within the time."""
        if self._relay.drain(timeout_s) == 0 and not self._read:
            self._commit()

    def _sent(self, timeout_s: float) -> bool:
        while self._outgoing.outbox(limit=1):
            if not self._relay.step(timeout_s):
                return False
        return True

    def _decide(self) -> int:
        decided = 0
        while self._read:
            self._uncommitted = True
            self._decider.decide(self._read[0])
            self._read.popleft()
            decided += 1
        if decided:
            self._failpoints.reach("responder.decided")
        return decided

    def _commit_when_due(self) -> None:
        if self._clock.monotonic_ns() - self._committed_at_ns >= _COMMIT_EVERY_NS:
            self._commit()

    def _commit(self) -> None:
        if not self._uncommitted:
            return
        self._failpoints.reach("responder.before_commit")
        self._reader.commit()
        self._failpoints.reach("responder.after_commit")
        self._uncommitted = False
        self._committed_at_ns = self._clock.monotonic_ns()
