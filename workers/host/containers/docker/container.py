"""One Docker or Podman container, and every trusted socket of their daemons.

Made by wiring; speaks through ``engine``.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, RestartPolicy
from workers.host.containers.docker.engine import Engine, refusal_of
from workers.host.containers.ports import Refusal
from workers.host.containers.runtime_sockets import RuntimeSockets


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """See ``ports.ContainerHandle``."""

    id: str
    engine: Callable[[], Engine]

    def inspect(self) -> ContainerFacts | None:
        return self.engine().facts(self.id)

    def restrain(self, policy: RestartPolicy) -> Refusal | None:
        wanted: Any = {"Name": policy.name, "MaximumRetryCount": policy.maximum}
        with self.engine().effect() as client:
            return refusal_of(lambda: client.update_container(self.id, restart_policy=wanted))

    def kill(self) -> Refusal | None:
        with self.engine().effect() as client:
            return refusal_of(lambda: client.kill(self.id, signal="SIGKILL"))

    def stop(self, *, grace_s: int) -> Refusal | None:
        with self.engine().effect(stop=True) as client:
            return refusal_of(lambda: client.stop(self.id, timeout=grace_s))

    def start(self) -> Refusal | None:
        with self.engine().effect() as client:
            return refusal_of(lambda: client.start(self.id))

    def pause(self) -> Refusal | None:
        with self.engine().effect() as client:
            return refusal_of(lambda: client.pause(self.id))

    def unpause(self) -> Refusal | None:
        with self.engine().effect() as client:
            return refusal_of(lambda: client.unpause(self.id))

    def logs(self, *, tail: int, since_ns: int) -> Generator[bytes]:
        engine = self.engine()
        inspected = engine.container(self.id)
        if inspected is None:
            raise TransientFailure(f"{engine.socket} has no container {self.id[:12]} any more")
        terminal = bool((inspected.get("Config") or {}).get("Tty"))
        yield from engine.logs(self.id, terminal=terminal, tail=tail, since_ns=since_ns)


class EngineSockets(RuntimeSockets[Engine]):
    """Any thread."""

    scheme: ClassVar[str] = ""

    def _connected(self, path: str) -> Engine:
        return Engine(path, self._clock, self._limits)

    def _handle(self, ref: ContainerRef, daemon: Callable[[], Engine]) -> EngineContainer:
        return EngineContainer(ref.id, daemon)
