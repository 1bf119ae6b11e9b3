"""The containers behind every trusted socket of one kind of runtime.

Subclassed by ``docker`` and ``cri``, which connect to one daemon; asked by ``host_containers``. Sockets are searched at
every question: a runtime may be installed, restarted or gone at any time. A daemon object lives as long as its socket's
inode, because it remembers whether that daemon left a call unanswered. Knows no runtime's library.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, Runtime
from workers.host.containers.ports import ContainerHandle
from workers.host.containers.sockets import RuntimeSocket, find_sockets, judged
from workers.system.ports import Clock

CALL_S: Final = 10.0
FAULT_S: Final = 1.0
STOP_S: Final = 5.0
"""Beyond the grace. All are bounds: a runtime that does not answer must not keep a lane's thread."""


class Daemon(Protocol):
    """One daemon behind one socket. Both raise ``TransientFailure``."""

    def matching(self, container_id: str) -> Iterable[ContainerFacts]:
        """Every container whose id begins so."""

    def fault(self) -> str:
        """Why containers can't be acted on through it, asked within a second; empty where they can."""


D = TypeVar("D", bound=Daemon)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the runtimes of one kind answered about an id."""

    found: tuple[ContainerFacts, ...] = ()
    unanswered: tuple[str, ...] = ()
    """A line for each that may have it and did not answer."""
    absent: str = ""
    """Why there is none to ask; empty where there is one."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds of one call; ``stop_s`` is beyond the grace."""

    call_s: float = CALL_S
    stop_s: float = STOP_S


class RuntimeSockets(ABC, Generic[D]):
    """Any thread."""

    scheme: ClassVar[str]
    """What the names of its runtimes begin with, before the socket's path."""

    def __init__(
        self, socket_globs: Iterable[str], *, clock: Clock, root: Path = Path("/"), limits: CallLimits = CallLimits()
    ) -> None:
        """``root`` is where the globs begin."""
        self._globs = tuple(socket_globs)
        self._clock = clock
        self._root = root
        self._limits = limits
        self._lock = Lock()
        self._daemons: dict[str, tuple[int, D]] = {}

    @abstractmethod
    def _connected(self, path: str) -> D:
        """The daemon behind a socket. Asks nothing yet."""

    @abstractmethod
    def _handle(self, ref: ContainerRef, daemon: Callable[[], D]) -> ContainerHandle:
        """A container's handle; ``daemon`` finds its daemon anew, and raises ``TransientFailure``."""

    def ask(self, container_id: str, *, hurry: bool = False) -> Answers:
        """Every container whose id begins so, of all sockets; in a ``hurry`` a daemon that hangs gets a second. Raises
        nothing."""
        present = find_sockets(self._globs, root=self._root)
        trusted = [socket for socket in present if socket.trusted]
        if not trusted:
            listed = "; ".join(f"{socket.path}: {socket.why}" for socket in present)
            why = listed or f"no socket at {', '.join(self._globs)}"
            return Answers(absent=f"no container runtime can be asked ({why})")
        found: list[ContainerFacts] = []
        unanswered: list[str] = []
        for socket in trusted:
            if not socket.listening:
                unanswered.append(f"{socket.path} does not answer: {socket.why}")
                continue
            try:
                daemon = self._daemon(socket.path)
                if hurry:
                    daemon.fault()
                found += daemon.matching(container_id)
            except TransientFailure as error:
                unanswered.append(error.message)
        return Answers(tuple(found), tuple(unanswered))

    def open(self, ref: ContainerRef) -> ContainerHandle:
        """The handle of one of its containers. Asks nothing."""
        path = ref.runtime.removeprefix(self.scheme)
        return self._handle(ref, lambda: self._reached(path))

    def runtimes(self) -> Sequence[Runtime]:
        """As ``Containers.runtimes``."""
        return [self._runtime(socket) for socket in find_sockets(self._globs, root=self._root)]

    def _runtime(self, socket: RuntimeSocket) -> Runtime:
        if not (socket.trusted and socket.listening):
            return Runtime(socket.path, usable=False, why=socket.why)
        try:
            fault = self._daemon(socket.path).fault()
        except TransientFailure as error:
            fault = error.message
        return Runtime(socket.path, usable=not fault, why=fault)

    def _reached(self, path: str) -> D:
        """The daemon behind a socket, which is judged again."""
        if Path(path).is_socket():
            socket = judged(Path(path))
            if socket.trusted and socket.listening:
                return self._daemon(path)
        raise TransientFailure(f"no process answers at {path} any more, or it cannot be trusted")

    def _daemon(self, path: str) -> D:
        try:
            inode = Path(path).stat().st_ino
        except OSError as error:
            raise TransientFailure(f"{path} cannot be inspected: {error.strerror}") from error
        with self._lock:
            known = self._daemons.get(path)
            if known is None or known[0] != inode:
                known = (inode, self._connected(path))
                self._daemons[path] = known
        return known[1]
