"""The port ``Containers`` over every trusted Docker and Podman socket of this host.

Made by wiring; the sockets are ``host.containers``' affair, what is said to one of them is ``engine``'s.
"""

from typing import ClassVar

from workers.host.containers.behind_sockets import BehindSockets
from workers.host.containers.docker.engine import Engine


class EngineContainers(BehindSockets):
    """Any thread."""

    scheme: ClassVar[str] = ""

    def _meet(self, path: str) -> Engine:
        timeout_s, stop_s = self._limits
        return Engine(path, self._clock, timeout_s=timeout_s, stop_timeout_s=stop_s)
