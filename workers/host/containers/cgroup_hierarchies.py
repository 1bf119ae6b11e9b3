"""Where the cgroup hierarchies are mounted, and which of their cgroups are named by a container's id.

Called by ``kernel`` and ``processes``. The directories above a cgroup show which users could have created it: below a
directory that another user may write to, or inside another container's cgroup, an id is only a claim.
"""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.domain.targets.cgroup_names import id_in


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


@dataclass(frozen=True, slots=True)
class _Mount:
    root: str
    point: Path


class Hierarchies:
    """The mounted hierarchies, found once."""

    def __init__(self, mountinfo: str) -> None:
        """``mountinfo`` is as /proc/self/mountinfo."""
        self._mounts = _mounts(mountinfo)

    @classmethod
    def of_this_machine(cls) -> "Hierarchies":
        """As this process sees them."""
        try:
            return cls(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return cls("")

    def cgroups(self, paths: Mapping[str, str], prefix: str) -> Iterator[ContainerCgroup]:
        """The cgroups with an id that begins so, out of the cgroup paths of one process."""
        for name, path in paths.items():
            mount = self._mounts.get(name)
            inside = _inside(path, mount.root) if mount is not None else None
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


def _inside(path: str, root: str) -> str | None:
    """A cgroup's path below a mount of the hierarchy; None where that mount does not show it."""
    if path.startswith("/.."):
        return None
    if root == "/":
        return path
    return path.removeprefix(root) if path == root or path.startswith(f"{root}/") else None


def _mounts(mountinfo: str) -> Mapping[str, _Mount]:
    """Controller to mount; of several the one that shows the whole hierarchy."""
    found: dict[str, _Mount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or len(after) < 3 or after[0] not in {"cgroup", "cgroup2"}:
            continue
        mount = _Mount(root=before[3], point=Path(before[4]))
        for name in [""] if after[0] == "cgroup2" else after[2].split(","):
            if name not in found or (mount.root == "/" and found[name].root != "/"):
                found[name] = mount
    return found
