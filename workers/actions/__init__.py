"""The catalogue of actions, one file an action; run by the node worker, described by the gateway and the CLI.

An action knows core, ports and workers.actions.base; it must never know another action or an adapter. A new one is
its file, its line in ``CATALOGUE`` and its unit test."""

from typing import Any, Final

from workers.actions import (
    file_acquire,
    file_quarantine,
    file_unquarantine,
    get_logs,
    isolate_network,
    kill_container,
    kill_process,
    pause_container,
    release_network,
    resume_process,
    snapshot_process,
    start_container,
    stop_container,
    suspend_process,
    unpause_container,
)
from workers.actions.base import Action
from workers.actions.file_acquire import FileAcquire
from workers.actions.file_quarantine import FileQuarantine
from workers.actions.file_unquarantine import FileUnquarantine
from workers.actions.get_logs import GetLogs
from workers.actions.isolate_network import IsolateNetwork
from workers.actions.kill_container import KillContainer
from workers.actions.kill_process import KillProcess
from workers.actions.pause_container import PauseContainer
from workers.actions.release_network import ReleaseNetwork
from workers.actions.resume_process import ResumeProcess
from workers.actions.snapshot_process import SnapshotProcess
from workers.actions.start_container import StartContainer
from workers.actions.stop_container import StopContainer
from workers.actions.suspend_process import SuspendProcess
from workers.actions.unpause_container import UnpauseContainer

CATALOGUE: Final[tuple[Action[Any], ...]] = (
    KillProcess(),
    SuspendProcess(),
    ResumeProcess(),
    KillContainer(),
    StopContainer(),
    StartContainer(),
    PauseContainer(),
    UnpauseContainer(),
    FileQuarantine(),
    FileUnquarantine(),
    FileAcquire(),
    SnapshotProcess(),
    GetLogs(),
    IsolateNetwork(),
    ReleaseNetwork(),
)
"""Every action there is. Closed: nothing is registered at run time."""

FAILPOINTS: Final = (
    *kill_process.FAILPOINTS,
    *suspend_process.FAILPOINTS,
    *resume_process.FAILPOINTS,
    *kill_container.FAILPOINTS,
    *stop_container.FAILPOINTS,
    *start_container.FAILPOINTS,
    *pause_container.FAILPOINTS,
    *unpause_container.FAILPOINTS,
    *file_quarantine.FAILPOINTS,
    *file_unquarantine.FAILPOINTS,
    *file_acquire.FAILPOINTS,
    *snapshot_process.FAILPOINTS,
    *get_logs.FAILPOINTS,
    *isolate_network.FAILPOINTS,
    *release_network.FAILPOINTS,
)
"""Every place inside an action where a fault test may end the worker."""

_BY_NAME: Final = {action.name: action for action in CATALOGUE}


def by_name(name: str) -> Action[Any] | None:
    """The action of this name (``kill_process``); None where there is none."""
    return _BY_NAME.get(name)
