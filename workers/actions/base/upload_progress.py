"""A source of bytes that tells how far its reader has come.

Made by ``gathering`` around what it hands to the object store. A store asks for the next bytes once it has those before
them, so what lies before a read is done; an upload that is gone on with is read from its beginning, and told from there
within the time that reading takes. Must never keep a read from happening.
"""

from dataclasses import dataclass

from workers.domain.ids import ExecutionId
from workers.host.evidence.ports import ProgressBoard
from workers.store.objects.ports import ObjectSource


@dataclass(frozen=True, slots=True)
class ProgressSource:
    """``ports.ObjectSource``, the wrapped one in all but what it tells."""

    source: ObjectSource
    execution_id: ExecutionId
    board: ProgressBoard

    @property
    def size(self) -> int:
        """As the port says."""
        return self.source.size

    @property
    def sha256(self) -> str:
        """As the port says."""
        return self.source.sha256

    def read_at(self, offset: int, length: int) -> bytes:
        """As the port says."""
        self.board.update(self.execution_id, done=offset, size=self.source.size)
        return self.source.read_at(offset, length)

    def link(self, directory: int, name: str) -> bool:
        """As the port says."""
        return self.source.link(directory, name)

    def close(self) -> None:
        """As the port says."""
        self.source.close()
