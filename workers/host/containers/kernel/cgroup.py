"""One cgroup's own files, by its descriptor: freeze, thaw, kill whole. Versions 1 and 2.

Called by ``container``. The directory is opened and its number compared before anything is written, so that another
cgroup that has the name by now is not touched.
"""

import contextlib
import os
from collections.abc import Iterator

from workers.host.containers.cgroup_hierarchies import ContainerCgroup

_FREEZER = "freezer"


def can_freeze(cgroup: ContainerCgroup) -> bool:
    """Whether its hierarchy freezes."""
    return cgroup.hierarchy in ("", _FREEZER)


def is_frozen(cgroup: ContainerCgroup) -> bool:
    """Whether all of it is frozen."""
    if cgroup.hierarchy == _FREEZER:
        return _read(cgroup, "freezer.state").strip() == "FROZEN"
    return "frozen 1" in _read(cgroup, "cgroup.events").splitlines()


def freeze(cgroup: ContainerCgroup) -> str:
    """Begin to freeze it; why that failed, empty where it did not."""
    if cgroup.hierarchy == _FREEZER:
        return _write(cgroup, "freezer.state", b"FROZEN")
    return _write(cgroup, "cgroup.freeze", b"1")


def thaw(cgroup: ContainerCgroup) -> str:
    """Thaw it; as ``freeze``."""
    if cgroup.hierarchy == _FREEZER:
        return _write(cgroup, "freezer.state", b"THAWED")
    return _write(cgroup, "cgroup.freeze", b"0")


def kill(cgroup: ContainerCgroup) -> str:
    """SIGKILL to all of it at once, whatever it forks (version 2, Linux 5.14); as ``freeze``."""
    if cgroup.hierarchy:
        return "version 1 cannot"
    return _write(cgroup, "cgroup.kill", b"1")


@contextlib.contextmanager
def _opened(cgroup: ContainerCgroup, file: str, flags: int) -> Iterator[int]:
    directory = os.open(cgroup.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(directory).st_ino != cgroup.inode:
            raise FileNotFoundError(2, "it is another cgroup by now")
        descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(cgroup: ContainerCgroup, file: str) -> str:
    try:
        with _opened(cgroup, file, os.O_RDONLY) as descriptor:
            return os.read(descriptor, 4096).decode("ascii", "replace")
    except OSError:
        return ""


def _write(cgroup: ContainerCgroup, file: str, value: bytes) -> str:
    try:
        with _opened(cgroup, file, os.O_WRONLY) as descriptor:
            os.write(descriptor, value)
    except OSError as error:
        return f"{cgroup.directory}/{file}: {error.strerror}"
    return ""
