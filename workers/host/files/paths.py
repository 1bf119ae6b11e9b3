"""From an absolute path to the descriptor of the directory that holds the name, without following a single link.

Called by ``vault`` and the spool with the root that the path begins at. openat2 where the kernel has and
allows it; else, and where the path crosses a mount, the same walk step by step, one ``O_PATH | O_NOFOLLOW`` at a time:
a mount that need not answer is recognised before anything in it is opened. What is opened here stays what it is,
whatever is renamed meanwhile.
"""

import errno
import os
import stat
from typing import Final

from workers.domain.errors import CommandRejected
from workers.domain.targets.file import FileIdentity, shown
from workers.domain.targets.protected_files import is_remote
from workers.host.files import kernel, mounts
from workers.host.files.roots import DIRECTORY, Root
from workers.system.os_errors import fault

_RESOLVE: Final = (
    kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_XDEV
)
_LONGEST: Final = 4000
"""Longer ones are walked: one call takes at most PATH_MAX (4,096) bytes."""
_LONGEST_NAME: Final = 255
"""NAME_MAX, in bytes."""
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_FALLBACK: Final = frozenset({errno.ENOSYS, errno.EPERM, errno.EXDEV})
"""An old kernel, a sandbox that filters system calls, a mount on the way."""


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


def open_parent(
    path: bytes, root: Root, *, openat2: bool = True, allow_remote: bool = False
) -> tuple[int, bytes] | None:
    """The directory (``O_PATH``) and the name in it; None where the directory is not there. The caller closes it.

    Raises:
        CommandRejected: ``invalid_target``, ``symlink_in_path`` (with the real path to ask for), ``remote_filesystem``.
        PermanentFailure, TransientFailure: as ``faults``.
    """
    directories, name = split(path)
    try:
        return _open(root, directories, openat2=openat2, allow_remote=allow_remote), name
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _linked(path, directories, name, root) from error
        if error.errno == errno.ENAMETOOLONG:
            raise CommandRejected(f"a name in {shown(path)} is too long to exist", code="invalid_target") from error
        if error.errno in _MISSING:
            return None
        raise fault(error, "opening the directory of the file") from error


def check_answers(descriptor: int, root: Root, *, allow_remote: bool) -> None:
    """Look at the mount that a descriptor is on, and at nothing that is in it.

    Raises:
        CommandRejected: ``remote_filesystem``.
        OSError: its mount was taken away.
    """
    filesystem = root.mounts.find(mounts.mount_id(descriptor)).filesystem
    if is_remote(filesystem) and not allow_remote:
        raise remote(filesystem)


def remote(filesystem: str) -> CommandRejected:
    """The refusal of a filesystem that need not answer."""
    return CommandRejected(
        f"it is on {filesystem}, which may never answer; allow_remote permits it", code="remote_filesystem"
    )


def identity(found: os.stat_result) -> FileIdentity:
    """Device and inode."""
    return FileIdentity(found.st_dev, found.st_ino)


def ancestors(directory: int) -> tuple[FileIdentity, ...]:
    """The identities of a directory and of those above it, up to the root."""
    found = [identity(os.fstat(directory))]
    at = os.dup(directory)
    try:
        while True:
            above = os.open("..", DIRECTORY, dir_fd=at)
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


def _open(root: Root, directories: tuple[bytes, ...], *, openat2: bool, allow_remote: bool) -> int:
    whole = b"/".join(directories) or b"."
    check_answers(root.descriptor, root, allow_remote=allow_remote)
    if openat2 and len(whole) <= _LONGEST:
        try:
            return kernel.openat2(root.descriptor, whole, os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
        except OSError as error:
            if error.errno not in _FALLBACK:
                raise
    return _walk(root, directories, allow_remote=allow_remote)


def _walk(root: Root, directories: tuple[bytes, ...], *, allow_remote: bool) -> int:
    at = os.dup(root.descriptor)
    on = mounts.mount_id(at)
    for part in directories:
        try:
            below = _step(at, part)
        finally:
            os.close(at)
        at = below
        try:
            if (now_on := mounts.mount_id(at)) != on:
                check_answers(at, root, allow_remote=allow_remote)
                on = now_on
        except BaseException:
            os.close(at)
            raise
    return at


def _step(directory: int, name: bytes) -> int:
    """One directory down. Raises ``OSError``: ``ELOOP`` for a link, as openat2 does."""
    try:
        return os.open(name, DIRECTORY, dir_fd=directory)
    except NotADirectoryError as error:
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if stat.S_ISLNK(os.fstat(held).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
        finally:
            os.close(held)
        raise


def _linked(path: bytes, directories: tuple[bytes, ...], name: bytes, root: Root) -> CommandRejected:
    """The refusal names the real path, with links resolved below this very root; nothing is done with it."""
    real = path
    flags, resolve = os.O_PATH | os.O_DIRECTORY, kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
    try:
        found = kernel.openat2(root.descriptor, b"/" + b"/".join(directories), flags, resolve=resolve)
    except OSError:
        pass
    else:
        real = os.readlink(b"/proc/self/fd/%d" % found).rstrip(b"/") + b"/" + name  # noqa: PTH115 - bytes
        os.close(found)
    return CommandRejected(
        f"{shown(path, longest=200)} leads through a symbolic link, which can be changed; "
        f"check {shown(real, longest=200)} and use that path",
        code="symlink_in_path",
    )
