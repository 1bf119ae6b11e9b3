"""The port ``ObjectSource``: a copy on the spool, and bytes in memory.

Made by ``spool``; read by an object store.
"""

import errno
import os
from dataclasses import dataclass
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.system.os_errors import translated

_CANNOT_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})


@dataclass(slots=True)
class FileSource:
    """An open file of known size and digest."""

    descriptor: int
    size: int
    sha256: str

    def read_at(self, offset: int, length: int) -> bytes:
        with translated("reading the spool"):
            found = os.pread(self.descriptor, length, offset)
            while len(found) < length:
                more = os.pread(self.descriptor, length - len(found), offset + len(found))
                if not more:
                    raise PermanentFailure("the copy on the spool is shorter than it was", code="spool_damaged")
                found += more
        return found

    def link(self, directory: int, name: str) -> bool:
        os.fchmod(self.descriptor, 0o400)
        try:
            os.link(f"/proc/self/fd/{self.descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
        except OSError as error:
            if error.errno in _CANNOT_LINK:
                return False
            raise
        return True

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A small object in memory."""

    data: bytes
    sha256: str

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def link(self, directory: int, name: str) -> bool:
        del directory, name
        return False

    def close(self) -> None:
        """Nothing is open."""
