"""A process and all its descendants, brought to rest, held, and then killed: the doing behind ``tree``.

Called by ``kill_process`` after its claim; calls ``kinship``; knows core and ports only. Who forks while it is looked
for must be stopped before it is counted: the root is stopped first, then each child that is found, until a look at all
of them finds nobody new. What is stopped cannot fork, so that set is whole.

**Stopping is an effect**: who is stopped misses what it was there for, and if this worker died now it would be stopped
for ever. So nobody is stopped before the claim is durable; whoever this worker stopped is killed or let go on; and
after a crash the next attempt goes on from where this one was. For that the root dies last: as long as it is there the
rest hangs together under it (children die before their parents, so that nobody is handed to init), and is found again.
"""

import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from workers.actions.base.descendants import TreeClaim, children_of
from workers.actions.base.find_process import guard_of
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.targets.halting import Halt, ThreadFacts, all_stopped, halt_of
from workers.domain.targets.process import ProcessFacts
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess

MOST_HELD: Final = 2048
"""Processes that are held at once, each a descriptor and 1 KiB; of a larger tree as many at a time."""

_ROOM: Final = 16
"""Descriptors that looking takes, and other threads meanwhile."""

PROMPT_S: Final = 0.02
ROUNDS: Final = 10
"""How long one process may take to stop, and how often it is told again, and each of its threads by itself: one that
executes another program just then may lose a stop. What has not arrived by then is let go on by somebody, or its tracer
keeps the stop from it; it is killed all the same."""

REST_S: Final = 10.0
"""How long one round may take to bring everybody to rest: 2,048 processes take two."""


@dataclass(slots=True)
class Member:
    """One process of the set."""

    pid: int
    parent: int
    """The pid of its parent, as it was found."""
    name: str
    """Empty until it was judged."""
    handle: HeldProcess
    named: bool
    """The claim names it."""
    ours: bool
    """It runs unless we stopped it: to be let go on if nobody is killed."""
    denied: str = ""
    """Why it cannot be signalled."""
    finished: bool = False
    """All its children are in the set."""
    rested: bool = False
    """It was waited for."""


@dataclass(slots=True)
class Fate:
    """What became of a tree."""

    killed: list[str] = field(default_factory=list)
    """Pid and name of everybody who has ended."""
    left: list[str] = field(default_factory=list)
    """The same of everybody who has not."""
    why: str = ""
    """Why not, of the first."""
    pending: bool = False
    """All who are left only have to wake to die, and a later look at what the claim names tells whether they have."""
    protected: str = ""
    """Who of them must not be killed, and why: then nobody of this round was."""
    whole: bool = True
    """Nobody can have escaped."""
    denied: PermanentFailure | None = None


