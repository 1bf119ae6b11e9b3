"""Kill a process and all its descendants: stop them all, hold them, and then kill them. This is what ``tree`` does.

Called by ``kill_process`` after its claim; calls ``descendants``; knows the domain and ports only. A process that may
fork must be stopped before its children are counted: the root is stopped first, then each child that is found, until a
pass over all of them finds no new one. What is stopped cannot fork, so that set is complete.

**Stopping is an effect**: a stopped process does not do its work, and if this worker died now it would stay stopped for
ever. So nothing is stopped before the claim is durable; what this worker stopped is killed or continued; and after a
crash the next attempt continues from where this one was. For that the root is killed last: as long as it exists the
rest is connected under it (children die before their parents, so that none is handed to init), and is found again.
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

_SPARE_DESCRIPTORS: Final = 16
"""Descriptors that the search takes, and other threads meanwhile."""

PROMPT_S: Final = 0.02
ROUNDS: Final = 10
"""How long one process may take to stop, and how often the signal is sent again, also to each of its threads: one that
executes another program just then may lose a stop. A process that runs after that is continued by another one, or its
tracer keeps the stop from it; it is killed all the same."""

STOP_ALL_S: Final = 10.0
"""How long one round may take to stop all processes: 2,048 take two seconds."""


@dataclass(slots=True)
class Member:
    """One process of the tree."""

    pid: int
    parent: int
    """The pid of its parent, as it was found."""
    name: str
    """Empty until it was read."""
    handle: HeldProcess
    named: bool
    """The claim names it."""
    ran_before: bool
    """It ran before this worker stopped it, and is continued if it is not killed."""
    denied: str = ""
    """Why it cannot be signalled."""
    finished: bool = False
    """All its children are in the set."""
    awaited: bool = False
    """Its stop was waited for."""


@dataclass(slots=True)
class TreeResult:
    """Which processes of a tree were killed, and why the others were not."""

    killed: list[str] = field(default_factory=list)
    """Pid and name of each process that has ended."""
    left: list[str] = field(default_factory=list)
    """Pid and name of each that has not."""
    why: str = ""
    """Why the first of these has not."""
    pending: bool = False
    """All that are left die when they wake, and a later probe of what the claim names shows whether they have."""
    protected: str = ""
    """Which of them must not be killed, and why: then none of this round was."""
    complete: bool = True
    """None can have escaped."""
    denied: PermanentFailure | None = None


class Tree:
    """One run over one tree."""

    def __init__(self, claim: TreeClaim, root: HeldProcess | None, host: Host, *, begun: bool, most: int) -> None:
        """``root`` is held by the caller; None where it has ended and only processes that the claim names may be left.
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
        """Processes that got SIGKILL, or could not be sent it, in an earlier round and still exist."""
        self._result = TreeResult()

    def kill(self, *, deadline_ns: int, wait_s: float) -> TreeResult:
        """Stop all, check protection, kill. Blocks. What was stopped and not killed is continued.

        Raises:
            PermanentFailure, TransientFailure: as ``HeldProcess``.
        """
        try:
            self._kill(deadline_ns, wait_s)
        except Exception:
            self._release_all()
            raise
        self._release_all()
        return self._result

    def _kill(self, deadline_ns: int, wait_s: float) -> None:
        """In rounds, where the tree is larger than what is held at once; the root is in the last one."""
        self._begin()
        while not self._stop_tree(deadline_ns):
            if self._result.protected:
                return
            some = self._complete_subtrees()
            if not some:  # one that is killed before all its children are known leaves them to init
                some = [each for each in self._members.values() if each.pid != self._claim.pid]
                self._result.complete = False
            if not some or self._host.clock.now_ns() >= deadline_ns:
                self._result.complete = False
                break
            self._kill_members(some, wait_s)
        self._host.failpoints.reach("kill_process.at_rest")
        self._kill_members(list(self._members.values()), wait_s)

    # --- stopping -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Stop the root, and what the claim names: these may have lost their parents since."""
        if self._root is not None:
            pid, name = self._claim.pid, self._claim.name or "?"
            self._stop(Member(pid, 0, name, self._root, named=True, ran_before=not self._claim.stopped_before))
            self._host.failpoints.reach("kill_process.stopped")
        for one in self._claim.named().values():
            try:
                handle = self._host.processes.reopen(one.pid, one.identity)
            except TransientFailure:
                self._check_capacity()
                return
            if handle is not None:
                ran_before = not one.stopped_before
                self._stop(Member(one.pid, one.parent, "", handle, named=True, ran_before=ran_before))

    def _stop_tree(self, deadline_ns: int) -> bool:
        """Stop all of them; False when the set is not complete for lack of time or descriptors, or when one must not be
        touched."""
        until_ns = min(deadline_ns, self._host.clock.now_ns() + round(STOP_ALL_S * 1e9))
        complete = False
        while not complete and not self._result.protected and self._host.clock.now_ns() < until_ns:
            self._stop_found(until_ns)
            for member in self._members.values():
                if self._host.clock.now_ns() < until_ns:
                    self._await_stop(member)
            known = len(self._members)
            for member in list(self._members.values()):
                before = len(self._members)
                self._stop_children(member)
                member.awaited = member.awaited and len(self._members) == before  # or it was continued meanwhile
            complete = len(self._members) == known
            if complete and not all(each.finished for each in self._members.values()):
                break  # no descriptors
        self._check_protection()
        return complete and not self._result.protected and all(each.finished for each in self._members.values())

    def _stop_found(self, until_ns: int) -> None:
        """Stop all that can be found, without waiting for each stop: a process that is stopping soon forks no more."""
        waiting = deque(self._members.values())
        while waiting and not self._result.protected and self._host.clock.now_ns() < until_ns:
            waiting.extend(self._stop_children(waiting.popleft()))

    def _stop_children(self, parent: Member) -> list[Member]:
        """Stop the children that are not known yet; all of them, unless one is Douse's own or descriptors run out."""
        found: list[Member] = []
        if parent.pid not in self._members:  # released again for lack of descriptors
            return found
        parent.finished = False
        try:
            for pid, child in children_of(parent.pid, parent.handle, self._host):
                if pid in self._members or pid in self._given_up:
                    child.close()
                    continue
                if pid in self._own_line:  # a worker that stops itself stays stopped
                    self._result.protected = f"process {pid}: it is this worker, one of its ancestors, or one beside it"
                if pid in self._own_line or len(self._members) >= self._most:
                    child.close()
                    return found
                ran_before = self._begun or not all_stopped(child.threads() or ())
                found.append(self._stop(Member(pid, parent.pid, "", child, named=False, ran_before=ran_before)))
        except TransientFailure:
            self._check_capacity()
            return [each for each in found if each.pid in self._members]
        parent.finished = True
        return found

    def _check_capacity(self) -> None:
        """No descriptors are left, not even to search with: the last that were found run on, until a later round."""
        for member in list(self._members.values())[-_SPARE_DESCRIPTORS:]:
            if member.pid == self._claim.pid:
                continue
            self._release(member)
            del self._members[member.pid]
            if member.parent in self._members:
                self._members[member.parent].finished = False
        self._most = len(self._members)

    def _check_protection(self) -> None:
        """Check names and protection, now that all are stopped; the root's was checked before the claim."""
        for member in self._members.values():
            facts = member.handle.refresh() if not member.name else None
            if facts is None:
                continue
            member.name = facts.name or "?"
            reason = self._guard(facts)
            if reason is not None and not self._result.protected:
                self._result.protected = f"process {member.pid}: {reason}"

    def _complete_subtrees(self) -> list[Member]:
        """All descendants of which no further descendant can exist that is not held."""
        open_pids: set[int] = set()
        closed = []
        for member in reversed(self._members.values()):  # children come after their parents
            if member.finished and member.awaited and member.pid not in {*open_pids, self._claim.pid}:
                closed.append(member)
            else:
                open_pids.add(member.parent)
        return closed[::-1]

    def _stop(self, member: Member) -> Member:
        self._members[member.pid] = member
        try:
            member.handle.signal(signal.SIGSTOP)
        except PermanentFailure as error:
            member.denied, self._result.denied = error.message, error
        return member

    def _await_stop(self, member: Member) -> None:
        """Wait until no thread of it can run, if that can be reached."""
        if member.denied or member.awaited:
            return
        member.awaited = True
        member.handle.signal(signal.SIGSTOP)
        for _ in range(ROUNDS):
            threads = member.handle.wait_threads(_is_stopped, PROMPT_S)
            if threads is None or _is_stopped(threads):
                return
            facts = member.handle.refresh()
            if facts is None or facts.frozen or not member.handle.signal(signal.SIGSTOP):
                return
            member.handle.signal_each(signal.SIGSTOP)

    # --- killing --------------------------------------------------------------------------------------------------

    def _kill_members(self, members: Sequence[Member], wait_s: float) -> None:
        """SIGKILL to all, children before parents, and record which ended; release them."""
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
                self._record_left(member)
            else:
                self._result.killed.append(f"{member.pid} {member.name}")
            self._members.pop(member.pid)
            if member.handle is not self._root:
                member.handle.close()

    def _record_left(self, member: Member) -> None:
        facts = member.handle.refresh()
        if facts is None:
            self._result.killed.append(f"{member.pid} {member.name}")
            return
        self._given_up.add(member.pid)
        dies_later = member.named and not member.denied
        self._result.pending = dies_later and (self._result.pending or not self._result.left)
        self._result.left.append(f"{member.pid} {member.name}")
        self._result.why = self._result.why or member.denied or waiting_for(facts)

    def _release_all(self) -> None:
        """What is still held was not killed: continue what this worker stopped, and release all."""
        for member in self._members.values():
            self._release(member)
        self._members.clear()

    def _release(self, member: Member) -> None:
        if member.ran_before and not member.denied:
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


def _is_stopped(threads: Sequence[ThreadFacts]) -> bool:
    return all_stopped(threads) or halt_of(threads) is not Halt.RUNNING
