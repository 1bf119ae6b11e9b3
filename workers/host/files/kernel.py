"""System calls that Python has no function for: openat2, renameat2 without replacing, and the inode flags of chattr.

Called by ``paths``, ``facts`` and the handles of ``quarantine``. Numbers and structures are the kernel's own (uapi
headers); every call raises ``OSError`` with the kernel's errno and nothing else.
"""

import array
import ctypes
import errno
import fcntl
import os
import platform
import struct
from typing import Final

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
RENAME_NOREPLACE: Final = 1

IMMUTABLE: Final = 0x10
APPEND_ONLY: Final = 0x20
SETTABLE: Final = 0x08 | IMMUTABLE | APPEND_ONLY | 0x40 | 0x80
"""Flags that are restored: sync, immutable, append-only, nodump, noatime. The others belong to the filesystem."""

_OPENAT2: Final = 437  # one number on every architecture
_RENAMEAT2: Final = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
_GETFLAGS: Final = 0x80086601
_SETFLAGS: Final = 0x40086602
_NO_FLAGS: Final = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})

_libc = ctypes.CDLL(None, use_errno=True)


def openat2(directory: int, path: bytes, flags: int, *, resolve: int) -> int:
    """A descriptor of ``path`` below ``directory``, resolved as ``resolve`` says."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _called(_libc.syscall(_OPENAT2, directory, path, how, len(how)))


def rename_no_replace(source: int, name: bytes, target: int, new_name: bytes) -> None:
    """Rename between two directories; ``FileExistsError`` where the new name is taken."""
    number = _RENAMEAT2.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"renameat2 is not known on {platform.machine()}")
    _called(_libc.syscall(number, source, name, target, new_name, RENAME_NOREPLACE))


def get_flags(descriptor: int) -> int:
    """The inode flags; 0 where the filesystem has none."""
    buffer = array.array("L", [0])
    try:
        fcntl.ioctl(descriptor, _GETFLAGS, buffer)
    except OSError as error:
        if error.errno in _NO_FLAGS:
            return 0
        raise
    return buffer[0] & 0xFFFFFFFF


def set_flags(descriptor: int, flags: int) -> None:
    """Make the settable flags those of ``flags``; the others stay as they are."""
    known = get_flags(descriptor)
    wanted = (known & ~SETTABLE) | (flags & SETTABLE)
    if wanted != known:
        fcntl.ioctl(descriptor, _SETFLAGS, array.array("L", [wanted]))


def _called(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
