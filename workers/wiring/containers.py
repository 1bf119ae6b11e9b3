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
    """Asks nobody yet. ``own_line`` are the processes that nothing may touch."""
    from workers.host.containers.cri import CriContainers
    from workers.host.containers.docker import EngineContainers
    from workers.host.containers.host_containers import HostContainers
    from workers.host.containers.kernel import SCHEME, KernelContainers

    kernel = KernelContainers(clock=clock, own_line=own_line)
    engines = EngineContainers(settings.docker.socket_path, clock=clock)
    cri = CriContainers(settings.cri.socket_path, clock=clock, kernel=kernel)
    return HostContainers(engines, cri, kernel=kernel, kernel_scheme=SCHEME, clock=clock)
