"""Where the cgroup hierarchies are mounted: versions 1 and 2, and both at once.

Called by ``processes.cgroups`` and ``containers.cgroup_hierarchies``, once each. Reads only; a table that cannot be
read counts as empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """One mounted hierarchy, or the part of it that this mount shows."""

    root: str
    point: Path

    def inside(self, path: str) -> str | None:
        """A cgroup's path below the mount; None where this mount does not show it."""
        if path.startswith("/.."):
            return None
        if self.root == "/":
            return path
        return path.removeprefix(self.root) if path == self.root or path.startswith(f"{self.root}/") else None


def mounts_of_this_machine() -> Mapping[str, CgroupMount]:
    """As this process sees them."""
    try:
        return mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def mounts(mountinfo: str) -> Mapping[str, CgroupMount]:
    """Controller to mount, out of a table as in /proc/self/mountinfo; the unified hierarchy has the empty name. Of
    several mounts the one that shows the whole hierarchy."""
    found: dict[str, CgroupMount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or len(after) < 3 or after[0] not in {"cgroup", "cgroup2"}:
            continue
        mount = CgroupMount(root=before[3], point=Path(before[4]))
        for name in [""] if after[0] == "cgroup2" else after[2].split(","):
            if name not in found or (mount.root == "/" and found[name].root != "/"):
                found[name] = mount
    return found
