"""Which command runs next: two lanes, each with its own queue, its own keys and its own bound. Pure scheduling state.

Filled by ``executor``, emptied by the lane threads of ``loop``, which supplies lock, time and waiting. Containment and
gathering share nothing here: a kill cannot wait behind a copy because no queue holds both. Within a lane the smallest
rank goes first, then the oldest; two commands with one key never run at the same time. Next: ``runner``.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from workers.actions.base import Lane
from workers.domain.ids import ExecutionId

THREADS: Final = {Lane.CONTAINMENT: 8, Lane.GATHERING: 2}
"""Of containment enough that one hung runtime call leaves seven threads; of gathering few, because it eats disk and
network."""

DRY_RUN_RANK: Final = 2
"""The rank of what touches nothing; people have 0, rules 1."""

DRY_RUN_THREADS: Final = 2
"""Threads of a lane that run dry runs at the same time: a flood of them must leave threads and the interpreter free."""


ALONE_NS: Final = 20_000_000_000
"""How long one that runs alone is waited for before the next of them starts: many times what containment takes, and
enough for the copy of a large file, so that a bystander gets done before what ends the worker has its turn."""

HELD_NS: Final = 5_000_000_000
"""How long in all a start holds new commands back for those that run alone. A new kill waits no longer than this for
what may have ended the worker before; one in gathering holds back none."""


@dataclass(frozen=True, slots=True)
class Task:
    """One command in a lane: its journal entry is to be worked on."""

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
    alone: bool = False
    """It was at work when the process before died: nothing else runs beside it, for a while."""
    fresh: bool = False
    """Claimed at intake by this very process and not begun: the one CLAIMED entry that needs no probe."""


@dataclass(slots=True)
class _Queue:
    """One lane. ``ready`` may name a key twice or in vain; ``take`` skips those."""

    waiting: dict[str, list[tuple[int, int, Task]]] = field(default_factory=dict)
    ready: list[tuple[int, int, str]] = field(default_factory=list)
    later: list[tuple[int, int, Task]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    dry_runs: int = 0
    ranks: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class _Suspects:
    """What runs alone after a crash: containment first, then gathering, each in the order it was pushed."""

    waiting: dict[Lane, deque[Task]] = field(default_factory=lambda: {lane: deque() for lane in Lane})
    running: Task | None = None
    until_ns: int = 0
    """When ``running`` is not waited for any more."""
    held_until_ns: int = 0
    """When nothing is held back any more; 0 before the first look."""

    @property
    def next_lane(self) -> Lane | None:
        """The lane of the next one."""
        return next((lane for lane in (Lane.CONTAINMENT, Lane.GATHERING) if self.waiting[lane]), None)

    def hold(self, lane: Lane, now_ns: int) -> bool:
        """Whether the other commands of a lane wait now. Containment never waits for gathering."""
        left = {task.lane for task in (self.running,) if task is not None} | {n for n in Lane if self.waiting[n]}
        if now_ns >= self.held_until_ns:
            return False
        return bool(left) if lane is Lane.GATHERING else Lane.CONTAINMENT in left


class Lanes:
    """Safe for several threads when ``lock`` is one that a thread may take twice."""

    def __init__(
        self,
        queue_length: int,
        *,
        lock: AbstractContextManager[object] | None = None,
        wake: Callable[[Lane], None] = lambda lane: None,
    ) -> None:
        """``queue_length`` bounds each lane; ``wake`` is called, under the lock, when something may be taken."""
        self._bound = queue_length
        self._lock = lock if lock is not None else nullcontext()
        self._wake = wake
        self._queues = {lane: _Queue() for lane in Lane}
        self._suspects: _Suspects | None = None
        self._number = 0

    def push(self, tasks: Iterable[Task]) -> None:
        """Queue them; one that is due later is set aside until then."""
        with self._lock:
            for task in tasks:
                queue = self._queues[task.lane]
                queue.ranks[task.rank] += 1
                self._number += 1
                if task.alone:
                    self._suspects = self._suspects or _Suspects()
                    self._suspects.waiting[task.lane].append(task)
                elif task.due_ns:
                    heapq.heappush(queue.later, (task.due_ns, self._number, task))
                else:
                    self._line_up(queue, task, self._number)
                self._wake(task.lane)

    def full(self, lane: Lane, rank: int, *, coming: int = 0) -> bool:
        """Whether a newcomer of this rank finds its lane full, ``coming`` others being on their way.

        Only those it would have to wait behind count, so no flood of rules or dry runs can shut a person out.
        """
        with self._lock:
            ranks = self._queues[lane].ranks
            return sum(count for other, count in ranks.items() if other <= rank) + coming >= self._bound

    def idle(self, lane: Lane) -> bool:
        """Whether nothing waits and nothing runs there."""
        with self._lock:
            queue = self._queues[lane]
            return not queue.busy and not queue.waiting and self._suspects is None

    def take(self, lane: Lane, now_ns: int) -> Task | None:
        """The next one to run, its key held until ``done``; None when nothing may run at this moment.

        Called with the lock held, as ``more`` and ``next_due_ns``: ``LaneSignals.next`` needs all three at once.
        """
        queue = self._queues[lane]
        if self._suspects is not None:
            suspects = self._suspects
            task = self._take_alone(suspects, lane, now_ns)
            if task is not None or suspects.hold(lane, now_ns):
                return task
        while queue.later and queue.later[0][0] <= now_ns:
            _, number, task = heapq.heappop(queue.later)
            self._line_up(queue, task, number)
        while queue.ready:
            _, _, key = heapq.heappop(queue.ready)
            line = queue.waiting.get(key)
            if key in queue.busy or not line:
                continue
            if line[0][2].rank == DRY_RUN_RANK and queue.dry_runs >= DRY_RUN_THREADS:
                heapq.heappush(queue.ready, (*line[0][:2], key))
                return None  # nothing but dry runs is left: the smallest rank comes first
            _, _, task = heapq.heappop(line)
            queue.dry_runs += task.rank == DRY_RUN_RANK
            if not line:
                del queue.waiting[key]
            queue.busy.add(key)
            queue.ranks[task.rank] -= 1
            return task
        return None

    def more(self, lane: Lane) -> bool:
        """Whether another thread might find something, now or when it falls due."""
        queue = self._queues[lane]
        if self._suspects is not None and self._suspects.waiting[lane]:
            return True
        if queue.ready and (queue.ready[0][0] != DRY_RUN_RANK or queue.dry_runs < DRY_RUN_THREADS):
            return True
        return bool(queue.later)

    def done(self, task: Task, again: Task | None = None) -> None:
        """Let go of the key; ``again`` is the same command's next turn."""
        with self._lock:
            queue = self._queues[task.lane]
            queue.busy.discard(task.key)
            if self._suspects is not None and self._suspects.running == task:
                self._suspects.running = None
                for each in Lane:
                    self._wake(each)
            queue.dry_runs -= task.rank == DRY_RUN_RANK
            line = queue.waiting.get(task.key)
            if line:
                heapq.heappush(queue.ready, (line[0][0], line[0][1], task.key))
            if again is not None:
                self.push([again])

    def next_due_ns(self, lane: Lane) -> int | None:
        """When the earliest of those set aside is due, by the monotonic clock."""
        later = self._queues[lane].later
        due = [later[0][0]] if later else []
        if self._suspects is not None and self._suspects.running is not None:
            due.append(self._suspects.until_ns)
        return min(due, default=None)

    @property
    def queued(self) -> int:
        """How many wait, in both lanes."""
        with self._lock:
            return sum(sum(queue.ranks.values()) for queue in self._queues.values())

    @property
    def running(self) -> int:
        """How many run, in both lanes."""
        with self._lock:
            return sum(len(queue.busy) for queue in self._queues.values())

    def _take_alone(self, suspects: _Suspects, lane: Lane, now_ns: int) -> Task | None:
        """The next of those that run alone, if it is the turn of this lane and none is waited for."""
        suspects.held_until_ns = suspects.held_until_ns or now_ns + HELD_NS
        if suspects.running is not None and now_ns >= suspects.until_ns:
            suspects.running = None
        if suspects.running is not None:
            return None
        if suspects.next_lane is None:
            self._suspects = None
            return None
        if suspects.next_lane is not lane:
            return None
        queue, task = self._queues[lane], suspects.waiting[lane].popleft()
        if task.key in queue.busy:  # one that is not waited for any more has the same target
            self._number += 1
            self._line_up(queue, task, self._number)
            return None
        queue.busy.add(task.key)
        queue.ranks[task.rank] -= 1
        suspects.running, suspects.until_ns = task, now_ns + ALONE_NS
        return task

    def _line_up(self, queue: _Queue, task: Task, number: int) -> None:
        heapq.heappush(queue.waiting.setdefault(task.key, []), (task.rank, number, task))
        heapq.heappush(queue.ready, (task.rank, number, task.key))
