"""A scribe that writes nothing: for a projector that reads what was read before.

Made by wiring for a rebuild.
"""

from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.log.record import Headers, Record
from workers.domain.node_state import NodeState
from workers.domain.outcome import NOTHING, Values
from workers.domain.result import ActionResult
from workers.wire.ports import RecordTx


class SilentRecorder:
    """Implements ``Recorder``."""

    def result(self, tx: RecordTx, result: ActionResult, *, trace: Headers = ()) -> bytes:
        """Nothing."""
        return b""

    def audit(
        self,
        tx: RecordTx,
        kind: str,
        *,
        at_ns: int,
        execution_id: ExecutionId = NO_EXECUTION,
        actor: str = "",
        detail: Values = NOTHING,
        trace: Headers = (),
    ) -> None:
        """Nothing."""

    def node_state(self, tx: RecordTx, state: NodeState) -> None:
        """Nothing."""

    def dead_letter(self, tx: RecordTx, record: Record, *, reason: str, message: str, at_ns: int) -> None:
        """Nothing."""
