"""The port ``Containers`` over every trusted CRI socket of this host.

Made by bootstrap; the sockets are ``adapters.runtimes``' affair, what is said to one of them is ``runtime``'s.
"""

from typing import ClassVar

from workers.adapters.cri.runtime import CriRuntime
from workers.adapters.runtimes.behind_sockets import BehindSockets


class CriContainers(BehindSockets):
    """Any thread."""

    scheme: ClassVar[str] = "cri:"

    def _meet(self, path: str) -> CriRuntime:
        timeout_s, stop_s = self._limits
        return CriRuntime(path, self._clock, timeout_s=timeout_s, stop_timeout_s=stop_s, scheme=self.scheme)
