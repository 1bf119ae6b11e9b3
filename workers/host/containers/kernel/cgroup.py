"""One cgroup's own files, by its descriptor: freeze, thaw, kill whole. Versions 1 and 2.

Called by ``containers``. The directory is opened and its number compared before anything is written: a name that is
another cgroup's by now is not touched.
"""

import contextlib
import os
from collections.abc import Iterator

from workers.host.containers.hierarchies import Bearer

_FREEZER = "freezer"


def can_freeze(bearer: Bearer) -> bool:
    """Whether its hierarchy freezes."""
    return bearer.hierarchy in ("", _FREEZER)


def is_frozen(bearer: Bearer) -> bool:
    """Whether all of it stands still."""
    if bearer.hierarchy == _FREEZER:
        return _read(bearer, "freezer.state").strip() == "FROZEN"
    return "frozen 1" in _read(bearer, "cgroup.events").splitlines()


def freeze(bearer: Bearer) -> str:
    """Begin to freeze it; what speaks against that, empty for nothing."""
    if bearer.hierarchy == _FREEZER:
        return _write(bearer, "freezer.state", b"FROZEN")
    return _write(bearer, "cgroup.freeze", b"1")


def thaw(bearer: Bearer) -> str:
    """Let it go on; as ``freeze``."""
    if bearer.hierarchy == _FREEZER:
        return _write(bearer, "freezer.state", b"THAWED")
    return _write(bearer, "cgroup.freeze", b"0")


def kill(bearer: Bearer) -> str:
    """SIGKILL to all of it at once, whatever it forks (version 2, Linux 5.14); as ``freeze``."""
    if bearer.hierarchy:
        return "version 1 cannot"
    return _write(bearer, "cgroup.kill", b"1")


@contextlib.contextmanager
def _opened(bearer: Bearer, file: str, flags: int) -> Iterator[int]:
    directory = os.open(bearer.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(directory).st_ino != bearer.inode:
            raise FileNotFoundError(2, "it is another cgroup by now")
        descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(bearer: Bearer, file: str) -> str:
    try:
        with _opened(bearer, file, os.O_RDONLY) as descriptor:
            return os.read(descriptor, 4096).decode("ascii", "replace")
    except OSError:
        return ""


def _write(bearer: Bearer, file: str, word: bytes) -> str:
    try:
        with _opened(bearer, file, os.O_WRONLY) as descriptor:
            os.write(descriptor, word)
    except OSError as error:
        return f"{bearer.directory}/{file}: {error.strerror}"
    return ""
