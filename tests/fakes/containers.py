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
        """As the port hands it out."""
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
    """Somebody starts it again as soon as it has ended."""
    calls: list[str] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)


@dataclass(slots=True)
class FakeContainers:
    """The port ``Containers``."""

    clock: FakeClock = field(default_factory=FakeClock)
    table: list[FakeContainer] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    down: bool = False
    """Nobody listens."""
    hung: bool = False
    """Calls are taken, and neither carried out nor answered before ``wake``."""
    has_update: bool = True
    """Podman before 5 cannot change a restart policy."""
    refusals: dict[str, list[Refusal]] = field(default_factory=dict)
    """By call: what is said against the next ones."""
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """By call: what happens just before it, once."""
    unsettled: bool = False
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
        self._look()
        return [self._seen(each) for each in self.table if self._known(each) and self._id(each, container_id)]

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        self._look()
        return next((self._seen(each) for each in self.table if self._known(each) and each.facts.ref == ref), None)

    def await_end(self, ref: ContainerRef, *, started_at_ns: int, timeout_s: float) -> ContainerFacts | None:
        facts = self.inspect(ref)
        if facts is not None and facts.alive and facts.started_at_ns == started_at_ns:
            self.clock.sleep(timeout_s)
        return self.inspect(ref)

    def restrain(self, ref: ContainerRef, policy: RestartPolicy) -> Refusal | None:
        if not self.has_update:
            return Refusal("Not Found", may_pass=False)

        def set_policy(container: FakeContainer) -> None:
            container.facts = replace(container.facts, policy=policy)

        return self._do("restrain", ref, set_policy)

    def kill(self, ref: ContainerRef) -> Refusal | None:
        return self._do("kill", ref, self._kill, needs=tuple(ALIVE))

    def stop(self, ref: ContainerRef, *, grace_s: int) -> Refusal | None:
        self.graces.append(grace_s)
        return self._do("stop", ref, self._kill)

    def start(self, ref: ContainerRef) -> Refusal | None:
        def begin(container: FakeContainer) -> None:
            if not container.facts.alive:
                self.restart(container)

        return self._do("start", ref, begin)

    def pause(self, ref: ContainerRef) -> Refusal | None:
        return self._do("pause", ref, self._becomes(ContainerState.PAUSED), needs=(ContainerState.RUNNING,))

    def unpause(self, ref: ContainerRef) -> Refusal | None:
        return self._do("unpause", ref, self._becomes(ContainerState.RUNNING), needs=(ContainerState.PAUSED,))

    def logs(self, ref: ContainerRef, *, tail: int, since_ns: int) -> Generator[bytes]:
        self._look()
        self.asked.append((tail, since_ns))
        container = next((each for each in self.table if each.facts.ref == ref and not each.removed), None)
        if container is None:
            raise TransientFailure(f"{SOCKET} has no such container any more")
        written = [line for line in container.written if not since_ns or line.time_ns >= since_ns]
        for line in written[-tail:] if tail else written:
            if line.error is not None:
                raise line.error
            yield line.shown()

    def own_ids(self) -> Collection[str]:
        return self.own

    def runtimes(self) -> Sequence[Runtime]:
        return [Runtime(SOCKET, usable=not self.down)]

    # --- inside ---

    def _look(self) -> None:
        if self.down or self.hung:
            raise TransientFailure(f"{SOCKET} does not answer")

    def _known(self, container: FakeContainer) -> bool:
        return not container.removed

    def _id(self, container: FakeContainer, wanted: str) -> bool:
        return container.facts.ref.id.startswith(wanted)

    def _seen(self, container: FakeContainer) -> ContainerFacts:
        return replace(container.facts, unsettled=self.unsettled)

    def _kill(self, container: FakeContainer) -> None:
        if not container.immortal:
            self.end(container)
        if container.comes_back:
            self.restart(container)

    def _becomes(self, state: ContainerState) -> Callable[[FakeContainer], None]:
        def change(container: FakeContainer) -> None:
            container.facts = replace(container.facts, state=state)

        return change

    def _do(
        self,
        call: str,
        ref: ContainerRef,
        effect: Callable[[FakeContainer], None],
        *,
        needs: tuple[ContainerState, ...] = (),
    ) -> Refusal | None:
        happening = self.before.pop(call, None)
        if happening is not None:
            happening()
        if self.down:
            raise TransientFailure(f"{SOCKET} does not answer")
        container = next((each for each in self.table if each.facts.ref == ref and not each.removed), None)
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
