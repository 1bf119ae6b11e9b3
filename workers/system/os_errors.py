"""Errors of the operating system to ``domain.errors``: the only module where an errno means something.

Called around every step of the vault. Never decides what to do about it.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from workers.domain.errors import LimitExceeded, PermanentFailure, TransientFailure, WorkerError

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_ALLOWED: Final = frozenset({errno.EPERM, errno.EACCES})
_IN_A_MOMENT: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Around a piece of work, named by what it is ``doing`` ("reading the file").

    Raises:
        LimitExceeded: ``failed_enospc``.
        PermanentFailure: ``refused_readonly``, ``permission``, ``io_error``.
        TransientFailure: ``busy``.
    """
    try:
        yield
    except OSError as error:
        raise fault(error, doing) from error


def fault(error: OSError, doing: str) -> WorkerError:
    """What ``error`` amounts to."""
    message = f"{doing}: {(error.strerror or str(error)).lower()}"
    if error.errno in _NO_SPACE:
        return LimitExceeded(message, code="failed_enospc")
    if error.errno == errno.EROFS:
        return PermanentFailure(message, code="refused_readonly")
    if error.errno in _NOT_ALLOWED:
        return PermanentFailure(message, code="permission")
    if error.errno in _IN_A_MOMENT:
        return TransientFailure(message, code="busy")
    return PermanentFailure(message, code="io_error")
