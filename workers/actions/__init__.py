"""The catalogue of actions; run by the node worker, described by the gateway and the CLI.

An action and its undo stand together in one file. An action knows the domain, the ports and ``workers.actions.base``;
it must never know another action or an adapter. A new one is its file, its line in ``CATALOGUE`` and its unit test.
"""

from typing import Final

from workers.actions.base import AnyAction
from workers.actions.file_acquire import FileAcquire
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.actions.get_logs import GetLogs
from workers.actions.isolate_network import IsolateNetwork, ReleaseNetwork
from workers.actions.kill_container import KillContainer
from workers.actions.kill_process import KillProcess
from workers.actions.pause_container import PauseContainer, UnpauseContainer
from workers.actions.snapshot_process import SnapshotProcess
from workers.actions.stop_container import StartContainer, StopContainer
from workers.actions.suspend_process import ResumeProcess, SuspendProcess

CATALOGUE: Final[tuple[AnyAction, ...]] = (
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

FAILPOINTS: Final = tuple(point for action in CATALOGUE for point in action.failpoints)
"""Every point inside an action where a fault test may end the worker."""

_BY_NAME: Final = {action.name: action for action in CATALOGUE}


def by_name(name: str) -> AnyAction | None:
    """The action of this name (``kill_process``); None where there is none."""
    return _BY_NAME.get(name)
