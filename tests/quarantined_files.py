"""What tests of files share: access lists and capabilities to give them, and where a file's content is now."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

from workers.domain.target import ReviewedFile

CAPABILITY: Final = "security.capability"
ACL: Final = "system.posix_acl_access"

NET_RAW: Final = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""`cap_net_raw=ep`, as the kernel stores it (VFS_CAP_REVISION_2)."""


def acl(mode: int, *, user: int) -> bytes:
    """An access list: one named user may read; version 2, each entry tag, permissions, id."""
    nobody = 0xFFFFFFFF
    entries = [
        (0x01, mode >> 6 & 7, nobody),
        (0x02, 4, user),
        (0x04, mode >> 3 & 7, nobody),
        (0x10, 7, nobody),
        (0x20, mode & 7, nobody),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@dataclass(frozen=True)
class FileState:
    """Everything about a file that a restore has to give back."""

    content: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    attributes: tuple[tuple[str, bytes], ...]
    data: tuple[tuple[int, int], ...]
    """Where it has data; between these are holes."""


def file_state(path: Path) -> FileState:
    """Read everything, and leave the access time alone."""
    facts = path.lstat()
    attributes = tuple(sorted((name, os.getxattr(path, name)) for name in os.listxattr(path)))
    return FileState(
        hashlib.sha256(content(path)).hexdigest(),
        facts.st_size,
        facts.st_mode,
        facts.st_uid,
        facts.st_gid,
        facts.st_mtime_ns,
        facts.st_atime_ns,
        attributes,
        data_map(path),
    )


def content(path: Path) -> bytes:
    """All of it, the access time left alone."""
    with open(path, "rb", opener=_without_access_time) as file:
        return file.read()


def data_map(path: Path) -> tuple[tuple[int, int], ...]:
    """Where each stretch of data starts and ends."""
    found: list[tuple[int, int]] = []
    end = 0
    with open(path, "rb", buffering=0, opener=_without_access_time) as file:
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return tuple(found)
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, end))


def _without_access_time(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOATIME)


def reviewed(path: Path) -> ReviewedFile:
    """The file as a person saw it before asking for its quarantine."""
    found = path.lstat()
    return ReviewedFile(
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        hashlib.sha256(content(path)).hexdigest(),
        found.st_nlink,
    )


def copies(directory: Path, vault: Path, wanted: bytes) -> list[str]:
    """Where exactly this content is now: under its name, parked beside it, or as a whole object of the vault."""
    found = [
        "named" if path.parent == directory else "parked"
        for path in directory.rglob("*")
        if path.is_file() and content(path) == wanted
    ]
    for path in vault.glob("*"):
        if path.suffix or not path.is_file():
            continue
        try:
            unpacked = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read(len(wanted) + 1)
        except zstandard.ZstdError:
            continue
        if unpacked == wanted:
            found.append("object")
    return found


def litter(directory: Path) -> list[str]:
    """What a run left behind that is nobody's file."""
    return [path.name for path in directory.rglob("*") if path.name.startswith(".douse-")]
