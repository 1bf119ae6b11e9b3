"""Networks that a test scripts: namespaces with an isolation or none, brokers that answer or not.

``effects`` counts what was changed for good; a trial that was taken back changed nothing.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workers.domain.errors import CommandRejected
from workers.domain.targets.network import Barrier, Isolation, Lifeline, Lifelines, Protocol, Purpose

BROKER = Lifeline(Purpose.KAFKA, ipaddress.ip_network("10.0.0.7"), 9092)
STORE = Lifeline(Purpose.STORE, ipaddress.ip_network("10.0.0.8"), 8333)
JUMP = Lifeline(Purpose.OPERATOR, ipaddress.ip_network("10.1.0.0/24"), 0, Protocol.ANY)

_handles = itertools.count(1)


@dataclass(slots=True)
class FakeNamespace:
    """One network namespace."""

    inode: int
    own: bool = False
    standing: Barrier | None = None
    isolation: Isolation | None = None
    bypassed_by: str = ""
    links: list[str] = field(default_factory=lambda: ["eth0"])
    leaks: str = ""
    """What ``blocks`` returns."""
    log: list[str] = field(default_factory=list)

    def stand(self, made_by: str, *, trial: bool = False, sha256: str = "") -> None:
        """An isolation that an execution made."""
        self.standing = Barrier(made_by, trial, next(_handles), sha256 or f"rules of {made_by}")


@dataclass(slots=True)
class FakeNamespaceHandle:
    """The port ``NetworkNamespace``."""

    space: FakeNamespace
    network: FakeNetwork
    closed: bool = False

    @property
    def namespace(self) -> int:
        return self.space.inode

    @property
    def own(self) -> bool:
        return self.space.own

    def barrier(self) -> Barrier | None:
        self.network.happens("barrier")
        return self.space.standing

    def bypass(self) -> str:
        return self.space.bypassed_by

    def interfaces(self) -> Sequence[str]:
        return sorted(self.space.links)

    def begin(self, isolation: Isolation) -> bool:
        self.network.happens("begin")
        if self.space.standing is not None:
            return False
        self.space.stand(isolation.made_by, trial=True)
        self.space.isolation = isolation
        self.space.log.append("begin")
        return True

    def keep(self, isolation: Isolation, tried: Barrier) -> bool:
        self.network.happens("keep")
        if self.space.standing != tried:
            return False
        self.space.stand(isolation.made_by)
        self.space.log.append("keep")
        return True

    def end(self, barrier: Barrier) -> bool:
        self.network.happens("end")
        found = self.space.standing
        if found is None or found.handle != barrier.handle:
            return False
        self.space.standing = None
        self.space.isolation = None
        self.space.log.append("end of trial" if found.trial else "end")
        return True

    def blocks(self, isolation: Isolation, near: Sequence[str]) -> str:
        return self.space.leaks if self.space.standing is not None else "its rules are gone"

    def close(self) -> None:
        self.closed = True


@dataclass(slots=True)
class FakeNetwork:
    """The port ``Network``."""

    here: FakeNamespace = field(default_factory=lambda: FakeNamespace(1, own=True))
    by_pid: dict[int, FakeNamespace] = field(default_factory=dict)
    own: Lifelines = (BROKER, STORE)
    listed: Lifelines = (JUMP,)
    down: set[Lifeline] = field(default_factory=set)
    """Those that do not answer."""
    cut: Callable[[Lifeline, Isolation], bool] = lambda lifeline, isolation: lifeline not in isolation.lifelines
    """Whether an isolation of this worker's network keeps a lifeline from answering."""
    broken: str = ""
    """Why networks cannot be isolated at all."""
    in_own: bool = False
    """This worker is in a network of its own."""
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """By call: what happens just before it, once."""
    opened: list[Any] = field(default_factory=list)

    @property
    def effects(self) -> int:
        return sum(each.log.count("keep") + each.log.count("end") for each in (self.here, *self.by_pid.values()))

    @property
    def held(self) -> int:
        """Handles that were not closed."""
        return sum(not each.closed for each in self.opened)

    def happens(self, call: str) -> None:
        self.before.pop(call, lambda: None)()

    def unfit(self) -> str:
        return self.broken

    def host(self) -> FakeNamespaceHandle:
        if self.in_own:
            raise CommandRejected("a network of its own", code="not_host_network")
        return self._open(self.here)

    def of_process(self, pid: int) -> FakeNamespaceHandle | None:
        self.happens("of_process")
        found = self.by_pid.get(pid)
        return None if found is None else self._open(found)

    def lifelines(self) -> Lifelines:
        self.happens("lifelines")
        return self.own

    def operators(self) -> Lifelines:
        return self.listed

    def answering(self, lifelines: Iterable[Lifeline]) -> frozenset[Lifeline]:
        self.happens("answering")
        isolation = self.here.isolation
        return frozenset(
            each for each in lifelines if each not in self.down and (isolation is None or not self.cut(each, isolation))
        )

    def changed(self, space: FakeNamespace) -> None:
        """The rules are edited by another program."""
        assert space.standing is not None
        space.standing = replace(space.standing, sha256="changed")

    def _open(self, space: FakeNamespace) -> FakeNamespaceHandle:
        made = FakeNamespaceHandle(space, self)
        self.opened.append(made)
        return made
