"""What tests of the quarantine share: files with everything a file can have, and an eye that finds their content."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

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
class Seen:
    """Everything about a file that a restore has to give back."""

    content: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    attributes: tuple[tuple[str, bytes], ...]
    holes: bool


def seen(path: Path) -> Seen:
    """Look without changing the access time that is compared."""
    facts = path.lstat()
    attributes = tuple(sorted((name, os.getxattr(path, name)) for name in os.listxattr(path)))
    return Seen(
        hashlib.sha256(path.read_bytes()).hexdigest(),
        facts.st_size,
        facts.st_mode,
        facts.st_uid,
        facts.st_gid,
        facts.st_mtime_ns,
        facts.st_atime_ns,
        attributes,
        facts.st_blocks * 512 < facts.st_size,
    )


def copies(directory: Path, vault: Path, content: bytes) -> list[str]:
    """Where exactly this content is now: under its name, parked beside it, or as a whole object of the vault."""
    found = [
        "named" if path.parent == directory else "parked"
        for path in directory.rglob("*")
        if path.is_file() and path.read_bytes() == content
    ]
    for path in vault.glob("*"):
        if path.suffix or not path.is_file():
            continue
        try:
            unpacked = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read(len(content) + 1)
        except zstandard.ZstdError:
            continue
        if unpacked == content:
            found.append("object")
    return found


def litter(directory: Path) -> list[str]:
    """What a run left behind that is nobody's file."""
    return [path.name for path in directory.rglob("*") if path.name.startswith(".douse-")]
