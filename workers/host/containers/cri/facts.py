"""A CRI runtime's answer about one container to ``ContainerFacts``. Pure.

Called by ``runtime``. To CRI a paused container is RUNNING: only containerd's task service knows the difference.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState

if TYPE_CHECKING:
    from workers.host.containers.cri.stubs import cri_pb2, tasks_pb2

RUNNING: Final = 1
UNKNOWN: Final = 3
"""containerd's CRI reports this for a container that was paused when it restarted: its task service knows its state."""
_STATES: Final[Mapping[int, ContainerState]] = {
    0: ContainerState.CREATED,
    RUNNING: ContainerState.RUNNING,
    2: ContainerState.ENDED,
}
_TASK_STATES: Final[Mapping[int, ContainerState]] = {
    1: ContainerState.CREATED,
    2: ContainerState.RUNNING,
    3: ContainerState.ENDED,
    4: ContainerState.PAUSED,
    5: ContainerState.RUNNING,  # on its way to be paused
}
_SANDBOX_MARK: Final = {"io.cri-containerd.kind": "sandbox"}


def info_of(info: Mapping[str, str]) -> Mapping[str, Any]:
    """The verbose part; empty where there is none that can be read."""
    try:
        found = json.loads(info.get("info", "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def facts_of(
    status: "cri_pb2.ContainerStatus",
    runtime: str,
    *,
    info: Mapping[str, Any],
    pod_labels: Mapping[str, str],
    task: "tasks_pb2.Process | None",
    known: ContainerFacts | None = None,
) -> ContainerFacts:
    """One container; ``task`` is containerd's of it, ``known`` the kernel's facts; None where there are none.

    Raises:
        TransientFailure: its runtime does not know its state.
    """
    state = _STATES.get(status.state)
    pid = int(info.get("pid") or 0)
    if task is not None:
        state, pid = _TASK_STATES.get(task.status, state), task.pid
    elif known is not None and known.state is ContainerState.PAUSED:
        state = known.state
    if state is None:
        raise TransientFailure(f"its runtime does not know the state of container {status.id[:12]}")
    alive = state in (ContainerState.RUNNING, ContainerState.PAUSED)
    return ContainerFacts(
        ref=ContainerRef(runtime, status.id),
        state=state,
        started_at_ns=status.started_at,
        pid=pid if alive else 0,
        name=status.metadata.name,
        image=status.image.image,
        labels={**pod_labels, **status.labels},
        starts_again=False,
    )


def sandbox_of(status: "cri_pb2.PodSandboxStatus", runtime: str, *, info: Mapping[str, Any]) -> ContainerFacts:
    """A pod's sandbox, marked as one."""
    ready = status.state == 0
    return ContainerFacts(
        ref=ContainerRef(runtime, status.id),
        state=ContainerState.RUNNING if ready else ContainerState.ENDED,
        started_at_ns=status.created_at,
        pid=int(info.get("pid") or 0) if ready else 0,
        name=status.metadata.name,
        labels={**status.labels, **_SANDBOX_MARK},
        starts_again=False,
    )


def unsettled(facts: ContainerFacts) -> ContainerFacts:
    """The same, while a call to its runtime is unanswered."""
    return replace(facts, unsettled=True)
