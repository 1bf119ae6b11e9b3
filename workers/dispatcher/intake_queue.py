"""Deliveries that were read and not taken in yet, in the order of intake: people's requests before those of rules.

Kept by ``loop``. A storm of detections makes thousands of requests at once; people's requests, results and heartbeats
must not wait behind all of them. Within a topic nothing overtakes anything, so an offset still means that everything
before it was taken in. Pure.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from workers.domain.log import topics
from workers.domain.log.record import Delivery

AT_ONCE: Final = 100
"""Deliveries to a commit: some 0.1 s of work, which is how long a person's request waits at most; the fsync of a commit
costs each of them next to nothing."""

MOST: Final = 20_000
"""Held at most, some 20 MB. Anything more waits at the broker, in one line."""


class IntakeQueue:
    """Two queues; the second moves only when the first is empty."""

    def __init__(self) -> None:
        """Empty."""
        self._first: deque[Delivery] = deque()
        self._rules: deque[Delivery] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._first) + len(self._rules)

    @property
    def capacity(self) -> int:
        """How many more may come."""
        return max(0, MOST - len(self))

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Deliveries that were just read."""
        for delivery in deliveries:
            queue = self._rules if delivery.position.topic == topics.REQUESTS_RULES else self._first
            queue.append(delivery)

    def next(self) -> Sequence[Delivery]:
        """What to take in now; it stays here until ``taken``."""
        found = list(islice(self._first, AT_ONCE))
        return found + list(islice(self._rules, AT_ONCE - len(found)))

    def taken(self, deliveries: Sequence[Delivery]) -> None:
        """What ``next`` returned is durable."""
        for delivery in deliveries:
            queue = self._rules if delivery.position.topic == topics.REQUESTS_RULES else self._first
            queue.popleft()

    def clear(self) -> None:
        """Drop everything; all of it will be read again."""
        self._first.clear()
        self._rules.clear()
