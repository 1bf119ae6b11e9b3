"""One process a data directory: an advisory lock that the kernel releases with its holder, however that one ends.

Made by wiring before anything in the directory is opened. Decides nothing.
"""

import fcntl
import os
from pathlib import Path

from workers.domain.errors import ConfigError, InUse, Problem


class LockFile:
    """A held ``flock``; let go by ``release`` or by the end of the process."""

    def __init__(self, path: Path) -> None:
        """Take it, or refuse.

        Raises:
            InUse: another process holds it.
            ConfigError: the file cannot be made.
        """
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError((Problem(str(path), f"cannot be used as a lock: {error.strerror}"),)) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            reason = f"is in use by another worker (process {holder}); stop that one, or choose another data directory"
            raise InUse((Problem(str(path.parent), reason),)) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Idempotent. The file stays: removing it would let two processes lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
