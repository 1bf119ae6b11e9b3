"""A process's cgroup: whether it is frozen, and which processes are in it. Versions 1 and 2, and both at once.

Called by ``facts_reader`` and ``system``. Reads only; an unreadable hierarchy counts as empty, and stops nothing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from workers.host.processes import proc_files

_MOST_BYTES: Final = 16 << 20
"""Of one file: a unit may have as many members as there are pids."""

_INITIAL_NAMESPACE: Final = "cgroup:[4026531835]"
"""PROC_CGROUP_INIT_INO: the first cgroup namespace, in which paths are the host's."""


@dataclass(frozen=True, slots=True)
class _Mount:
    root: str
    point: str

    def directory(self, path: str) -> str:
        inside = path.removeprefix(self.root) if self.root != "/" else path
        return self.point + "/" + inside.strip("/")


class Cgroups:
    """The mounted hierarchies, found once."""

    def __init__(self, mountinfo: str | None = None) -> None:
        """``mountinfo`` is this process's own unless given."""
        self._mounts: Mapping[str, _Mount] = _mounts(_text("/proc/self/mountinfo") if mountinfo is None else mountinfo)

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
        if name not in self._mounts or name not in paths:
            return None
        return self._mounts[name].directory(paths[name])


def in_container(namespace_link: str) -> bool:
    """Whether a process's ``/proc/<pid>/ns/cgroup`` link is not the host's: its root is then a cgroup of its own."""
    return bool(namespace_link) and namespace_link != _INITIAL_NAMESPACE


def is_unit(path: str) -> bool:
    """Whether systemd made this cgroup for one service of the system; a user's service may be a terminal."""
    return path.startswith("/system.slice/") and path.endswith(".service")


def is_pod(path: str) -> bool:
    """Whether a container runtime made this cgroup."""
    return any(word in path for word in ("/kubepods", "/docker/", "/docker-", "/cri-containerd-", "/crio-", "/libpod"))


def _mounts(mountinfo: str) -> Mapping[str, _Mount]:
    """Controller to mount; the unified hierarchy has the empty name."""
    found: dict[str, _Mount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or len(after) < 3 or after[0] not in {"cgroup", "cgroup2"}:
            continue
        mount = _Mount(root=before[3], point=before[4])
        names = [""] if after[0] == "cgroup2" else after[2].split(",")
        for name in names:
            found.setdefault(name, mount)
    return found


def _text(path: str) -> str:
    try:
        return os.fsdecode(proc_files.contents(path, most=_MOST_BYTES))
    except OSError:
        return ""
