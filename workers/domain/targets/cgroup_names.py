"""Which containers a cgroup's path names. Pure.

Called where containers are recognised by the kernel alone, and where a process's container is looked up. The path is
the kernel's; its names are chosen by the creator of each cgroup.
"""

import re
from typing import Final

_ID: Final = re.compile(r"(?:.*[^0-9a-f])?([0-9a-f]{64})(?:\.scope)?")
"""As runtimes name their cgroups: ``<id>``, ``docker-<id>.scope``, ``cri-containerd-<id>.scope``, ``libpod-<id>`` …"""
_MONITOR: Final = "conmon"
"""``crio-conmon-<id>.scope`` is the cgroup of a container's monitor, which is no part of it."""


def id_in(part: str) -> str:
    """The whole id in one directory's name; empty where there is none."""
    found = _ID.fullmatch(part)
    return found[1] if found is not None and _MONITOR not in part else ""


def ids_in(path: str) -> list[str]:
    """Every container's id that a path names, outermost first."""
    return [found for part in path.split("/") if (found := id_in(part))]
