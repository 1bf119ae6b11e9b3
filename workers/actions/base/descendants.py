"""A process's descendants at one moment, and the claim that names them.

Called by ``kill_process`` and ``process_tree``; knows the domain and ports only. Touches nothing. A child is recognised
by the parent that the kernel names for it, read while both are held: then neither pid can have been another's. A
process that was handed to init (or another subreaper) because its parent ended is no descendant any more, and nothing
shows that it was one.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from workers.actions.base.claims import claim_with
from workers.actions.base.find_process import guard_of
from workers.actions.base.process import ProcessClaim
from workers.domain.errors import CommandRejected
from workers.domain.targets.process import ProcessFacts, ProcessIdentity
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess

MOST_NAMED: Final = 256
"""Descendants that a claim names, the nearest first: 10 KiB in the journal."""

SURVEY_NS: Final = 250_000_000
"""How long reading the tree before a claim may take, since other commands may wait for it: 256 descendants take 0.1 s,
and much longer beside a fork bomb."""


@dataclass(frozen=True, slots=True)
class Named:
    """One descendant that a claim names."""

    pid: int
    parent: int
    """The pid of its parent, as it was then."""
    identity: ProcessIdentity
    stopped_before: bool
    """It was stopped already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeClaim(ProcessClaim):
    """The claim on a process and its descendants."""

    tree: bool
    stopped_before: bool
    """The root was stopped already."""
    descendants: int
    """How many ``descendants_named`` has."""
    descendants_named_all: bool
    descendants_named: str
    """One word for each, parents before their children: see ``_written``."""

    def named(self) -> dict[int, Named]:
        """The descendants by pid."""
        words = self.descendants_named.split()
        return {each.pid: each for each in (_read(word, self.boot_id) for word in words)}


def children_of(pid: int, parent: HeldProcess, host: Host) -> Iterator[tuple[int, HeldProcess]]:
    """The children of a held process, held, and their pids; the caller closes each. None where it has ended."""
    for number in parent.children() or ():
        child = host.processes.child(number, of=pid)
        if child is None:
            continue
        if parent.wait_gone(0):
            child.close()
            continue
        yield number, child


def claim_on_tree(claim: ProcessClaim, root: ProcessFacts, held: HeldProcess, host: Host) -> TreeClaim:
    """The claim on the tree under a process; ``claim`` is the one on the process alone.

    Raises:
        CommandRejected: one of them is protected.
    """
    found: dict[int, Named] = {}
    whole = True
    give_up_ns = host.clock.monotonic_ns() + SURVEY_NS
    opened: list[HeldProcess] = []
    waiting: deque[tuple[int, HeldProcess]] = deque([(root.pid, held)])
    guard = guard_of(host)
    try:
        while waiting and whole:
            pid, parent = waiting.popleft()
            for number, child in children_of(pid, parent, host):
                opened.append(child)
                whole = len(found) < MOST_NAMED and host.clock.monotonic_ns() < give_up_ns
                facts = child.refresh() if whole else None
                if not whole:
                    break
                if facts is None:
                    continue
                reason = guard(facts)
                if reason is not None:
                    raise CommandRejected(
                        f"process {facts.pid} is a descendant of {root.pid} and protected on this node: {reason}; "
                        "none of them is killed. Kill the one process alone, or a smaller tree",
                        code="protected_target",
                    )
                found[facts.pid] = Named(facts.pid, pid, facts.identity, stopped_before=facts.state == "T")
                waiting.append((number, child))
    finally:
        for child in opened:
            child.close()
    return claim_with(
        TreeClaim,
        claim,
        tree=True,
        stopped_before=root.state == "T",
        descendants=len(found),
        descendants_named_all=whole,
        descendants_named=" ".join(map(_written, found.values())),
    )


def _written(one: Named) -> str:
    """``pid.parent.ticks.serial``, and ``T`` behind it where it was stopped."""
    return f"{one.pid}.{one.parent}.{one.identity.start_ticks}.{one.identity.serial}{'T' if one.stopped_before else ''}"


def _read(word: str, boot_id: str) -> Named:
    pid, parent, ticks, serial = map(int, word.removesuffix("T").split("."))
    return Named(pid, parent, ProcessIdentity(boot_id, ticks, serial), stopped_before=word.endswith("T"))
