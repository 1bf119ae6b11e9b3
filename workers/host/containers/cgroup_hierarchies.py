"""Which cgroups of the mounted hierarchies are named by a container's id.

Called by ``kernel`` and ``processes``. The directories above a cgroup show which users could have created it: below a
directory that another user may write to, or inside another container's cgroup, an id is only a claim.
"""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.domain.targets.cgroup_names import id_in
from workers.host.cgroup_mounts import mounts, mounts_of_this_machine


@dataclass(frozen=True, slots=True)
class ContainerCgroup:
    """One cgroup whose name has a container's id in it."""

    hierarchy: str
    """``freezer``, ``pids`` …; empty for the unified hierarchy (version 2)."""
    directory: Path
    id: str
    inode: int
    """The kernel does not reuse a cgroup's number within one boot."""
    by_system: bool
    """Whether only root could have made it, outside of any container."""


class Hierarchies:
    """The mounted hierarchies, found once."""

    def __init__(self, mountinfo: str | None = None) -> None:
        """``mountinfo`` is this process's own unless given."""
        self._mounts = mounts_of_this_machine() if mountinfo is None else mounts(mountinfo)

    def cgroups(self, paths: Mapping[str, str], prefix: str) -> Iterator[ContainerCgroup]:
        """The cgroups with an id that begins so, out of the cgroup paths of one process."""
        for name, path in paths.items():
            mount = self._mounts.get(name)
            inside = mount.inside(path) if mount is not None else None
            if mount is not None and inside is not None:
                yield from _along(name, mount.point, inside, prefix)


def _along(hierarchy: str, point: Path, path: str, prefix: str) -> Iterator[ContainerCgroup]:
    """Along one path, outermost first; an id that is repeated further inside is the same container."""
    parts, seen = path.strip("/").split("/"), set[str]()
    for depth, part in enumerate(parts, 1):
        found = id_in(part)
        if not found or found in seen:
            continue
        if found.startswith(prefix):
            directory = point.joinpath(*parts[:depth])
            try:
                inode = directory.lstat().st_ino
            except OSError:
                return  # removed, and all below it
            by_system = not seen and _only_root_writes(point, parts[: depth - 1])
            yield ContainerCgroup(hierarchy, directory, found, inode, by_system)
        seen.add(found)


def _only_root_writes(point: Path, parts: list[str]) -> bool:
    """Whether only root can create a directory in any of these; one that cannot be inspected counts as a no."""
    for depth in range(len(parts) + 1):
        try:
            facts = point.joinpath(*parts[:depth]).lstat()
        except OSError:
            return False
        if facts.st_uid != 0 or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True
