"""The gateway's audit chain: who requested what; refused callers are counted, never written one by one.

Called by ``intake`` and the edge; writes through ``Recorder`` into an outbox in memory that the loop's relay empties. A
caller without a token must not be able to fill the audit log: refusals become one record a minute and kind.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.log.record import Headers
from workers.domain.outcome import NOTHING, Values
from workers.gateway.principals import Principal
from workers.system.ports import Clock
from workers.wire.ports import Recorder, RecordTx

Begin = Callable[[], AbstractContextManager[RecordTx]]
"""One transaction of the outbox: exclusive (one thread may nest them), all or nothing."""


class AuditTrail:
    """Writes audit records; every method may be called from any thread."""

    def __init__(self, recorder: Recorder, begin: Begin, clock: Clock) -> None:
        """One chain per start."""
        self._recorder = recorder
        self._begin = begin
        self._clock = clock
        self._refusals: Counter[str] = Counter()

    def started(self) -> None:
        """The chain's first record."""
        self._write("started", actor="", execution_id=NO_EXECUTION, detail=NOTHING, trace=())

    def requested(
        self, what: str, person: Principal, *, execution_id: ExecutionId, detail: Values, trace: Headers
    ) -> None:
        """Record a request; called before the request is sent.

        Raises:
            TransientFailure: the log has been unavailable for so long that no audit record can be kept; nothing may be
                sent.
        """
        self._write(what, actor=person.name, execution_id=execution_id, detail=detail, trace=trace)

    def refused(self, kind: str) -> None:
        """Count a refused caller (``unauthorized``, ``forbidden``, ``too_many_requests``)."""
        with self._begin():
            self._refusals[kind] += 1

    def write_refusals(self) -> None:
        """Write one record for all callers refused since the last call; the loop calls it once a minute.

        Raises:
            TransientFailure: the log has been unavailable for long; the counts are kept.
        """
        with self._begin():
            if self._refusals:
                detail = dict(self._refusals)
                self._write("refused", actor="", execution_id=NO_EXECUTION, detail=detail, trace=())
                self._refusals.clear()

    def _write(self, kind: str, *, actor: str, execution_id: ExecutionId, detail: Values, trace: Headers) -> None:
        with self._begin() as tx:
            self._recorder.audit(
                tx,
                kind,
                at_ns=self._clock.now_ns(),
                execution_id=execution_id,
                actor=actor,
                detail=detail,
                trace=trace,
            )
