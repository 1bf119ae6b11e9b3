"""The number of the newest commit that is known to be on the disk, kept beside the database.

Called by ``store.sqlite.database``. SQLite reads its log up to the first frame that is damaged and silently drops what
comes after. The database counts its commits; one that has fewer than this file states has lost some that were reported
as durable: its log was damaged, cut or deleted, or the file is an older copy. The mark is never synced: it is written
after the commits, so that after a power failure it may be too low and never too high.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Final

_SIZE: Final = 8


class Mark:
    """The file. Any thread may write."""

    def __init__(self, path: Path) -> None:
        """Open, or create, the mark of the database at ``path``. Raises ``OSError``."""
        self.path = path.with_name(path.name + "-mark")
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """The number; 0 where it is missing or damaged, which proves nothing."""
        data = os.pread(self._descriptor, 2 * _SIZE, 0)
        number, check = data[:_SIZE], data[_SIZE:]
        return int.from_bytes(number, "big") if check == _check(number) else 0

    def write(self, number: int) -> None:
        """Best effort: a mark that is too low only proves less. A lower number than before is as true."""
        data = number.to_bytes(_SIZE, "big")
        try:
            os.pwrite(self._descriptor, data + _check(data), 0)
        except OSError:
            return

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _check(number: bytes) -> bytes:
    return blake2b(number, digest_size=_SIZE).digest()
