"""Which containers a cgroup's path names. Pure.

Read by the adapters that tell containers by the kernel, and by those who ask whether a process is in one. The path is
the kernel's, its names are whoever's who made the cgroups.
"""

import re
from typing import Final

_ID: Final = re.compile(r"(?:.*[^0-9a-f])?([0-9a-f]{64})(?:\.scope)?")
"""As runtimes name their cgroups: ``<id>``, ``docker-<id>.scope``, ``cri-containerd-<id>.scope``, ``libpod-<id>`` …"""
_MONITOR: Final = "conmon"
"""``crio-conmon-<id>.scope`` is the cgroup of a container's monitor, which is no part of it."""


def id_in(part: str) -> str:
    """The whole id that one directory's name has; empty where it has none."""
    found = _ID.fullmatch(part)
    return found[1] if found is not None and _MONITOR not in part else ""


def ids_in(path: str) -> list[str]:
    """Every container's id that a path names, outermost first."""
    return [found for part in path.split("/") if (found := id_in(part))]
