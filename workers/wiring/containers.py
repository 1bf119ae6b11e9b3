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


def host_network_fault(containers: Containers) -> str:
    """Why the host's network cannot be isolated from here, for ``douse doctor``; empty if it can."""
    from workers.domain.errors import PermanentFailure
    from workers.host.network import library
    from workers.host.network.system import not_of_the_host

    try:
        library.Context().close()
    except PermanentFailure as error:
        return error.message
    refused = not_of_the_host(in_container=bool(containers.own_ids()))
    return refused.message if refused is not None else ""
