"""The port ``Containers`` over every trusted socket of one kind of runtime.

Subclassed by ``docker_engine`` and ``cri``, which say how one daemon is spoken to. Sockets are looked for at every
question: a runtime may be installed, restarted or gone at any time. A daemon object lives as long as its socket's
inode, because it remembers whether that daemon left a call unanswered. Knows no runtime's library.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import ClassVar, Final, Protocol

from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, RestartPolicy, Runtime
from workers.host.containers.own import own_container_ids
from workers.host.containers.ports import Refusal
from workers.host.containers.sockets import RuntimeSocket, judged, look
from workers.system.ports import Clock

CALL_S: Final = 10.0
STOP_S: Final = 5.0
"""Beyond the grace. Both SAFETY D15's."""
_POLL_S: Final = 0.02
_LONGEST_POLL_S: Final = 0.5


class Daemon(Protocol):
    """One daemon behind one socket. Looks raise ``TransientFailure``, effects what the port's effects raise."""

    def matching(self, container_id: str) -> Iterable[ContainerFacts]:
        """Every container whose id begins so."""

    def facts(self, container_id: str) -> ContainerFacts | None:
        """The one with exactly this id."""

    def fault(self) -> str:
        """Why containers can't be acted on through it, asked within a second; empty where they can."""

    def restrain(self, container_id: str, policy: RestartPolicy) -> Refusal | None:
        """As the port's."""

    def kill(self, container_id: str) -> Refusal | None:
        """As the port's."""

    def stop(self, container_id: str, grace_s: int) -> Refusal | None:
        """As the port's."""

    def start(self, container_id: str) -> Refusal | None:
        """As the port's."""

    def pause(self, container_id: str) -> Refusal | None:
        """As the port's."""

    def unpause(self, container_id: str) -> Refusal | None:
        """As the port's."""

    def logs(self, container_id: str, *, tail: int, since_ns: int) -> Generator[bytes]:
        """As the port's."""


@dataclass(frozen=True, slots=True)
class Sighted:
    """What the runtimes of one kind say of an id."""

    found: tuple[ContainerFacts, ...] = ()
    unheard: tuple[str, ...] = ()
    """A line for each that may have it and did not answer."""
    absent: str = ""
    """Why there is none to ask; empty where there is one."""


class BehindSockets(ABC):
    """Any thread."""

    scheme: ClassVar[str]
    """What the names of its runtimes begin with, before the socket's path."""

    def __init__(
        self,
        socket_globs: Iterable[str],
        *,
        clock: Clock,
        root: Path = Path("/"),
        timeout_s: float = CALL_S,
        stop_timeout_s: float = STOP_S,
    ) -> None:
        """``root`` is where the globs begin; time limits are of one call, ``stop_timeout_s`` beyond the grace."""
        self._globs = tuple(socket_globs)
        self._clock = clock
        self._root = root
        self._limits = (timeout_s, stop_timeout_s)
        self._lock = Lock()
        self._daemons: dict[str, tuple[int, Daemon]] = {}

    @abstractmethod
    def _meet(self, path: str) -> Daemon:
        """The daemon behind a socket. Asks nothing yet."""

    def sighted(self, container_id: str) -> Sighted:
        """What ``find`` finds, and what keeps it from knowing more. Raises nothing."""
        try:
            sockets = list(self._sockets())
        except TransientFailure as error:
            return Sighted(absent=error.message)
        found: list[ContainerFacts] = []
        unheard: list[str] = []
        for at in sockets:
            if not at.listening:
                unheard.append(f"{at.path} does not answer: {at.why}")
                continue
            try:
                found += self._daemon(at.path).matching(container_id)
            except TransientFailure as error:
                unheard.append(error.message)
        return Sighted(tuple(found), tuple(unheard))

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """As the port says."""
        seen = self.sighted(container_id)
        if not seen.found and (seen.unheard or seen.absent):
            raise TransientFailure("; ".join(seen.unheard) or seen.absent)
        return seen.found

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        """As the port says."""
        return self._reach(ref).facts(ref.id)

    def await_end(self, ref: ContainerRef, *, started_at_ns: int, timeout_s: float) -> ContainerFacts | None:
        """As the port says."""
        return await_end(self, self._clock, ref, started_at_ns=started_at_ns, timeout_s=timeout_s)

    def restrain(self, ref: ContainerRef, policy: RestartPolicy) -> Refusal | None:
        """As the port says."""
        return self._reach(ref).restrain(ref.id, policy)

    def kill(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._reach(ref).kill(ref.id)

    def stop(self, ref: ContainerRef, *, grace_s: int) -> Refusal | None:
        """As the port says."""
        return self._reach(ref).stop(ref.id, grace_s)

    def start(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._reach(ref).start(ref.id)

    def pause(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._reach(ref).pause(ref.id)

    def unpause(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._reach(ref).unpause(ref.id)

    def logs(self, ref: ContainerRef, *, tail: int, since_ns: int) -> Generator[bytes]:
        """As the port says."""
        return self._reach(ref).logs(ref.id, tail=tail, since_ns=since_ns)

    def own_ids(self) -> Collection[str]:
        """As the port says."""
        return own_container_ids(self._root)

    def runtimes(self) -> Sequence[Runtime]:
        """As the port says."""
        return [self._judged(at) for at in look(self._globs, root=self._root)]

    def _judged(self, at: RuntimeSocket) -> Runtime:
        if not (at.trusted and at.listening):
            return Runtime(at.path, usable=False, why=at.why)
        try:
            fault = self._daemon(at.path).fault()
        except TransientFailure as error:
            fault = error.message
        return Runtime(at.path, usable=not fault, why=fault)

    def _sockets(self) -> Iterator[RuntimeSocket]:
        """Those to ask. Raises ``TransientFailure`` where there are none."""
        seen = look(self._globs, root=self._root)
        trusted = [at for at in seen if at.trusted]
        if not trusted:
            said = "; ".join(f"{at.path}: {at.why}" for at in seen) or f"no socket at {', '.join(self._globs)}"
            raise TransientFailure(f"no container runtime can be asked ({said})")
        return iter(trusted)

    def _reach(self, ref: ContainerRef) -> Daemon:
        """The daemon that has it, its socket judged again."""
        path = ref.runtime.removeprefix(self.scheme)
        if Path(path).is_socket():
            at = judged(Path(path))
            if at.trusted and at.listening:
                return self._daemon(path)
        raise TransientFailure(f"nobody answers at {path} any more, or it is not to be trusted")

    def _daemon(self, path: str) -> Daemon:
        inode = _inode(path)
        with self._lock:
            known = self._daemons.get(path)
            if known is None or known[0] != inode:
                known = (inode, self._meet(path))
                self._daemons[path] = known
        return known[1]


class Looks(Protocol):
    """Whoever can be asked for one container."""

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        """As ``Containers.inspect``."""


def await_end(
    looks: Looks, clock: Clock, ref: ContainerRef, *, started_at_ns: int, timeout_s: float
) -> ContainerFacts | None:
    """``Containers.await_end`` by looking again and again, ever more seldom."""
    until_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
    pause_s = _POLL_S
    while True:
        facts = looks.inspect(ref)
        if facts is None or not facts.alive or facts.started_at_ns != started_at_ns:
            return facts
        if clock.monotonic_ns() >= until_ns:
            return facts
        clock.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_POLL_S)


def _inode(path: str) -> int:
    try:
        return Path(path).stat().st_ino
    except OSError as error:
        raise TransientFailure(f"{path} cannot be looked at: {error.strerror}") from error
