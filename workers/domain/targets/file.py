"""Facts about one file, read through a descriptor that no rename can turn into another.

Read by ``host.files``; judged by ``domain.targets.protected_files`` and by the actions on files. Pure values.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CAPABILITY: Final = b"security.capability"
"""The extended attribute that holds file capabilities."""

_SET_IDS: Final = 0o6000
"""setuid and setgid."""


class FileKind(StrEnum):
    """What kind of file has the name."""

    REGULAR = "regular file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    FIFO = "named pipe"
    SOCKET = "socket"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file it is, whatever its name: both numbers without a sign."""

    device: int
    inode: int


NO_FILE: Final = FileIdentity(0, 0)
"""No inode has the number 0."""

OVERLAY: Final = "overlay"
"""The filesystem of most containers: a file of a lower layer may become another inode when it is changed."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """One run of a container, by its init on this host: a path begins at the init's root."""

    container_id: str
    """All 64 digits."""
    started_at_ns: int
    pid: int


@dataclass(frozen=True, slots=True)
class Location:
    """Where a file is searched, and how far the search may go."""

    path: bytes
    inside: Enclosure | None = None
    """None for the host's own root."""
    allow_remote: bool = False
    """Whether a filesystem may be entered that need not answer."""


@dataclass(frozen=True, slots=True)
class FileAttribute:
    """One extended attribute; access control lists and file capabilities are some."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of data; what lies between stretches is a hole. In bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file. Times are nanoseconds since the epoch, sizes bytes."""

    kind: FileKind
    identity: FileIdentity
    parent: FileIdentity
    """The directory that its name is in."""
    ancestors: tuple[FileIdentity, ...]
    """The directories above it, nearest first, up to the root."""
    size: int
    mode: int
    """Permission bits, setuid, setgid and sticky."""
    uid: int
    gid: int
    links: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    flags: int = 0
    """Inode flags as ``chattr`` sets them; 0 where the filesystem has none."""
    parent_flags: int = 0
    attributes: tuple[FileAttribute, ...] = ()
    filesystem: str = ""
    """The type of the mount it is on."""
    read_only: bool = False
    """Whether that mount is."""
    mount_point: bool = False
    """Whether something is mounted on its very name."""
    root: FileIdentity = NO_FILE
    """The root that its path begins at."""


@dataclass(frozen=True, slots=True)
class Holders:
    """The processes that have a file open or mapped: taking its name away takes nothing from them."""

    handles: int = 0
    mappings: int = 0
    pids: tuple[int, ...] = ()


def is_privileged(mode: int, attributes: Iterable[FileAttribute]) -> bool:
    """Whether running the file gives more rights than its user has: restoring it needs the class that taking it had."""
    return bool(mode & _SET_IDS) or any(attribute.name == CAPABILITY for attribute in attributes)


def shown(path: bytes, *, longest: int = 512) -> str:
    """A path for people, at most ``longest`` characters: bytes that are no text and control characters escaped."""
    text = path.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"
