"""An engine's JSON to ``ContainerFacts``. Called by ``engine``; pure.

Docker and Podman use different words (``exited`` and ``stopped``, ``stopping``, ``configured``), so the booleans that
both have are read first. What is missing or of another type reads as empty: only id and state are indispensable.
"""

from collections.abc import Mapping
from typing import Any, Final

from workers.domain.errors import TransientFailure
from workers.domain.falco.time import parsed
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState, RestartPolicy

_WORDS: Final[Mapping[str, ContainerState]] = {
    "created": ContainerState.CREATED,
    "configured": ContainerState.CREATED,
    "initialized": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "stopping": ContainerState.RUNNING,
    "paused": ContainerState.PAUSED,
    "restarting": ContainerState.RESTARTING,
    "exited": ContainerState.ENDED,
    "stopped": ContainerState.ENDED,
    "removing": ContainerState.ENDED,
    "dead": ContainerState.ENDED,
}
"""Podman's ``stopping`` still runs: its grace is not over."""


def facts_of(inspected: Mapping[str, Any], socket: str, *, unsettled: bool) -> ContainerFacts:
    """One container.

    Raises:
        TransientFailure: it is in a state that this version does not know.
    """
    state, config = _part(inspected, "State"), _part(inspected, "Config")
    policy = _part(_part(inspected, "HostConfig"), "RestartPolicy")
    started = parsed(state.get("StartedAt"))
    return ContainerFacts(
        ref=ContainerRef(socket, str(inspected["Id"])),
        state=_state(state),
        started_at_ns=started[0] if started is not None else 0,
        pid=int(state.get("Pid") or 0),
        name=str(inspected.get("Name") or "").lstrip("/"),
        image=str(config.get("Image") or inspected.get("ImageName") or ""),
        labels={str(key): str(value) for key, value in _part(config, "Labels").items()},
        policy=RestartPolicy(str(policy.get("Name") or "no"), int(policy.get("MaximumRetryCount") or 0)),
        unsettled=unsettled,
    )


def image_id(inspected: Mapping[str, Any]) -> str:
    """The image it was made from, by id."""
    return str(inspected.get("Image") or "")


def labels_of_image(inspected: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels that every container made from an image has."""
    return {str(key): str(value) for key, value in _part(_part(inspected, "Config"), "Labels").items()}


def _state(state: Mapping[str, Any]) -> ContainerState:
    if state.get("Paused"):
        return ContainerState.PAUSED
    if state.get("Restarting"):
        return ContainerState.RESTARTING
    if state.get("Running"):
        return ContainerState.RUNNING
    word = str(state.get("Status", "")).lower()
    if word not in _WORDS:
        raise TransientFailure(f"its runtime reports the state {word!r}, which is not known here")
    return _WORDS[word]


def _part(whole: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = whole.get(key)
    return part if isinstance(part, Mapping) else {}
