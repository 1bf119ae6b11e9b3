"""One sync of the disk for all threads that wait at the same time.

Made by ``store.sqlite.database``, which numbers its commits. On a disk that takes 10 ms a sync, eight threads that
sync one after the other share a hundred commits a second; here they share syncs.
"""

from collections.abc import Callable
from threading import Lock


class GroupSync:
    """Any thread. Commits are numbered upwards from 1, each made before its number is asked for."""

    def __init__(self, sync: Callable[[], None], newest: Callable[[], int]) -> None:
        """``sync`` makes everything written so far durable, or raises ``OSError``; ``newest`` is the number of the
        newest commit."""
        self._sync = sync
        self._newest = newest
        self._turn = Lock()
        self._durable = 0
        self._failed: OSError | None = None

    def reach(self, number: int) -> None:
        """Return once the commit of this number, and all before it, are durable. Blocks on the disk: for the sync
        that is under way, which began too early to count, and for one more that all waiting threads share.

        Raises:
            OSError: the disk failed, now or ever before: what it dropped then, no later sync brings back.
        """
        if self._durable >= number:
            return
        with self._turn:
            if self._failed is not None:
                raise self._failed
            if self._durable >= number:
                return
            covered = self._newest()
            try:
                self._sync()
            except OSError as error:
                self._failed = error
                raise
            self._durable = covered