class Tree:
    """One run over one tree."""

    def __init__(self, claim: TreeClaim, root: HeldProcess | None, host: Host, *, begun: bool, most: int) -> None:
        """``root`` is held, by the caller; None where it has ended and only those whom the claim names may be left.
        ``begun``: an earlier attempt has stopped some of them."""
        self._claim = claim
        self._root = root
        self._host = host
        self._begun = begun
        self._most = most
        self._guard: Callable[[ProcessFacts], str | None] = guard_of(host)
        self._own_line = frozenset(host.processes.own_line())
        self._members: dict[int, Member] = {}
        self._given_up: set[int] = set()
        """Who got SIGKILL, or could not be sent it, in an earlier round and is still there."""
        self._fate = Fate()

    def kill(self, *, deadline_ns: int, wait_s: float) -> Fate:
        """Bring to rest, look who it is, kill. Blocks. What was stopped and not killed goes on again.

        Raises:
            PermanentFailure, TransientFailure: as ``HeldProcess``.
        """
        try:
            self._kill(deadline_ns, wait_s)
        except Exception:
            self._let_go()
            raise
        self._let_go()
        return self._fate

    def _kill(self, deadline_ns: int, wait_s: float) -> None:
        """In rounds, where the tree is larger than what is held at once; the root is in the last one."""
        self._begin()
        while not self._gather(deadline_ns):
            if self._fate.protected:
                return
            some = self._closed()
            if not some:  # whoever is killed before all its children are known leaves them to init
                some = [each for each in self._members.values() if each.pid != self._claim.pid]
                self._fate.whole = False
            if not some or self._host.clock.now_ns() >= deadline_ns:
                self._fate.whole = False
                break
            self._end(some, wait_s)
        self._host.failpoints.reach("kill_process.at_rest")
        self._end(list(self._members.values()), wait_s)

    # --- bringing to rest -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Stop the root, and whom the claim names: they may have lost their parents since."""
        if self._root is not None:
            pid, name = self._claim.pid, self._claim.name or "?"
            self._stop(Member(pid, 0, name, self._root, named=True, ours=not self._claim.stopped_before))
            self._host.failpoints.reach("kill_process.stopped")
        for one in self._claim.named().values():
            try:
                handle = self._host.processes.reopen(one.pid, one.identity)
            except TransientFailure:
                self._check_capacity()
                return
            if handle is not None:
                ours = not one.stopped_before
                self._stop(Member(one.pid, one.parent, "", handle, named=True, ours=ours))

    def _gather(self, deadline_ns: int) -> bool:
        """Everybody, stopped; False when the set is not whole for want of time or room, or one must not be touched."""
        until_ns = min(deadline_ns, self._host.clock.now_ns() + round(REST_S * 1e9))
        whole = False
        while not whole and not self._fate.protected and self._host.clock.now_ns() < until_ns:
            self._flood(until_ns)
            for member in self._members.values():
                if self._host.clock.now_ns() < until_ns:
                    self._await_rest(member)
            known = len(self._members)
            for member in list(self._members.values()):
                before = len(self._members)
                self._adopt(member)
                member.rested = member.rested and len(self._members) == before  # or somebody let it go on meanwhile
            whole = len(self._members) == known
            if whole and not all(each.finished for each in self._members.values()):
                break  # no room
        self._judge()
        return whole and not self._fate.protected and all(each.finished for each in self._members.values())

    def _flood(self, until_ns: int) -> None:
        """Stop whoever can be found, without waiting for anybody to arrive: who is told to stop forks no more soon."""
        waiting = deque(self._members.values())
        while waiting and not self._fate.protected and self._host.clock.now_ns() < until_ns:
            waiting.extend(self._adopt(waiting.popleft()))

    def _adopt(self, parent: Member) -> list[Member]:
        """Stop the children that are not known yet; all of them, unless one is of our own or there is no room."""
        found: list[Member] = []
        if parent.pid not in self._members:  # let go again for want of room
            return found
        parent.finished = False
        try:
            for pid, child in children_of(parent.pid, parent.handle, self._host):
                if pid in self._members or pid in self._given_up:
                    child.close()
                    continue
                if pid in self._own_line:  # to stop oneself is to stay so
                    self._fate.protected = f"process {pid}: it is this worker, one of its ancestors, or one beside it"
                if pid in self._own_line or len(self._members) >= self._most:
                    child.close()
                    return found
                ours = self._begun or not all_stopped(child.threads() or ())
                found.append(self._stop(Member(pid, parent.pid, "", child, named=False, ours=ours)))
        except TransientFailure:
            self._check_capacity()
            return [each for each in found if each.pid in self._members]
        parent.finished = True
        return found

    def _check_capacity(self) -> None:
        """No descriptors are left, not even to look with: the last that were found go on, until a later round."""
        for member in list(self._members.values())[-_ROOM:]:
            if member.pid == self._claim.pid:
                continue
            self._release(member)
            del self._members[member.pid]
            if member.parent in self._members:
                self._members[member.parent].finished = False
        self._most = len(self._members)

    def _judge(self) -> None:
        """Who they are, now that it is quiet; but for the root, which was judged before the claim."""
        for member in self._members.values():
            facts = member.handle.refresh() if not member.name else None
            if facts is None:
                continue
            member.name = facts.name or "?"
            reason = self._guard(facts)
            if reason is not None and not self._fate.protected:
                self._fate.protected = f"process {member.pid}: {reason}"

    def _closed(self) -> list[Member]:
        """All descendants under whom nobody can be that is not held."""
        open_pids: set[int] = set()
        closed = []
        for member in reversed(self._members.values()):  # children come after their parents
            if member.finished and member.rested and member.pid not in {*open_pids, self._claim.pid}:
                closed.append(member)
            else:
                open_pids.add(member.parent)
        return closed[::-1]

    def _stop(self, member: Member) -> Member:
        self._members[member.pid] = member
        try:
            member.handle.signal(signal.SIGSTOP)
        except PermanentFailure as error:
            member.denied, self._fate.denied = error.message, error
        return member

    def _await_rest(self, member: Member) -> None:
        """Until no thread of it can run, if that is to be had."""
        if member.denied or member.rested:
            return
        member.rested = True
        member.handle.signal(signal.SIGSTOP)
        for _ in range(ROUNDS):
            threads = member.handle.wait_threads(_at_rest, PROMPT_S)
            if threads is None or _at_rest(threads):
                return
            facts = member.handle.refresh()
            if facts is None or facts.frozen or not member.handle.signal(signal.SIGSTOP):
                return
            member.handle.signal_each(signal.SIGSTOP)

    # --- killing --------------------------------------------------------------------------------------------------

    def _end(self, members: Sequence[Member], wait_s: float) -> None:
        """SIGKILL to all, children before parents, and what came of it; they are held no longer."""
        for count, member in enumerate(reversed(members)):
            if not member.denied:
                member.handle.signal(signal.SIGKILL)
            if count == 0 and member.pid != self._claim.pid:
                self._host.failpoints.reach("kill_process.begun")
        self._host.failpoints.reach("kill_process.signalled")
        give_up_ns = self._host.clock.monotonic_ns() + round(wait_s * 1e9)
        for member in members:
            left_s = (give_up_ns - self._host.clock.monotonic_ns()) / 1e9
            if member.denied or not member.handle.wait_gone(max(0.0, left_s)):
                self._is_left(member)
            else:
                self._fate.killed.append(f"{member.pid} {member.name}")
            self._members.pop(member.pid)
            if member.handle is not self._root:
                member.handle.close()

    def _is_left(self, member: Member) -> None:
        facts = member.handle.refresh()
        if facts is None:
            self._fate.killed.append(f"{member.pid} {member.name}")
            return
        self._given_up.add(member.pid)
        dies_later = member.named and not member.denied
        self._fate.pending = dies_later and (self._fate.pending or not self._fate.left)
        self._fate.left.append(f"{member.pid} {member.name}")
        self._fate.why = self._fate.why or member.denied or waiting_for(facts)

    def _let_go(self) -> None:
        """Whoever is still held was not killed: what we stopped goes on, and nobody is held any more."""
        for member in self._members.values():
            self._release(member)
        self._members.clear()

    def _release(self, member: Member) -> None:
        if member.ours and not member.denied:
            with suppress(PermanentFailure):
                member.handle.signal(signal.SIGCONT)
        if member.handle is not self._root:
            member.handle.close()


def waiting_for(facts: ProcessFacts) -> str:
    """Why one that got SIGKILL has not ended."""
    if facts.frozen:
        return "its cgroup is frozen: it dies when it is thawed"
    if facts.state == "D":
        return "it is in a call that nothing interrupts (state D): it dies when the call returns"
    return f"it has not ended yet (state {facts.state})"


def _at_rest(threads: Sequence[ThreadFacts]) -> bool:
    return all_stopped(threads) or halt_of(threads) is not Halt.RUNNING
