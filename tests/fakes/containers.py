"""Container runtimes that a test scripts: containers start, end and come back, daemons hang and restart.

`calls` counts every effect that was asked for, `effects` those that changed something.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.fakes.clock import FakeClock
from workers.domain.errors import Indeterminate, TransientFailure, WorkerError
from workers.domain.targets.container import ALIVE, ContainerFacts, ContainerRef, ContainerState, RestartPolicy, Runtime
from workers.host.containers.ports import Refusal

SOCKET = "/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Written:
    """One line of a log; with ``error`` the stream ends there."""

    text: str
    time_ns: int = 0
    stream: str = "stdout"
    error: WorkerError | None = None

    def shown(self) -> bytes:
        """As the port yields it."""
        when = datetime.fromtimestamp(self.time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{when} {self.stream} F {self.text}\n".encode()


@dataclass(slots=True)
class FakeContainer:
    """One container; change ``facts`` at will."""

    facts: ContainerFacts
    removed: bool = False
    auto_remove: bool = False
    immortal: bool = False
    """SIGKILL only waits for it."""
    comes_back: bool = False
    """It is started again as soon as it has ended."""
    returns_at_ns: int = 0
    """It is started again at this time; 0 never."""
    calls: list[str] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)


@dataclass(slots=True)
class FakeContainers:
    """The port ``Containers``."""

    clock: FakeClock = field(default_factory=FakeClock)
    table: list[FakeContainer] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    down: bool = False
    """No process listens."""
    hung: bool = False
    """Calls are received, and neither carried out nor answered before ``wake``."""
    has_update: bool = True
    """Podman before 5 cannot change a restart policy."""
    refusals: dict[str, list[Refusal]] = field(default_factory=dict)
    """By call: how the next ones are refused."""
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """By call: what happens just before it, once."""
    unsettled: bool = False
    silent: str = ""
    """Why no runtime can be asked, while the kernel still can."""
    silent_code: str = "unavailable"
    graces: list[int] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)
    """Lines and beginning of every log that was asked for."""
    _waiting: list[Callable[[], None]] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))
    _pids: Any = field(default_factory=lambda: itertools.count(7000))

    # --- what a test does ---

    def spawn(self, container_id: str = "", **facts: Any) -> FakeContainer:
        """A container that starts now."""
        whole = container_id.ljust(64, "0") if container_id else hashlib.sha256(b"%d" % next(self._ids)).hexdigest()
        defaults: dict[str, Any] = {
            "ref": ContainerRef(facts.pop("socket", SOCKET), whole),
            "state": ContainerState.RUNNING,
            "started_at_ns": self.clock.now_ns(),
            "pid": next(self._pids),
            "name": "web",
            "image": "registry/web:1",
        }
        made = FakeContainer(ContainerFacts(**{**defaults, **facts}))
        self.table.append(made)
        return made

    def restart(self, container: FakeContainer) -> None:
        """Another run."""
        self.clock.advance(1)
        container.facts = replace(
            container.facts,
            state=ContainerState.RUNNING,
            started_at_ns=self.clock.now_ns(),
            pid=next(self._pids),
        )

    def end(self, container: FakeContainer) -> None:
        """Its run is over."""
        container.facts = replace(container.facts, state=ContainerState.ENDED, pid=0)
        container.removed = container.auto_remove

    def running(self, container: FakeContainer) -> ContainerFacts:
        """What it would be if it ran on."""
        return replace(container.facts, state=ContainerState.RUNNING)

    def wake(self) -> None:
        """The daemon goes on: what waited is carried out."""
        self.hung = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each()

    @property
    def calls(self) -> list[str]:
        """Every effect that was asked for."""
        return [call for each in self.table for call in each.calls]

    @property
    def effects(self) -> int:
        """How many effects were asked for: an action that must not act leaves it at 0."""
        return len(self.calls)

    # --- the port ---

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        self.check_answers()
        return [
            self.shown(each) for each in self.table if not each.removed and each.facts.ref.id.startswith(container_id)
        ]

    def served(self, container_id: str) -> ContainerFacts | None:
        if self.silent:
            raise TransientFailure(self.silent, code=self.silent_code)
        self.check_answers()
        found = (each for each in self.table if not each.removed and each.facts.ref.id == container_id)
        return next((self.shown(each) for each in found if not each.facts.ref.runtime.startswith("kernel:")), None)

    def open(self, ref: ContainerRef) -> FakeContainerHandle:
        return FakeContainerHandle(self, ref)

    def own_ids(self) -> Collection[str]:
        return self.own

    def runtimes(self) -> Sequence[Runtime]:
        return [Runtime(SOCKET, usable=not self.down)]

    # --- what handles use ---

    def known(self, ref: ContainerRef) -> FakeContainer | None:
        """The one that is not removed."""
        found = next((each for each in self.table if each.facts.ref == ref and not each.removed), None)
        if found is not None and 0 < found.returns_at_ns <= self.clock.now_ns():
            found.returns_at_ns = 0
            self.restart(found)
        return found

    def shown(self, container: FakeContainer) -> ContainerFacts:
        """Its facts, as the runtime answers now."""
        return replace(container.facts, unsettled=self.unsettled)

    def check_answers(self) -> None:
        """Raises where the runtime does not answer."""
        if self.down or self.hung:
            raise TransientFailure(f"{SOCKET} does not answer")

    def carry_out(
        self,
        call: str,
        ref: ContainerRef,
        effect: Callable[[FakeContainer], None],
        *,
        needs: tuple[ContainerState, ...] = (),
    ) -> Refusal | None:
        """An effect, or what comes in its way."""
        happening = self.before.pop(call, None)
        if happening is not None:
            happening()
        if self.down:
            raise TransientFailure(f"{SOCKET} does not answer")
        container = self.known(ref)
        if container is None:
            return Refusal("No such container", may_pass=False)
        container.calls.append(call)
        if self.hung:
            self._waiting.append(lambda: effect(container))
            raise Indeterminate(f"{SOCKET} took the call and did not answer", code="runtime_silent")
        if self.refusals.get(call):
            return self.refusals[call].pop(0)
        if needs and container.facts.state not in needs:
            return Refusal(f"is {container.facts.state.value}", may_pass=True)
        effect(container)
        return None


@dataclass(frozen=True, slots=True)
class FakeContainerHandle:
    """The port ``ContainerHandle``."""

    containers: FakeContainers
    ref: ContainerRef

    def inspect(self) -> ContainerFacts | None:
        self.containers.check_answers()
        container = self.containers.known(self.ref)
        return self.containers.shown(container) if container is not None else None

    def restrain(self, policy: RestartPolicy) -> Refusal | None:
        if not self.containers.has_update:
            return Refusal("Not Found", may_pass=False)

        def set_policy(container: FakeContainer) -> None:
            container.facts = replace(container.facts, policy=policy)

        return self.containers.carry_out("restrain", self.ref, set_policy)

    def kill(self) -> Refusal | None:
        return self.containers.carry_out("kill", self.ref, self._kill, needs=tuple(ALIVE))

    def stop(self, *, grace_s: int) -> Refusal | None:
        self.containers.graces.append(grace_s)
        return self.containers.carry_out("stop", self.ref, self._kill)

    def start(self) -> Refusal | None:
        def begin(container: FakeContainer) -> None:
            if not container.facts.alive:
                self.containers.restart(container)

        return self.containers.carry_out("start", self.ref, begin)

    def pause(self) -> Refusal | None:
        pauses = _becomes(ContainerState.PAUSED)
        return self.containers.carry_out("pause", self.ref, pauses, needs=(ContainerState.RUNNING,))

    def unpause(self) -> Refusal | None:
        resumes = _becomes(ContainerState.RUNNING)
        return self.containers.carry_out("unpause", self.ref, resumes, needs=(ContainerState.PAUSED,))

    def logs(self, *, tail: int, since_ns: int) -> Generator[bytes]:
        self.containers.check_answers()
        self.containers.asked.append((tail, since_ns))
        container = self.containers.known(self.ref)
        if container is None:
            raise TransientFailure(f"{SOCKET} has no such container any more")
        written = [line for line in container.written if not since_ns or line.time_ns >= since_ns]
        for line in written[-tail:] if tail else written:
            if line.error is not None:
                raise line.error
            yield line.shown()

    def _kill(self, container: FakeContainer) -> None:
        if not container.immortal:
            self.containers.end(container)
        if container.comes_back:
            self.containers.restart(container)


def _becomes(state: ContainerState) -> Callable[[FakeContainer], None]:
    def change(container: FakeContainer) -> None:
        container.facts = replace(container.facts, state=state)

    return change
