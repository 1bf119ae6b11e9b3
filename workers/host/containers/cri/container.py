"""One container or pod sandbox of a CRI runtime, and every trusted CRI socket of this host.

Made by wiring; asks through ``runtime``, and acts through its ``endpoint``.
"""

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, RestartPolicy
from workers.host.containers.cri.log_files import read_log
from workers.host.containers.cri.runtime import CriRuntime
from workers.host.containers.ports import Containers, Refusal
from workers.host.containers.runtime_sockets import RuntimeSockets


@dataclass(frozen=True, slots=True)
class CriContainer:
    """See ``ports.ContainerHandle``."""

    id: str
    runtime: Callable[[], CriRuntime]
    kernel: Containers | None
    """Freezes where its runtime cannot (CRI-O)."""

    def inspect(self) -> ContainerFacts | None:
        return self.runtime().facts(self.id)

    def restrain(self, policy: RestartPolicy) -> Refusal | None:
        """CRI knows none: the kubelet restarts containers."""
        del policy
        return Refusal("CRI has no restart policy: its kubelet starts another container instead", may_pass=False)

    def kill(self) -> Refusal | None:
        """A stop without any grace."""
        return self.runtime().kill(self.id)

    def stop(self, *, grace_s: int) -> Refusal | None:
        return self.runtime().stop(self.id, grace_s=grace_s)

    def start(self) -> Refusal | None:
        """Nothing to one that runs; one that has ended cannot run again."""
        facts = self.inspect()
        if facts is not None and facts.alive:
            return None
        return Refusal("CRI cannot start a container again that has ended: its kubelet makes another", may_pass=False)

    def pause(self) -> Refusal | None:
        runtime = self.runtime()
        refused = runtime.pause_task(self.id)
        known = runtime.in_kernel(self.id) if refused is not None and not refused.may_pass else None
        return self.kernel.open(known.ref).pause() if self.kernel is not None and known is not None else refused

    def unpause(self) -> Refusal | None:
        runtime = self.runtime()
        refused = runtime.resume_task(self.id)
        known = runtime.in_kernel(self.id) if refused is not None and not refused.may_pass else None
        return self.kernel.open(known.ref).unpause() if self.kernel is not None and known is not None else refused

    def logs(self, *, tail: int, since_ns: int) -> Generator[bytes]:
        """CRI has no call for them: they are files that its runtime writes and its kubelet keeps."""
        runtime = self.runtime()
        answer = runtime.container_status(self.id)
        if answer is None:
            if runtime.sandbox(self.id) is not None:
                why = f"{self.id[:12]} is a pod's sandbox, which has no log; name one of its containers"
                raise PermanentFailure(why, code="logs_unavailable")
            raise TransientFailure(f"{runtime.name} has no container {self.id[:12]} any more")
        if not answer.status.log_path:
            why = f"its runtime is configured to keep no log of container {self.id[:12]}"
            raise PermanentFailure(why, code="logs_unavailable")
        yield from read_log(os.fsencode(answer.status.log_path), tail=tail, since_ns=since_ns)


class CriSockets(RuntimeSockets[CriRuntime]):
    """Any thread."""

    scheme: ClassVar[str] = "cri:"

    def __init__(self, socket_globs: Iterable[str], *, kernel: Containers | None = None, **more: Any) -> None:
        """``more`` as of ``RuntimeSockets``."""
        super().__init__(socket_globs, **more)
        self._kernel = kernel

    def _connected(self, path: str) -> CriRuntime:
        return CriRuntime(path, self.scheme + path, clock=self._clock, kernel=self._kernel, limits=self._limits)

    def _handle(self, ref: ContainerRef, daemon: Callable[[], CriRuntime]) -> CriContainer:
        return CriContainer(ref.id, daemon, self._kernel)
