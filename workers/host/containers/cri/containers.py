"""The port ``Containers`` over every trusted CRI socket of this host.

Made by wiring; the sockets are ``host.containers``' affair, what is said to one of them is ``runtime``'s.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from workers.host.containers.behind_sockets import BehindSockets
from workers.host.containers.cri.endpoint import Endpoint
from workers.host.containers.cri.runtime import CriRuntime
from workers.host.containers.ports import Containers


class CriContainers(BehindSockets):
    """Any thread."""

    scheme: ClassVar[str] = "cri:"

    def __init__(self, socket_globs: Iterable[str], *, kernel: Containers | None = None, **more: Any) -> None:
        """``kernel`` freezes where the runtime has no word for it (CRI-O); ``more`` as of every runtime."""
        super().__init__(socket_globs, **more)
        self._kernel = kernel

    def _meet(self, path: str) -> CriRuntime:
        timeout_s, stop_s = self._limits
        endpoint = Endpoint(path, self._clock)
        name = self.scheme + path
        return CriRuntime(endpoint, name, kernel=self._kernel, timeout_s=timeout_s, stop_timeout_s=stop_s)
