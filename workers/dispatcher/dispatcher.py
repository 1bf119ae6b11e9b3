"""The dispatcher's step functions: take in what was read, do what is due; each call is one ledger transaction.

Called by ``loop``. A faulty record costs that record only: it becomes a dead letter, and the offset always advances.
Next: ``intake`` for requests, ``follow`` for results and heartbeats, ``routes`` for topologies, ``timers``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from workers.dispatcher import follow, intake, routes, timers
from workers.dispatcher.clock_watch import ClockWatch
from workers.dispatcher.ledger_rows import Rows
from workers.dispatcher.services import Services
from workers.dispatcher.start_offsets import start_offsets
from workers.dispatcher.tails import Tail
from workers.dispatcher.transaction import Transaction
from workers.domain.errors import MalformedMessage, TransientFailure, WorkerError
from workers.domain.log import topics
from workers.domain.log.record import Delivery, Gap, LogPosition, Record, Start
from workers.domain.request_bounds import NotARequest
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
    """Takes records and the time, writes the ledger."""

    def __init__(self, services: Services, ledger: Ledger, *, clock: Clock, failpoints: Failpoints) -> None:
        """``services`` has what decisions need; ``ledger`` makes them durable."""
        self._services = services
        self._ledger = ledger
        self._clock = clock
        self._failpoints = failpoints
        self._clocks = ClockWatch(clock)

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take in records of any topic that the dispatcher reads: durable on return. Taking them again is safe.

        Raises:
            LimitExceeded, PermanentFailure: as ``Ledger.begin`` and ``verify``; nothing was taken in.
            TransientFailure: ``keyset_expired``; nothing was taken in.
        """
        new = self._new(deliveries)
        if not new:
            return
        try:
            self._commit(new)
        except WorkerError:
            raise
        except Exception as bug:  # noqa: BLE001 - the record that causes it is found one by one, and must not stop the others
            self._ledger.verify()  # a damaged row looks like a bug at every record that needs it
            self._services.telemetry.log("batch_failed", level="error", error=repr(bug), records=len(new))
            for delivery in new:
                self._commit_alone(delivery)

    def tick(self) -> int:
        """Do what is due, or nothing while this machine's clock is suspect; how many rows were looked at.

        Raises:
            LimitExceeded, PermanentFailure: as ``take``.
        """
        try:
            return self._tick()
        except WorkerError:
            raise
        except Exception:
            self._ledger.verify()
            raise

    def _tick(self) -> int:
        with self._ledger.begin() as ledger:
            done = timers.tick(self._transaction(ledger))
            self._failpoints.reach("dispatcher.timers.before_commit")
        self._failpoints.reach("dispatcher.timers.after_commit")
        return done

    def send_again(self) -> int:
        """Queue again the commands that were in a lost log; how many."""
        with self._ledger.begin() as ledger:
            return timers.send_again(self._transaction(ledger))

    def starts(self, positions: Iterable[LogPosition]) -> Mapping[LogPosition, Start]:
        """Where to begin reading each partition."""
        known = {position: self._ledger.next_offset(position) for position in positions}
        with self._ledger.begin() as ledger:
            return start_offsets(self._transaction(ledger), known)

    def command_topics(self) -> Sequence[tuple[str, bool]]:
        """Every topic that may hold a command, and whether new ones go there."""
        with self._ledger.begin() as ledger:
            return tuple(routes.command_topics(self._transaction(ledger)))

    def known_tails(self) -> Sequence[Tail]:
        """How far each command partition was written when a command was last sent to it."""
        with self._ledger.begin() as ledger:
            return Rows(ledger, self._services.codec).tails()

    def _transaction(self, ledger: LedgerTx) -> Transaction:
        return Transaction(
            self._services, ledger, Rows(ledger, self._services.codec), self._clocks, self._clocks.now_ns()
        )

    def _new(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
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
        with self._ledger.begin() as ledger:
            tx = self._transaction(ledger)
            for delivery in deliveries:
                self._take_one(tx, delivery)
            self._failpoints.reach("dispatcher.intake.before_commit")
        self._failpoints.reach("dispatcher.intake.after_commit")

    def _commit_alone(self, delivery: Delivery) -> None:
        try:
            self._commit((delivery,))
        except WorkerError:
            raise
        except Exception as bug:  # noqa: BLE001 - a bug costs the one record that met it
            self._services.telemetry.log("record_failed", level="error", error=repr(bug))
            with self._ledger.begin() as ledger:
                if isinstance(delivery, Record):
                    self._dead_letter(ledger, delivery, "internal", f"a bug in the dispatcher: {type(bug).__name__}")
                self._advance(ledger, delivery)

    def _take_one(self, tx: Transaction, delivery: Delivery) -> None:
        match delivery:
            case Gap():
                self._services.telemetry.log("gap", level="error", **delivery.detail)
                self._services.recorder.audit(tx.ledger, "gap", at_ns=tx.now_ns, detail=delivery.detail)
            case Record() if delivery.position.topic in REQUESTS:
                self._take_request(tx, delivery)
            case Record() if delivery.position.topic == topics.RESULTS:
                self._take_from_node(tx, delivery, follow.take_result)
            case Record() if delivery.position.topic == topics.NODES:
                self._take_from_node(tx, delivery, follow.take_heartbeat)
            case Record() if delivery.position.topic == topics.TOPOLOGY:
                self._take_topology(tx, delivery)
            case Record():
                raise ValueError(f"the dispatcher does not read {delivery.position.topic}")
        self._advance(tx.ledger, delivery)

    def _take_request(self, tx: Transaction, record: Record) -> None:
        with self._services.telemetry.span("dispatcher.request", parent=record.headers) as span:
            try:
                intake.take(tx, record, span.headers())
            except (MalformedMessage, NotARequest) as fault:
                if isinstance(fault, MalformedMessage):
                    _raise_if_keyset_expired(fault)
                span.note("reason", fault.reason)
                self._dead_letter(tx.ledger, record, fault.reason, str(fault))

    def _take_from_node(self, tx: Transaction, record: Record, take: Callable[[Transaction, Record], None]) -> None:
        """A record that does not verify means nothing here; the projector keeps it and raises the alarm."""
        try:
            take(tx, record)
        except MalformedMessage as fault:
            _raise_if_keyset_expired(fault)
            self._services.telemetry.count("dispatcher.unverified", labels={"reason": fault.reason})

    def _take_topology(self, tx: Transaction, record: Record) -> None:
        """A record that does not verify, or does not follow what is known, is refused and always reported."""
        try:
            routes.take(tx, record)
        except MalformedMessage as fault:
            _raise_if_keyset_expired(fault)
            self._services.telemetry.log("topology_refused", level="error", reason=fault.reason, error=fault.message)
            self._dead_letter(tx.ledger, record, fault.reason, fault.message)

    def _dead_letter(self, ledger: LedgerTx, record: Record, reason: str, message: str) -> None:
        self._services.telemetry.count("dispatcher.dead_letters", labels={"reason": reason})
        self._services.recorder.dead_letter(ledger, record, reason=reason, message=message, at_ns=self._clock.now_ns())

    @staticmethod
    def _advance(ledger: LedgerTx, delivery: Delivery) -> None:
        ledger.advance(delivery.position, delivery.resumed_at if isinstance(delivery, Gap) else delivery.offset + 1)


def _raise_if_keyset_expired(fault: MalformedMessage) -> None:
    """Genuine records must not be skipped: they are read again once the keyset is renewed."""
    if fault.reason == "keyset_expired":
        raise TransientFailure(fault.message, code=fault.reason) from fault
