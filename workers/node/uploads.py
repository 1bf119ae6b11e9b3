"""The uploads that are under way on this node, and how far each has come.

Told by gathering actions through ``ports.ProgressBoard``, one thread an execution; read by the heartbeat. Lives in
memory: a worker that starts anew has nothing under way. Holds no lock, because nobody who uploads may wait for a
heartbeat: every change is one operation on a dictionary, and the reader takes a copy.
"""

from typing import Final

from workers.domain.ids import ExecutionId
from workers.domain.node_state import Progress

MOST: Final = 16
"""Executions that are kept: several times the gathering hands, which are two. More run all the same, untold."""


class Uploads:
    """``ports.ProgressBoard``."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._told: dict[ExecutionId, Progress] = {}

    def update(self, execution_id: ExecutionId, *, done: int, size: int) -> None:
        """As the port says."""
        known = self._told.get(execution_id)
        if known is None and len(self._told) >= MOST:
            return
        if known is None or done > known.done:
            self._told[execution_id] = Progress(execution_id, done, size)

    def finish(self, execution_id: ExecutionId) -> None:
        """As the port says."""
        self._told.pop(execution_id, None)

    def now(self) -> tuple[Progress, ...]:
        """Every upload under way, the one that began first first."""
        return tuple(self._told.copy().values())
