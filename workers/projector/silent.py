"""A scribe that writes nothing: for a projector that reads what was read before.

Made by bootstrap for a rebuild.
"""

from workers.core.ids import NO_EXECUTION, ExecutionId
from workers.core.node_state import NodeState
from workers.core.outcome import NOTHING, Values
from workers.core.record import Headers, Record
from workers.core.result import ActionResult
from workers.ports import Chained


class SilentScribe:
    """Implements ``Scribe``."""

    def result(self, tx: Chained, result: ActionResult, *, trace: Headers = ()) -> None:
        """Nothing."""

    def audit(
        self,
        tx: Chained,
        kind: str,
        *,
        at_ns: int,
        execution_id: ExecutionId = NO_EXECUTION,
        actor: str = "",
        detail: Values = NOTHING,
        trace: Headers = (),
    ) -> None:
        """Nothing."""

    def node_state(self, tx: Chained, state: NodeState) -> None:
        """Nothing."""

    def dead_letter(self, tx: Chained, record: Record, *, reason: str, message: str, at_ns: int) -> None:
        """Nothing."""
