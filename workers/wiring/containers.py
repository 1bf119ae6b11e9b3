"""The containers of this host, put together: every kind of runtime that the settings name, and the kernel behind them.

Called by the node's composition and by ``douse doctor``.
"""

from collections.abc import Callable, Collection

from workers.host.containers.ports import Containers
from workers.settings import ResponseActions
from workers.system.ports import Clock


def host_containers(
    settings: ResponseActions, clock: Clock, *, own_line: Callable[[], Collection[int]] = tuple
) -> Containers:
    """Asks nothing yet. ``own_line`` are the processes that nothing may touch."""
    from workers.host.containers.cri import CriSockets
    from workers.host.containers.docker import EngineSockets
    from workers.host.containers.host_containers import HostContainers
    from workers.host.containers.kernel import KernelContainers

    kernel = KernelContainers(clock=clock, own_line=own_line)
    engines = EngineSockets(settings.docker.socket_path, clock=clock)
    cri = CriSockets(settings.cri.socket_path, clock=clock, kernel=kernel)
    return HostContainers(engines, cri, kernel=kernel)
