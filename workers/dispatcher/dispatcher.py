"""The dispatcher's step functions: take what was read, do what is due; each call is one ledger transaction.

Driven by ``loop``. Whatever one record does wrong costs that record only: it becomes a dead letter, and the offset
always advances.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from workers.dispatcher import follow, intake, routes, starts, timers
from workers.dispatcher.rows import Rows
from workers.dispatcher.services import Services, Turn
from workers.dispatcher.validation import NotARequest
from workers.domain.errors import MalformedMessage, TransientFailure, WorkerError
from workers.domain.log import topics
from workers.domain.log.record import Delivery, Gap, LogPosition, Record, Start
from workers.store.ports import Ledger, LedgerTx
from workers.system.ports import Clock, Failpoints

FAILPOINTS: Final = (
    "dispatcher.intake.before_commit",
    "dispatcher.intake.after_commit",
    "dispatcher.timers.before_commit",
    "dispatcher.timers.after_commit",
)

REQUESTS: Final = (topics.REQUESTS_PEOPLE, topics.REQUESTS_RULES)


class Dispatcher:
    """Takes records and time, writes the ledger."""

    def __init__(self, services: Services, ledger: Ledger, *, clock: Clock, failpoints: Failpoints) -> None:
        """``services`` has what decisions need; the ledger makes them durable."""
        self._services = services
        self._ledger = ledger
        self._clock = clock
        self._failpoints = failpoints

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take in records of any topic the dispatcher reads: durable on return. Taking the same again is safe.

        Raises:
            LimitExceeded, PermanentFailure: as ``Ledger.begin``; nothing was taken.
            TransientFailure: ``keyset_expired``; nothing was taken.
        """
        news = self._news(deliveries)
        if not news:
            return
        try:
            self._commit(news)
        except WorkerError:
            raise
        except Exception as bug:  # noqa: BLE001 - found by going one by one; it must not stop the others
            self._services.telemetry.log("batch_failed", level="error", error=repr(bug), records=len(news))
            for delivery in news:
                self._alone(delivery)

    def tick(self) -> int:
        """Do what is due; how many rows were looked at."""
        with self._ledger.begin() as tx:
            done = timers.tick(self._turn(tx))
            self._failpoints.reach("dispatcher.timers.before_commit")
        self._failpoints.reach("dispatcher.timers.after_commit")
        return done

    def send_again(self) -> int:
        """Queue again what a lost log took with it; how many commands."""
        with self._ledger.begin() as tx:
            return timers.send_again(self._turn(tx))

    def starts(self, positions: Iterable[LogPosition]) -> Mapping[LogPosition, Start]:
        """Where to begin reading each partition."""
        known = {position: self._ledger.next_offset(position) for position in positions}
        with self._ledger.begin() as tx:
            return starts.choose(self._turn(tx), known)

    def command_topics(self) -> Sequence[tuple[str, bool]]:
        """Every topic that may hold a command, and whether new ones go there."""
        with self._ledger.begin() as tx:
            return tuple(routes.command_topics(self._turn(tx)))

    def _turn(self, tx: LedgerTx) -> Turn:
        return Turn(self._services, tx, Rows(tx, self._services.codec), self._clock.now_ns())

    def _news(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Without what was taken in before."""
        next_offsets = {delivery.position: 0 for delivery in deliveries}
        for position in next_offsets:
            next_offsets[position] = self._ledger.next_offset(position) or 0
        return [
            delivery
            for delivery in deliveries
            if isinstance(delivery, Gap) or delivery.offset >= next_offsets[delivery.position]
        ]

    def _commit(self, deliveries: Sequence[Delivery]) -> None:
        with self._ledger.begin() as tx:
            turn = self._turn(tx)
            for delivery in deliveries:
                self._take_one(turn, delivery)
            self._failpoints.reach("dispatcher.intake.before_commit")
        self._failpoints.reach("dispatcher.intake.after_commit")

    def _alone(self, delivery: Delivery) -> None:
        try:
            self._commit((delivery,))
        except WorkerError:
            raise
        except Exception as bug:  # noqa: BLE001 - a bug costs the one record that met it
            self._services.telemetry.log("record_failed", level="error", error=repr(bug))
            with self._ledger.begin() as tx:
                if isinstance(delivery, Record):
                    self._refuse(tx, delivery, "internal", f"a bug in the dispatcher: {type(bug).__name__}")
                self._advance(tx, delivery)

    def _take_one(self, turn: Turn, delivery: Delivery) -> None:
        match delivery:
            case Gap():
                self._say_gap(turn, delivery)
            case Record() if delivery.position.topic in REQUESTS:
                self._request(turn, delivery)
            case Record() if delivery.position.topic == topics.RESULTS:
                self._heard(turn, delivery, follow.result)
            case Record() if delivery.position.topic == topics.NODES:
                self._heard(turn, delivery, follow.heartbeat)
            case Record() if delivery.position.topic == topics.TOPOLOGY:
                self._topology(turn, delivery)
            case Record():
                raise ValueError(f"the dispatcher does not read {delivery.position.topic}")
        self._advance(turn.tx, delivery)

    def _request(self, turn: Turn, record: Record) -> None:
        with self._services.telemetry.span("dispatcher.request", parent=record.headers) as span:
            try:
                intake.take(turn, record, span.headers())
            except (MalformedMessage, NotARequest) as fault:
                span.note("reason", fault.reason)
                self._refuse(turn.tx, record, fault.reason, str(fault))

    def _heard(self, turn: Turn, record: Record, take: Callable[[Turn, Record], None]) -> None:
        """What does not verify means nothing here; the projector keeps it and raises the alarm."""
        try:
            take(turn, record)
        except MalformedMessage as fault:
            _await_keyset(fault)
            self._services.telemetry.count("dispatcher.unverified", labels={"reason": fault.reason})

    def _topology(self, turn: Turn, record: Record) -> None:
        """What does not verify or does not follow is never followed, and never silent: somebody wrote it."""
        try:
            routes.take(turn, record)
        except MalformedMessage as fault:
            _await_keyset(fault)
            self._services.telemetry.log("topology_refused", level="error", reason=fault.reason, error=fault.message)
            self._refuse(turn.tx, record, fault.reason, fault.message)

    def _refuse(self, tx: LedgerTx, record: Record, reason: str, message: str) -> None:
        self._services.telemetry.count("dispatcher.dead_letters", labels={"reason": reason})
        self._services.recorder.dead_letter(tx, record, reason=reason, message=message, at_ns=self._clock.now_ns())

    def _say_gap(self, turn: Turn, gap: Gap) -> None:
        self._services.telemetry.log("gap", level="error", **gap.detail)
        self._services.recorder.audit(turn.tx, "gap", at_ns=turn.now_ns, detail=gap.detail)

    @staticmethod
    def _advance(tx: LedgerTx, delivery: Delivery) -> None:
        tx.advance(delivery.position, delivery.resumed_at if isinstance(delivery, Gap) else delivery.offset + 1)


def _await_keyset(fault: MalformedMessage) -> None:
    """Passing genuine records by would lose what was said; they are read again once the keyset is renewed."""
    if fault.reason == "keyset_expired":
        raise TransientFailure(fault.message, code=fault.reason) from fault
