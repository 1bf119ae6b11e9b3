"""A source of bytes that reports how much of it was read.

Made by ``gathering`` around the copy that it uploads. A store asks for the next bytes once it has those before them, so
what precedes a read is uploaded; an upload that is resumed is read from its beginning, and its progress starts there
again for as long as that takes. Must never prevent a read.
"""

from dataclasses import dataclass

from workers.domain.ids import ExecutionId
from workers.host.evidence.ports import ProgressBoard
from workers.store.objects.ports import ObjectSource


@dataclass(frozen=True, slots=True)
class ProgressSource:
    """An ``ObjectSource`` that reports each read of the one it wraps to a ``ProgressBoard``."""

    source: ObjectSource
    execution_id: ExecutionId
    board: ProgressBoard

    @property
    def size(self) -> int:
        return self.source.size

    @property
    def sha256(self) -> str:
        return self.source.sha256

    def read_at(self, offset: int, length: int) -> bytes:
        self.board.update(self.execution_id, done=offset, size=self.source.size)
        return self.source.read_at(offset, length)

    def link(self, directory: int, name: str) -> bool:
        return self.source.link(directory, name)

    def close(self) -> None:
        self.source.close()
