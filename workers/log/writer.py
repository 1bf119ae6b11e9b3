"""``LogWriter`` on Kafka: an idempotent producer that reports what became of every record under its token.

Made by ``wiring`` for every worker; one thread uses it. A record is retried in order until the log has it or refuses it
for good; only then does its ``Ack`` come. Must never drop a record without an ``Ack``, save when it is closed.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from workers.domain.errors import MalformedMessage, TransientFailure
from workers.domain.ids import LogId
from workers.domain.log.record import LogPosition, OutRecord
from workers.log.client_events import ClientEvents, code_of, could_not_open, kafka_error
from workers.log.config import writer_config
from workers.log.ports import Ack
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_REPLACE_NS: Final = 1_000_000_000
"""The least between two producers: one whose broker refuses it breaks again at once."""

_PURGE_S: Final = 1.0
"""How long a broken client gets to report what it still holds; nothing is sent any more, so it takes milliseconds."""


class KafkaLogWriter:
    """One producer, replaced when it breaks for good."""

    def __init__(self, settings: KafkaSettings, *, telemetry: Telemetry, clock: Clock) -> None:
        """Raises ``ConfigError``.

        Connects and takes its producer id in the background, which takes up to a second: made at a worker's start, it
        is warm before the first record.
        """
        self._settings = settings
        self._log_id = LogId(settings.log_id)
        self._telemetry = telemetry
        self._clock = clock
        self._acks: deque[Ack] = deque()
        self._waiting = 0
        self._closed = False
        self._events, self._client = self._open()

    def send(self, record: OutRecord, *, token: int) -> None:
        if self._events.fatal and not self._replaced():
            raise TransientFailure("the producer broke; a new one is made within a second", code="log_away")
        arguments: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
        try:
            self._client.produce(
                record.topic,
                record.value,
                record.key,
                headers=list(record.headers),
                on_delivery=partial(self._delivered, token),
                **arguments,
            )
        except BufferError as error:
            raise TransientFailure("too many records wait for the log", code="queue_full") from error
        except KafkaException as error:
            self._refused(record, token, error)
        else:
            self._waiting += 1

    def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
        """Does not wait when nothing is under way."""
        self._poll(0)
        until = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while not self._acks and self._waiting and (left := until - self._clock.monotonic_ns()) > 0:
            self._poll(left / 1e9)
        if self._events.fatal:
            self._replaced()
        found = tuple(self._acks)
        self._acks.clear()
        return found

    def flush(self, timeout_s: float) -> int:
        with self._watched():
            self._client.flush(timeout_s)
        return self._waiting

    def close(self) -> None:
        """Idempotent. What has no ack yet may or may not reach the log; its outbox still has it."""
        if not self._closed:
            self._closed = True
            self._purge()

    def _poll(self, timeout_s: float) -> None:
        with self._watched():
            self._client.poll(timeout_s)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        # The client raises a fatal error out of whatever call serves its callbacks; the callback does not get it.
        try:
            yield
        except KafkaException as error:
            cause = kafka_error(error)
            if cause is None or not cause.fatal():
                raise
            self._events.error(cause)

    def _purge(self) -> None:
        self._client.purge()
        with self._watched():
            self._client.flush(_PURGE_S)

    def _open(self) -> tuple[ClientEvents, Producer]:
        events = ClientEvents(self._telemetry, self._clock)
        self._opened_ns = self._clock.monotonic_ns()
        try:
            return events, Producer(writer_config(self._settings) | {"error_cb": events.error}, logger=events)
        except KafkaException as error:
            raise could_not_open(error) from error

    def _replaced(self) -> bool:
        # An idempotent producer that has lost track of what the log has stops for good, and so does one without the
        # right to write; a new one starts over, and the outbox sends again what is now reported as failed.
        if self._clock.monotonic_ns() - self._opened_ns < _REPLACE_NS:
            return False
        self._purge()
        self._events, self._client = self._open()
        return True

    def _refused(self, record: OutRecord, token: int, error: KafkaException) -> None:
        cause = kafka_error(error)
        code = code_of(cause) if cause is not None else "refused"
        if code == "oversize":
            size = len(record.value or b"")
            raise MalformedMessage(f"{size} bytes are too many for {record.topic}", code=code) from error
        self._acks.append(Ack(token, code))

    def _delivered(self, token: int, error: KafkaError | None, message: Message) -> None:
        self._waiting -= 1
        if error is not None:
            self._acks.append(Ack(token, code_of(error)))
            return
        position = LogPosition(self._log_id, message.topic() or "", message.partition() or 0)
        offset = message.offset()
        self._acks.append(Ack(token, position=position, offset=-1 if offset is None else offset))
