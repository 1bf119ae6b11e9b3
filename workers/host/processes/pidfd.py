"""What a pidfd proves: whether its process has ended, and so whether something read by pid was read of it.

Called wherever a process is held. The order matters: the descriptor first, the facts second, and then the descriptor is
polled for whether the process still lives. If it does, its pid was its own all the while, and so are the facts.
"""

import errno
import os
import resource
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from workers.domain.errors import PermanentFailure, TransientFailure

T = TypeVar("T")

SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""No descriptors, or no memory, at this moment."""
_NO_PROCESS: Final = frozenset({errno.ESRCH, errno.ENOENT, errno.EINVAL})
"""EINVAL is a number that is no pid, or a thread's."""
_WANTED_DESCRIPTORS: Final = 16_384
"""Each held process is one: a tree of 2,048 in each of the eight threads of the containment lane. The limit that a
shell or systemd sets first (1,024) is for programs that use ``select``; this worker and its libraries poll."""


def hold(pid: int) -> int | None:
    """A pidfd of the present holder of ``pid``; None when there is no such process.

    Raises:
        PermanentFailure: ``no_pidfd``.
        TransientFailure: descriptors are short.
    """
    try:
        return os.pidfd_open(pid)
    except OverflowError:
        return None
    except OSError as error:
        if error.errno in _NO_PROCESS:
            return None
        if error.errno in SHORT:
            raise TransientFailure(f"process {pid} cannot be held: {error.strerror}") from error
        raise PermanentFailure(
            f"this kernel or its seccomp profile gives no pidfd ({error.strerror}): Douse needs Linux 5.3 or newer",
            code="no_pidfd",
        ) from error


def allow_descriptors() -> int:
    """Raise this process's limit as far as is wanted and permitted; the limit now. A lower one only makes trees die in
    rounds. Called once, by wiring."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _WANTED_DESCRIPTORS:
        most = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_WANTED_DESCRIPTORS, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def ended(descriptor: int, timeout_s: float = 0.0) -> bool:
    """A pidfd becomes readable when the last thread has ended, whether or not it was reaped."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(max(0.0, timeout_s) * 1000))


def while_held(pid: int, descriptor: int, read: Callable[[], T]) -> T | None:
    """What was read of a process, if it still lived afterwards: else it may have been read of another.

    Raises:
        PermanentFailure: it lives, and its facts cannot be read (``facts_hidden``).
        TransientFailure: descriptors are short.
    """
    try:
        found = read()
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        if ended(descriptor):
            return None
        raise PermanentFailure(
            f"process {pid} lives, but /proc shows nothing of it ({error.strerror}): "
            "mounted with hidepid? Give the worker's group access (gid=), or run it as root",
            code="facts_hidden",
        ) from error
    except OSError as error:
        if error.errno in SHORT:
            raise TransientFailure(f"process {pid} cannot be read: {error.strerror}") from error
        raise
    except ValueError as error:
        raise PermanentFailure(f"/proc/{pid} cannot be read: {error}", code="facts_hidden") from error
    return None if ended(descriptor) else found
