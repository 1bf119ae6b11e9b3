"""A process's cgroup: whether it is frozen, and which processes are in it. Versions 1 and 2, and both at once.

Called by ``facts_reader`` and ``system``. Reads only; an unreadable hierarchy counts as empty, and stops nothing.
"""

import os
from collections.abc import Mapping
from typing import Final

from workers.host.cgroup_mounts import mounts, mounts_of_this_machine
from workers.host.processes import proc_files

_MOST_BYTES: Final = 16 << 20
"""Of one file: a unit may have as many members as there are pids."""

_INITIAL_NAMESPACE: Final = "cgroup:[4026531835]"
"""PROC_CGROUP_INIT_INO: the first cgroup namespace, in which paths are the host's."""


class Cgroups:
    """The mounted hierarchies, found once."""

    def __init__(self, mountinfo: str | None = None) -> None:
        """``mountinfo`` is this process's own unless given."""
        self._mounts = mounts_of_this_machine() if mountinfo is None else mounts(mountinfo)

    def frozen(self, paths: Mapping[str, str]) -> bool:
        """Whether the freezer holds this member: of version 1 (SIGKILL waits) or 2 (SIGKILL goes through)."""
        old = self._directory("freezer", paths)
        if old is not None and _text(f"{old}/freezer.state").strip() in {"FROZEN", "FREEZING"}:
            return True
        new = self._directory("", paths)
        return new is not None and "frozen 1" in _text(f"{new}/cgroup.events").splitlines()

    def members(self, paths: Mapping[str, str]) -> tuple[int, ...]:
        """The pids in the same cgroup, where the hierarchy that services live in can be read."""
        for name in ("", "name=systemd"):
            directory = self._directory(name, paths)
            if directory is not None and paths.get(name, "/") != "/":
                return tuple(int(pid) for pid in _text(f"{directory}/cgroup.procs").split())
        return ()

    def _directory(self, name: str, paths: Mapping[str, str]) -> str | None:
        mount, path = self._mounts.get(name), paths.get(name)
        inside = mount.inside(path) if mount is not None and path is not None else None
        return f"{mount.point}/{inside.strip('/')}" if mount is not None and inside is not None else None


def in_container(namespace_link: str) -> bool:
    """Whether a process's ``/proc/<pid>/ns/cgroup`` link is not the host's: its root is then a cgroup of its own."""
    return bool(namespace_link) and namespace_link != _INITIAL_NAMESPACE


def is_unit(path: str) -> bool:
    """Whether systemd made this cgroup for one service of the system; a user's service may be a terminal."""
    return path.startswith("/system.slice/") and path.endswith(".service")


def is_pod(path: str) -> bool:
    """Whether a container runtime made this cgroup."""
    return any(word in path for word in ("/kubepods", "/docker/", "/docker-", "/cri-containerd-", "/crio-", "/libpod"))


def _text(path: str) -> str:
    try:
        return os.fsdecode(proc_files.contents(path, most=_MOST_BYTES))
    except OSError:
        return ""
