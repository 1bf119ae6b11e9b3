"""Runtimes of one kind alone, without the kernel behind them, as the port ``Containers``."""

from __future__ import annotations

from pathlib import Path

from workers.host.containers.cri import CriSockets
from workers.host.containers.docker import EngineSockets
from workers.host.containers.host_containers import HostContainers
from workers.host.containers.runtime_sockets import CALL_S, STOP_S, CallLimits
from workers.system.clock import SystemClock
from workers.system.ports import Clock


def engines(*sockets: Path | str, call_s: float = CALL_S, stop_s: float = STOP_S) -> HostContainers:
    """Docker and Podman behind these sockets."""
    limits = CallLimits(call_s, stop_s)
    return HostContainers(EngineSockets(map(str, sockets), clock=SystemClock(), limits=limits), kernel=None)


def cri(
    *sockets: Path | str, clock: Clock | None = None, call_s: float = CALL_S, stop_s: float = STOP_S
) -> HostContainers:
    """CRI runtimes behind these sockets."""
    limits = CallLimits(call_s, stop_s)
    return HostContainers(CriSockets(map(str, sockets), clock=clock or SystemClock(), limits=limits), kernel=None)
