"""What a name leads to, read through descriptors: identity, metadata, flags, attributes, the mount it is on.

Called by the vault and its handles, and by the spool. Opens nothing but regular files for reading: a FIFO, a device or
a socket notices being opened. Never follows a link.
"""

import errno
import os
import stat
from typing import Final

from workers.domain.targets.file import FileAttribute, FileFacts, FileIdentity, FileKind
from workers.domain.targets.protected_files import KERNEL_FILESYSTEMS
from workers.host.files import kernel, mounts, paths
from workers.host.files.bind_mounts import ancestors_beyond
from workers.host.files.roots import Root

_KINDS: Final = {
    stat.S_IFREG: FileKind.REGULAR,
    stat.S_IFDIR: FileKind.DIRECTORY,
    stat.S_IFLNK: FileKind.SYMLINK,
    stat.S_IFIFO: FileKind.FIFO,
    stat.S_IFSOCK: FileKind.SOCKET,
}


def hold(directory: int, name: bytes) -> int:
    """A descriptor (``O_PATH``) of whatever has the name. Raises ``OSError``."""
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def reopen(held: int, flags: int = os.O_RDONLY) -> int:
    """The very file that is held, opened for reading, its access time left alone where we may. Raises ``OSError``."""
    path = f"/proc/self/fd/{held}"
    flags |= os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)


def examine(directory: int, name: bytes, root: Root, *, allow_remote: bool) -> FileFacts:
    """Everything about what has ``name`` in ``directory``, which was found below ``root``.

    Raises:
        CommandRejected: ``remote_filesystem``.
        OSError: of looking.
    """
    held = hold(directory, name)
    try:
        on, above_on = mounts.mount_id(held), mounts.mount_id(directory)
        if on != above_on:
            paths.check_answers(held, root, allow_remote=allow_remote)
        where = root.mounts.find(on)
        found, above = os.fstat(held), os.fstat(directory)
        regular = stat.S_ISREG(found.st_mode)
        # Opening one of the kernel's own files may be an order to it.
        openable = regular and where.filesystem not in KERNEL_FILESYSTEMS
        flags, attributes = _opened(held) if openable else (0, ())
        return FileFacts(
            kind=_KINDS.get(stat.S_IFMT(found.st_mode), FileKind.DEVICE),
            identity=paths.identity(found),
            parent=paths.identity(above),
            ancestors=(*paths.ancestors(directory), *ancestors_beyond(where)),
            size=found.st_size,
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            links=found.st_nlink,
            atime_ns=found.st_atime_ns,
            mtime_ns=found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
            flags=flags,
            parent_flags=_directory_flags(directory),
            attributes=attributes,
            filesystem=where.filesystem,
            read_only=where.read_only,
            mount_point=on != above_on,
            root=paths.identity(os.fstat(root.descriptor)),
        )
    finally:
        os.close(held)


def copy_up(directory: int, name: bytes, expected: FileIdentity) -> FileIdentity:
    """On an overlay, make a file of a lower layer one of the upper layer; the identity that it keeps from then on.

    Moving such a file would copy it up and may make it another inode, so that its identity would not prove afterwards
    that it is the file that was meant. Giving it the mode that it has copies it up in place, through a descriptor that
    holds it all the while. Raises ``OSError`` (``FileNotFoundError`` where another file has the name).
    """
    held = hold(directory, name)
    try:
        found = os.fstat(held)
        if paths.identity(found) != expected or not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(name)
        os.chmod(f"/proc/self/fd/{held}", stat.S_IMODE(found.st_mode))  # noqa: PTH101 - a descriptor
        return paths.identity(os.fstat(held))
    finally:
        os.close(held)


def attributes_of(descriptor: int) -> tuple[FileAttribute, ...]:
    """Its extended attributes, access control lists among them, in the order of their names. Raises ``OSError``."""
    try:
        names = sorted(os.listxattr(descriptor))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ()
        raise
    return tuple(FileAttribute(os.fsencode(name), os.getxattr(descriptor, name)) for name in names)


def _opened(held: int) -> tuple[int, tuple[FileAttribute, ...]]:
    descriptor = reopen(held)
    try:
        return kernel.get_flags(descriptor), attributes_of(descriptor)
    finally:
        os.close(descriptor)


def _directory_flags(directory: int) -> int:
    try:
        descriptor = paths.readable_directory(directory)
    except PermissionError:
        return 0
    try:
        return kernel.get_flags(descriptor)
    finally:
        os.close(descriptor)
