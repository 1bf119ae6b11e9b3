"""Network namespaces: held by a descriptor, entered for as long as it takes to make a socket, and left again.

Called by ``namespace`` and ``system``. A socket belongs to the namespace in which it was made and works from any other,
so a thread is away for microseconds only, between two system calls that only the end of this process can interrupt.
That is why there is no helper process: it would have the same privileges, all the time, for the same two calls, and
would have to be supervised. A thread that could not return would act on the wrong network from then on; the kernel has
no reason to refuse the return that it did not have before, and if it does, this process ends at once: its next start
finds the claim and probes its effect.
"""

import ctypes
import os
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000
_OWN: Final = "/proc/thread-self/ns/net"
CANNOT_RETURN: Final = 70
"""Exit status of a process with a thread that could not return: EX_SOFTWARE."""

_libc = ctypes.CDLL(None, use_errno=True)


def own() -> int:
    """A descriptor of the calling thread's namespace."""
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


def of_process(pid: int) -> int | None:
    """A descriptor of a process's namespace; None when it has ended.

    Raises ``PermissionError`` where the kernel denies it.
    """
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None


def inode(descriptor: int) -> int:
    """Which namespace it is, as long as it is held."""
    return os.fstat(descriptor).st_ino


def inside(descriptor: int, make: Callable[[], T], *, enter: Callable[[int], None] | None = None) -> T:
    """What ``make`` returns with the calling thread in that namespace; the thread is back in its own afterwards.

    Raises ``OSError`` where the kernel does not let it in. ``enter`` stands in for setns in tests.
    """
    enter = enter or _setns
    home = own()
    try:
        enter(descriptor)
        try:
            return make()
        finally:
            try:
                enter(home)
            except OSError:
                os._exit(CANNOT_RETURN)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
