"""From an absolute path to the descriptor of the directory that holds the name, without following a single link.

Called by ``vault`` and ``place``. openat2 where the kernel has it and lets us; else the same walk by hand, one
``O_PATH | O_NOFOLLOW`` at a time. What is opened here stays what it is, whatever is renamed meanwhile.
"""

import errno
import os
from typing import Final

from workers.adapters.vault import kernel
from workers.adapters.vault.faults import fault
from workers.core.errors import CommandRejected
from workers.core.file import FileIdentity, shown

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE: Final = kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_BENEATH
_LONGEST: Final = 4000
"""Longer ones are walked: one call takes at most PATH_MAX (4,096) bytes."""
_LONGEST_NAME: Final = 255
"""NAME_MAX, in bytes."""
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_NO_OPENAT2: Final = frozenset({errno.ENOSYS, errno.EPERM})
"""An old kernel, or a sandbox that filters system calls."""


def split(path: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """The directories of a path and its last name.

    Raises:
        CommandRejected: ``invalid_target`` for a path that is no whole absolute path of a file.
    """
    if not path.startswith(b"/") or b"\0" in path:
        raise CommandRejected(f"{shown(path)} is no absolute path", code="invalid_target")
    parts = tuple(part for part in path.split(b"/") if part not in (b"", b"."))
    if not parts or path.endswith((b"/", b"/.")) or b".." in parts:
        raise CommandRejected(
            f"{shown(path)} is not the plain path of a file (no .., no / at its end)", code="invalid_target"
        )
    if max(map(len, parts)) > _LONGEST_NAME:
        raise CommandRejected(f"a name in {shown(path)} is too long to exist", code="invalid_target")
    return parts[:-1], parts[-1]


def open_parent(path: bytes, *, openat2: bool = True) -> tuple[int, bytes] | None:
    """The directory (``O_PATH``) and the name in it; None where the directory is not there. The caller closes it.

    Raises:
        CommandRejected: ``invalid_target``, ``symlink_in_path`` (with the real path to ask for).
        PermanentFailure, TransientFailure: as ``faults``.
    """
    directories, name = split(path)
    try:
        return _open(directories, openat2=openat2), name
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _linked(path, name) from error
        if error.errno == errno.ENAMETOOLONG:
            raise CommandRejected(f"a name in {shown(path)} is too long to exist", code="invalid_target") from error
        if error.errno in _MISSING:
            if _has_link(directories):
                raise _linked(path, name) from error
            return None
        raise fault(error, "opening the directory of the file") from error


def identity(found: os.stat_result) -> FileIdentity:
    """Device and inode."""
    return FileIdentity(found.st_dev, found.st_ino)


def ancestors(directory: int) -> tuple[FileIdentity, ...]:
    """The identities of a directory and of those above it, up to the root."""
    found = [identity(os.fstat(directory))]
    at = os.dup(directory)
    try:
        while True:
            above = os.open("..", _DIRECTORY, dir_fd=at)
            os.close(at)
            at = above
            next_one = identity(os.fstat(at))
            if next_one == found[-1]:
                return tuple(found)
            found.append(next_one)
    finally:
        os.close(at)


def readable_directory(directory: int) -> int:
    """Another descriptor of a directory, one that ``fsync`` takes."""
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)


def sync_directory(directory: int) -> None:
    """Make what was named, renamed or unlinked in it durable."""
    descriptor = readable_directory(directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(directories: tuple[bytes, ...], *, openat2: bool) -> int:
    whole = b"/".join(directories) or b"."
    root = os.open("/", _DIRECTORY)
    try:
        if openat2 and len(whole) <= _LONGEST:
            try:
                return kernel.openat2(root, whole, os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
            except OSError as error:
                if error.errno not in _NO_OPENAT2:
                    raise
        return _walk(root, directories)
    finally:
        os.close(root)


def _walk(root: int, directories: tuple[bytes, ...]) -> int:
    at = os.dup(root)
    for part in directories:
        try:
            below = os.open(part, _DIRECTORY, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def _has_link(directories: tuple[bytes, ...]) -> bool:
    """By hand a link in the way shows as "not a directory"."""
    path = b""
    for part in directories:
        path += b"/" + part
        try:
            if os.path.islink(path):  # noqa: PTH114 - bytes, and only to word a refusal
                return True
        except OSError:
            return False
    return False


def _linked(path: bytes, name: bytes) -> CommandRejected:
    try:
        real = os.path.join(os.path.realpath(os.path.dirname(path)), name)  # noqa: PTH118, PTH120 - bytes
    except OSError:
        real = path
    return CommandRejected(
        f"{shown(path, longest=200)} leads through a symbolic link, which anybody may turn elsewhere; "
        f"look at {shown(real, longest=200)} and ask for that",
        code="symlink_in_path",
    )
