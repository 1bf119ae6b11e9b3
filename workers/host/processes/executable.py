"""A process's executable: its path, its inode, and whether it is the host's own.

Called by ``system``. Trust depends on the file and the directories above it, never on the path's text: inside an own
mount namespace any user may have an ``/usr/sbin/sshd``.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from workers.host.processes import proc_files

_DELETED: Final = " (deleted)"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ROOTS: Final = ("", "/proc/1/root")
"""The host's root: the worker's own, or init's where the worker runs in a container that shares the host's pids."""


@dataclass(frozen=True, slots=True)
class Executable:
    """What /proc/<pid>/exe leads to."""

    path: str = ""
    device: int = 0
    inode: int = 0
    trusted: bool = False


def executable(pid: int) -> Executable:
    """Read while the process is held. Empty for kernel threads, for a main thread that has ended before the others, and
    where it may not be read (CAP_SYS_PTRACE)."""
    link = Path(f"/proc/{pid}/exe")
    try:
        path = str(link.readlink())
        found = link.stat()
    except OSError:
        return Executable()
    return Executable(path, found.st_dev, found.st_ino, trusted=_trusted(pid, path, found))


def _trusted(pid: int, path: str, found: os.stat_result) -> bool:
    """Root's, writable by no other user, and the very file that the host has under this path.

    An upgrade replaces the file under a running service: then the inode has no name any more, and instead the process
    must be in the host's own mount namespace, where the path named the host's file.
    """
    if found.st_uid != 0 or found.st_mode & _OTHERS_WRITE or not stat.S_ISREG(found.st_mode):
        return False
    deleted = found.st_nlink == 0 and path.endswith(_DELETED)
    if deleted and not _in_hosts_mounts(pid):
        return False
    name = PurePosixPath(path.removesuffix(_DELETED) if deleted else path)
    return any(_is_hosts_own(root, name, None if deleted else found) for root in _ROOTS)


def _is_hosts_own(root: str, name: PurePosixPath, found: os.stat_result | None) -> bool:
    try:
        for directory in name.parents:
            above = os.lstat(f"{root}{directory}")
            if above.st_uid != 0 or above.st_mode & _OTHERS_WRITE or not stat.S_ISDIR(above.st_mode):
                return False
        if found is None:
            return True
        there = os.lstat(f"{root}{name}")
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)


def _in_hosts_mounts(pid: int) -> bool:
    """In init's mount namespace, or in the worker's: not even root may read init's everywhere."""
    namespace = proc_files.link(f"/proc/{pid}/ns/mnt")
    return bool(namespace) and namespace in {proc_files.link("/proc/1/ns/mnt"), proc_files.link("/proc/self/ns/mnt")}
