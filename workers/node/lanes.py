"""Who is next: two lanes, each with its own queue, its own keys and its own bound. Pure scheduling state.

Filled by the executor, emptied by the lane threads of ``loop`` (which brings the lock and the time). Containment and
gathering share nothing here: a kill cannot wait behind a copy because there is no line that both stand in. Within a
lane the smallest rank goes first, then the oldest; two tickets with one key never run side by side.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from workers.actions.base import Lane
from workers.domain.ids import ExecutionId

THREADS: Final = {Lane.CONTAINMENT: 8, Lane.GATHERING: 2}
"""Of containment enough that one hung runtime call leaves seven hands; of gathering few, because it eats disk and
network."""

REHEARSAL: Final = 2
"""The rank of what touches nothing; people have 0, rules 1."""

REHEARSING: Final = 2
"""Hands that a lane lends to rehearsals at once: a flood of them must leave hands, and the interpreter, to the rest."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One command's place in the queues: a promise to look at its journal entry."""

    execution_id: ExecutionId
    lane: Lane
    key: str
    rank: int = 1
    due_ns: int = 0
    """Not before this moment of the monotonic clock."""
    probes: int = 0
    """How often its unknown outcome was looked into."""
    alarmed: bool = False
    """Whether its staying unknown was raised as an alarm."""
    fresh: bool = False
    """Claimed at intake by this very process and not begun: the one CLAIMED entry that needs no probe."""


@dataclass(slots=True)
class _Queue:
    """One lane. ``ready`` may name a key twice or in vain; ``take`` skips those."""

    waiting: dict[str, list[tuple[int, int, Ticket]]] = field(default_factory=dict)
    ready: list[tuple[int, int, str]] = field(default_factory=list)
    later: list[tuple[int, int, Ticket]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    rehearsing: int = 0
    ranks: Counter[int] = field(default_factory=Counter)


class Lanes:
    """Not for several threads at once: the loop holds its lock around every call."""

    def __init__(self, queue_length: int) -> None:
        """``queue_length`` bounds each lane."""
        self._bound = queue_length
        self._queues = {lane: _Queue() for lane in Lane}
        self._number = 0

    def push(self, tickets: Iterable[Ticket]) -> None:
        """Queue them; one that is due later is set aside until then."""
        for ticket in tickets:
            queue = self._queues[ticket.lane]
            queue.ranks[ticket.rank] += 1
            self._number += 1
            if ticket.due_ns:
                heapq.heappush(queue.later, (ticket.due_ns, self._number, ticket))
            else:
                self._line_up(queue, ticket, self._number)

    def full(self, lane: Lane, rank: int, *, coming: int = 0) -> bool:
        """Whether a newcomer of this rank finds its lane full, ``coming`` others being on their way.

        Only those it would have to wait behind count, so no flood of rules or rehearsals can shut a person out.
        """
        ranks = self._queues[lane].ranks
        return sum(count for other, count in ranks.items() if other <= rank) + coming >= self._bound

    def idle(self, lane: Lane) -> bool:
        """Whether nothing waits and nothing runs there."""
        queue = self._queues[lane]
        return not queue.busy and not queue.waiting

    def take(self, lane: Lane, now_ns: int) -> Ticket | None:
        """The next one to run, its key held until ``done``; None when nothing may run at this moment."""
        queue = self._queues[lane]
        while queue.later and queue.later[0][0] <= now_ns:
            _, number, ticket = heapq.heappop(queue.later)
            self._line_up(queue, ticket, number)
        while queue.ready:
            _, _, key = heapq.heappop(queue.ready)
            line = queue.waiting.get(key)
            if key in queue.busy or not line:
                continue
            if line[0][2].rank == REHEARSAL and queue.rehearsing >= REHEARSING:
                heapq.heappush(queue.ready, (*line[0][:2], key))
                return None  # nothing but rehearsals is left: the smallest rank comes first
            _, _, ticket = heapq.heappop(line)
            queue.rehearsing += ticket.rank == REHEARSAL
            if not line:
                del queue.waiting[key]
            queue.busy.add(key)
            queue.ranks[ticket.rank] -= 1
            return ticket
        return None

    def more(self, lane: Lane) -> bool:
        """Whether another hand might find something, now or when it falls due."""
        queue = self._queues[lane]
        if queue.ready and (queue.ready[0][0] != REHEARSAL or queue.rehearsing < REHEARSING):
            return True
        return bool(queue.later)

    def done(self, ticket: Ticket, again: Ticket | None = None) -> None:
        """Let go of the key; ``again`` is the same command's next turn."""
        queue = self._queues[ticket.lane]
        queue.busy.discard(ticket.key)
        queue.rehearsing -= ticket.rank == REHEARSAL
        line = queue.waiting.get(ticket.key)
        if line:
            heapq.heappush(queue.ready, (line[0][0], line[0][1], ticket.key))
        if again is not None:
            self.push([again])

    def next_due_ns(self, lane: Lane) -> int | None:
        """When the earliest of those set aside is due, by the monotonic clock."""
        later = self._queues[lane].later
        return later[0][0] if later else None

    @property
    def queued(self) -> int:
        """How many wait, in both lanes."""
        return sum(sum(queue.ranks.values()) for queue in self._queues.values())

    @property
    def running(self) -> int:
        """How many run, in both lanes."""
        return sum(len(queue.busy) for queue in self._queues.values())

    def _line_up(self, queue: _Queue, ticket: Ticket, number: int) -> None:
        heapq.heappush(queue.waiting.setdefault(ticket.key, []), (ticket.rank, number, ticket))
        heapq.heappush(queue.ready, (ticket.rank, number, ticket.key))
