"""A container's OCI bundle on disk, which its runtime wrote into a directory that only root can write to.

Called by ``kernel`` and ``processes``, to recognise a pod's sandbox and a pod's container without asking a runtime. A
bundle that is not there proves nothing.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from workers.domain.targets.container import NAMESPACE

BUNDLES: Final = (
    "/run/containerd/io.containerd.runtime.v2.task/*/{id}/config.json",
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{id}/config.json",
    "/run/containers/storage/overlay-containers/{id}/userdata/config.json",
    "/var/lib/containers/storage/overlay-containers/{id}/userdata/config.json",
)
"""Of containerd, dockerd's own containerd, and of Podman and CRI-O."""

_TASKS: Final = "io.containerd.runtime.v2.task"
"""containerd's directory of bundles: below it they are by namespace."""
_SANDBOX: Final[Mapping[str, str]] = {"io.cri-containerd.kind": "sandbox"}
_MOST_BYTES: Final = 4 << 20
_KINDS: Final = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")
"""containerd's and CRI-O's annotation: ``sandbox`` or ``container``."""


def labels_of(container_id: str, patterns: tuple[str, ...] = BUNDLES) -> Mapping[str, str]:
    """The labels that a CRI would give it, or containerd's namespace; empty for one that has no bundle."""
    namespace = ""
    for path in _found(container_id, patterns):
        annotations = _annotations(path)
        kind = next((annotations[name] for name in _KINDS if name in annotations), "")
        if kind == "sandbox":
            return _SANDBOX
        if kind:
            name = annotations.get("io.kubernetes.cri.sandbox-name") or annotations.get("io.kubernetes.pod.name")
            return {"io.kubernetes.pod.name": str(name or "")}
        if len(path.parts) > 4 and path.parts[-4] == _TASKS:
            namespace = path.parts[-3]
    return {NAMESPACE: namespace} if namespace else {}


def is_sandbox(container_id: str, patterns: tuple[str, ...] = BUNDLES) -> bool:
    """Whether it holds a pod's namespaces."""
    return labels_of(container_id, patterns) == _SANDBOX


def _found(container_id: str, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from Path("/").glob(pattern.format(id=container_id).lstrip("/"))


def _annotations(path: Path) -> Mapping[str, Any]:
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.geteuid()) or facts.st_size > _MOST_BYTES:
            return {}
        found = json.loads(path.read_bytes()).get("annotations")
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}
