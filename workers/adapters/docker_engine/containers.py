"""The port ``Containers`` over every trusted Docker and Podman socket of this host.

Made by bootstrap; the sockets are ``adapters.runtimes``' affair, what is said to one of them is ``engine``'s.
"""

from typing import ClassVar

from workers.adapters.docker_engine.engine import Engine
from workers.adapters.runtimes.behind_sockets import BehindSockets


class EngineContainers(BehindSockets):
    """Any thread."""

    scheme: ClassVar[str] = ""

    def _meet(self, path: str) -> Engine:
        timeout_s, stop_s = self._limits
        return Engine(path, self._clock, timeout_s=timeout_s, stop_timeout_s=stop_s)
