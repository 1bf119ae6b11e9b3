"""What lies above a bind mount's root where the same filesystem is mounted whole: a part of a protected tree that is
mounted somewhere else, in a container say, is a part of that tree still.

Called by ``facts``. Names come from the kernel's tables and are used for nothing but to protect more.
"""

import os
from collections.abc import Iterator
from typing import Final

from workers.domain.targets.file import FileIdentity
from workers.domain.targets.protected_files import is_remote
from workers.host.files import paths
from workers.host.files.mounts import Mount, MountTable

_HOSTS: Final = (("", "/proc/self/mountinfo"), ("/proc/1/root", "/proc/1/mountinfo"))
"""Root and mounts of the host: the worker's own, or init's where the worker runs in a container that shares pids."""


def ancestors_beyond(mount: Mount) -> tuple[FileIdentity, ...]:
    """The directories of this host that the root of ``mount`` lies in; none where all of its filesystem is mounted."""
    if mount.root == "/" or is_remote(mount.filesystem):
        return ()
    found: dict[FileIdentity, None] = {}
    for root, table in _HOSTS:
        for name in _names(mount, table):
            try:
                above = os.open(root + name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                found |= dict.fromkeys(paths.ancestors(above))
            finally:
                os.close(above)
    return tuple(found)


def _names(mount: Mount, table: str) -> Iterator[str]:
    """Paths, on the host, of the directory that the mount's root is in."""
    try:
        host = MountTable(table)
    except OSError:
        return
    try:
        for each in host:
            whole = each.root.rstrip("/") + "/"
            if each.device == mount.device and mount.root.startswith(whole) and each.identifier != mount.identifier:
                yield os.path.dirname(each.point.rstrip("/") + "/" + mount.root.removeprefix(whole))  # noqa: PTH120
    finally:
        host.close()
