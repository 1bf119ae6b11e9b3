"""The port ``Containers`` over every trusted Docker and Podman socket of this host.

Made by bootstrap; calls ``adapters.runtime_sockets`` and ``engine``. Sockets are looked for at every question: a
runtime may be installed, restarted or gone at any time. An engine object lives as long as its socket's inode, because
it remembers whether that daemon left a call unanswered.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from workers.adapters.docker_engine.engine import Engine
from workers.adapters.docker_engine.reading import facts_of, image_id, labels_of_image
from workers.adapters.runtime_sockets import RuntimeSocket, look
from workers.core.container import (
    TELLING_LABELS,
    WHOLE_ID,
    ContainerFacts,
    ContainerRef,
    RestartPolicy,
    Runtime,
    without,
)
from workers.core.errors import TransientFailure
from workers.ports import Clock, Refusal

CALL_S: Final = 10.0
STOP_S: Final = 5.0
"""Beyond the grace. Both SAFETY D15's."""
_POLL_S: Final = 0.02
_LONGEST_POLL_S: Final = 0.5
_OWN: Final = re.compile(r"/(?:containers|overlay-containers|sandboxes)/([0-9a-f]{64})/")
_OWN_FILES: Final = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
"""Files that a runtime mounts into each of its containers, out of a directory that has the container's id."""


class EngineContainers:
    """Any thread."""

    def __init__(
        self,
        socket_globs: Iterable[str],
        *,
        clock: Clock,
        root: Path = Path("/"),
        timeout_s: float = CALL_S,
        stop_timeout_s: float = STOP_S,
    ) -> None:
        """``root`` is where the globs begin."""
        self._globs = tuple(socket_globs)
        self._clock = clock
        self._root = root
        self._limits = (timeout_s, stop_timeout_s)
        self._lock = Lock()
        self._engines: dict[str, tuple[int, Engine]] = {}

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """As the port says."""
        found: list[ContainerFacts] = []
        silent: list[str] = []
        for at in self._sockets():
            try:
                found += self._matching(self._engine(at.path), container_id)
            except TransientFailure as error:
                silent.append(error.message)
        if not found and silent:
            raise TransientFailure("; ".join(silent))
        return found

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        """As the port says."""
        return self._facts(self._reach(ref), ref.id)

    def await_end(self, ref: ContainerRef, *, started_at_ns: int, timeout_s: float) -> ContainerFacts | None:
        """As the port says."""
        until_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        pause_s = _POLL_S
        while True:
            facts = self.inspect(ref)
            if facts is None or not facts.alive or facts.started_at_ns != started_at_ns:
                return facts
            if self._clock.monotonic_ns() >= until_ns:
                return facts
            self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_POLL_S)

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

    def own_ids(self) -> Collection[str]:
        """As the port says: out of the kernel's table of our mounts."""
        try:
            table = (self._root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        rows = (row.split(" ") for row in table.splitlines())
        sources = (f"{row[3]}/" for row in rows if len(row) > 4 and row[4] in _OWN_FILES)
        return {found[1] for source in sources if (found := _OWN.search(source))}

    def runtimes(self) -> Sequence[Runtime]:
        """As the port says."""
        return [Runtime(at.path, at.trusted and at.listening, at.why) for at in look(self._globs, root=self._root)]

    def _sockets(self) -> Iterator[RuntimeSocket]:
        """Those to ask. Raises ``TransientFailure`` where there are none."""
        seen = look(self._globs, root=self._root)
        trusted = [at for at in seen if at.trusted]
        if not trusted:
            said = "; ".join(f"{at.path}: {at.why}" for at in seen) or f"no socket at {', '.join(self._globs)}"
            raise TransientFailure(f"no container runtime can be asked ({said})")
        return iter(trusted)

    def _reach(self, ref: ContainerRef) -> Engine:
        """The engine that has it, its socket judged again."""
        if any(at.path == ref.runtime and at.listening for at in self._sockets()):
            return self._engine(ref.runtime)
        raise TransientFailure(f"nobody answers at {ref.runtime} any more, or it is not to be trusted")

    def _engine(self, path: str) -> Engine:
        inode = _inode(path)
        with self._lock:
            known = self._engines.get(path)
            if known is None or known[0] != inode:
                timeout_s, stop_s = self._limits
                known = (inode, Engine(path, self._clock, timeout_s=timeout_s, stop_timeout_s=stop_s))
                self._engines[path] = known
        return known[1]

    def _matching(self, engine: Engine, container_id: str) -> Iterator[ContainerFacts]:
        whole = len(container_id) == WHOLE_ID
        ids = [container_id] if whole else [each for each in engine.ids() if each.startswith(container_id)]
        for each in ids:
            facts = self._facts(engine, each)
            if facts is not None:
                yield facts

    def _facts(self, engine: Engine, container_id: str) -> ContainerFacts | None:
        unsettled = (
            engine.unsettled
        )  # asked first: whatever it answers now, a call before this one may still be waiting
        told = engine.container(container_id)
        if told is None:
            return None
        facts = facts_of(told, engine.socket, unsettled=unsettled or engine.unsettled)
        if not TELLING_LABELS & facts.labels.keys():
            return facts
        image = engine.image(image_id(told))
        return facts if image is None else without(facts, labels_of_image(image))


def _inode(path: str) -> int:
    try:
        return Path(path).stat().st_ino
    except OSError as error:
        raise TransientFailure(f"{path} cannot be looked at: {error.strerror}") from error
