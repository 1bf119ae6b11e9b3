"""Which mount a descriptor is on, and of what type: from the kernel's own tables, without touching the filesystem.

Called by ``facts`` and ``holders``.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of this process's namespace."""

    filesystem: str = ""
    read_only: bool = False


def mount_id(descriptor: int) -> int:
    """The mount that an open file is on; 0 where the kernel does not tell."""
    return _number(Path(f"/proc/self/fdinfo/{descriptor}"), "mnt_id:")


def mount(identifier: int) -> Mount:
    """A mount by its number; an empty one where there is none (any more)."""
    wanted = str(identifier)
    with Path("/proc/self/mountinfo").open("rb") as table:
        for line in table:
            words = line.decode("utf-8", "surrogateescape").split(" ")
            if words[0] != wanted:
                continue
            dash = words.index("-", 6)
            options = {*words[5].split(","), *words[dash + 3].strip().split(",")}
            return Mount(words[dash + 1], "ro" in options)
    return Mount()


def _number(path: Path, key: str) -> int:
    for line in path.read_text("ascii", "replace").splitlines():
        if line.startswith(key):
            return int(line.removeprefix(key))
    return 0
