"""Makes history anew out of the log, in a store beside the live one, and replaces that one with it.

Called by wiring for ``douse history rebuild``; calls a projector on the new store. A projector may go on folding
into the live store meanwhile: it loses nothing, and waits only while the last few records are folded and the stores are
exchanged. Raises no alarms: what was wrong with the log was reported when it was first read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from workers.domain.history.rebuild import Rebuilt
from workers.domain.history.retention import Cutoffs
from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.log.record import Headers, LogPosition, Record
from workers.domain.node_state import NodeState
from workers.domain.outcome import NOTHING, Values
from workers.domain.result import ActionResult
from workers.projector.bounded_log import BoundedLog
from workers.projector.projector import Projector
from workers.store.history.ports import HistoryStore, LiveHistory, Rebuilding
from workers.system.ports import Failpoints
from workers.wire.ports import RecordTx

FOLDED: Final = "rebuild.folded"
CARRIED: Final = "rebuild.carried"
COMPARED: Final = "rebuild.compared"
CAUGHT_UP: Final = "rebuild.caught_up"
HELD: Final = "rebuild.held"
SETTLED: Final = "rebuild.settled"
REPLACED: Final = "rebuild.replaced"
LET_GO: Final = "rebuild.let_go"
FAILPOINTS: Final = (FOLDED, CARRIED, COMPARED, CAUGHT_UP, HELD, SETTLED, REPLACED, LET_GO)

_POLL_S: Final = 1.0

_PATIENCE: Final = 10
"""Polls in a row that bring nothing before what is missing is taken for gone."""

_BARREN: Final = 0.01
"""What a poll counts for that only brought records from beyond the end: a thousand polls of a thousand records."""

_BATCH: Final = 1000

_CLOSE: Final = 5000
"""Records behind the live store at which it is held: about a second of folding."""

_ROUNDS: Final = 20
"""Times to catch up with a live store that moves on, before it is held however far ahead it is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do when the new store is there."""

    replace: bool = True
    """Replace the live one with it; else only compare."""
    even_if_different: bool = False
    """Even when the two differ. The old one is kept then."""


class Rebuild:
    """One rebuild."""

    def __init__(
        self,
        projector: Projector,
        upto: BoundedLog,
        twin: Rebuilding,
        *,
        failpoints: Failpoints,
        progress: Callable[[int], None] = lambda records: None,
    ) -> None:
        """``projector`` reads through ``upto`` and writes to ``twin.fresh``."""
        self._projector = projector
        self._upto = upto
        self._twin = twin
        self._reach = failpoints.reach
        self._progress = progress
        self._records = 0

    def run(self, choice: Choice) -> Rebuilt:
        """Fold, carry over, compare, replace.

        Raises:
            TransientFailure: the log or a database is away, or the live store is kept busy. Nothing was replaced.
        """
        # What retention has begun in the live store it would otherwise still have, and the new one not.
        forget_all(self._twin.live, Cutoffs())
        made = self._compared()
        if not choice.replace or not (made.equal or choice.even_if_different):
            return made
        self._catch_up()
        self._reach(CAUGHT_UP)
        with self._twin.held() as live:
            self._reach(HELD)
            self._follow(live.positions)
            self._finish(live)
            self._reach(SETTLED)
            kept = live.replace(keep=not made.equal)
            self._reach(REPLACED)
        self._reach(LET_GO)
        return Rebuilt(self._records, made.behind, made.carried, made.digest, made.live_digest, True, kept)

    def _compared(self) -> Rebuilt:
        with self._twin.frozen() as live:
            behind = self._follow(live.positions)
            self._reach(FOLDED)
            carried = live.copy_missing(self._upto.reach())
            self._finish(live)
            self._reach(CARRIED)
            made = Rebuilt(self._records, behind, carried, self._twin.fresh.digest(), live.digest())
        self._reach(COMPARED)
        return made

    def _finish(self, live: LiveHistory) -> None:
        live.copy_state(self._upto.reach())
        forget_all(self._twin.fresh, live.forgotten)

    def _catch_up(self) -> None:
        """Without holding anybody up."""
        for _ in range(_ROUNDS):
            with self._twin.frozen() as live:
                ends = live.positions
            before = self._records
            self._follow(ends)
            if self._records - before < _CLOSE:
                return

    def _follow(self, ends: Mapping[LogPosition, int]) -> Mapping[str, int]:
        """Fold what the log has up to there; how many records of each partition it did not give."""
        self._upto.go_on(ends)
        self._projector.start()
        idle = 0.0
        while (pending := self._upto.pending) and idle < _PATIENCE:
            taken = self._projector.step(_POLL_S)
            self._records += taken
            if taken or self._upto.pending != pending:
                idle = 0.0
            else:
                idle += _BARREN if self._upto.moved else 1.0
            self._progress(self._records)
        return self._upto.give_up()


def forget_all(store: HistoryStore, cutoffs: Cutoffs) -> None:
    """Everything that is older and not needed."""
    gone = 1
    while gone:
        with store.begin() as tx:
            gone = tx.forget(cutoffs, limit=_BATCH).total


class SilentRecorder:
    """Implements ``Recorder`` and writes nothing: what was wrong with the log was reported when it was first read."""

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
