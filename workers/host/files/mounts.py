"""Which mount a descriptor is on, and of what type: from the kernel's own tables, without touching the filesystem.

Called by ``roots``, ``paths`` and ``facts``.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OWN: Final = "/proc/self/mountinfo"
_PART: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a namespace."""

    identifier: int = 0
    device: str = ""
    """Major and minor number, as the kernel writes them."""
    root: str = "/"
    """What of its filesystem is mounted; more than this names a part of it, as bind mounts do."""
    point: str = "/"
    """Its path, below the root of the process that the table belongs to."""
    filesystem: str = ""
    read_only: bool = False


class MountTable:
    """The mounts of one namespace; held open, it can be read after the process it belongs to has ended."""

    def __init__(self, path: str = OWN) -> None:
        """Raises ``OSError``."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def find(self, identifier: int) -> Mount:
        """A mount by its number. Raises ``OSError`` (``ESTALE``) where it is in the table no more."""
        for each in self:
            if each.identifier == identifier:
                return each
        raise OSError(errno.ESTALE, "the mount that it is on was taken away")

    def __iter__(self) -> Iterator[Mount]:
        """Every mount, as they are now."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        whole = b""
        while part := os.read(self._descriptor, _PART):
            whole += part
        return map(_mount, whole.decode("utf-8", "surrogateescape").splitlines())

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def mount_id(descriptor: int) -> int:
    """The mount that an open file is on; 0 where the kernel does not show it."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii", "replace").splitlines():
        if line.startswith("mnt_id:"):
            return int(line.removeprefix("mnt_id:"))
    return 0


def _mount(line: str) -> Mount:
    words = line.split(" ")
    dash = words.index("-", 6)
    options = {*words[5].split(","), *words[dash + 3].split(",")}
    return Mount(
        identifier=int(words[0]),
        device=words[2],
        root=_plain(words[3]),
        point=_plain(words[4]),
        filesystem=words[dash + 1],
        read_only="ro" in options,
    )


def _plain(text: str) -> str:
    """Spaces, tabs, newlines and backslashes stand in the table as three octal digits."""
    parts = text.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])
