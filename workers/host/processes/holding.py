"""What a pidfd proves: whether its process has ended, and so whether something read by pid was read of it.

Called by every module of this room. The order is the point: descriptor first, facts second, and then the descriptor is
asked whether the process still lives. If it does, its pid was its own all the while, and so are the facts.
"""

import errno
import select
from collections.abc import Callable
from typing import Final, TypeVar

from workers.domain.errors import PermanentFailure, TransientFailure

T = TypeVar("T")

SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""No descriptors, or no memory, at this moment."""


def ended(descriptor: int, timeout_s: float = 0.0) -> bool:
    """A pidfd becomes readable when the last thread has ended, whether or not somebody has reaped it."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(max(0.0, timeout_s) * 1000))


def while_held(pid: int, descriptor: int, read: Callable[[], T]) -> T | None:
    """What was read of a process, if it still lived afterwards: else it may have been another's.

    Raises:
        PermanentFailure: it lives, and cannot be looked at (``facts_hidden``).
        TransientFailure: descriptors are short.
    """
    try:
        found = read()
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        if ended(descriptor):
            return None
        raise PermanentFailure(
            f"process {pid} lives, but /proc shows nothing of it ({error.strerror}): "
            "mounted with hidepid? Let the worker's group see it (gid=), or run it as root",
            code="facts_hidden",
        ) from error
    except OSError as error:
        if error.errno in SHORT:
            raise TransientFailure(f"process {pid} cannot be looked at: {error.strerror}") from error
        raise
    except ValueError as error:
        raise PermanentFailure(f"/proc/{pid} cannot be read: {error}", code="facts_hidden") from error
    return None if ended(descriptor) else found
