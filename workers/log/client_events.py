"""What a Kafka client reports: its log lines, few of them, whether it can reach the log at all, and its exceptions.

``ClientEvents`` is every client's logger and error callback; it calls telemetry. It runs inside the client's ``poll``,
so it must never raise and never block. The functions turn the client's exceptions into those of ``domain.errors``; no
module of this package may let one through.
"""

from typing import Final

from confluent_kafka import KafkaError, KafkaException

from workers.domain.errors import ConfigError, Problem, TransientFailure
from workers.system.ports import Clock, Telemetry

_QUIET_NS: Final = 60_000_000_000
"""One line a kind and minute: a client that cannot connect reports it every 30 ms."""

_UNREACHABLE: Final = frozenset({"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL", "_ALL_BROKERS_DOWN"})

_CODES: Final = {
    "UNKNOWN_TOPIC_OR_PART": "unknown_topic",
    "_UNKNOWN_TOPIC": "unknown_topic",
    "_UNKNOWN_PARTITION": "unknown_partition",
    "MSG_SIZE_TOO_LARGE": "oversize",
    "INVALID_RECORD": "invalid_record",
    "TOPIC_AUTHORIZATION_FAILED": "not_authorized",
    "GROUP_AUTHORIZATION_FAILED": "not_authorized",
}


class ClientEvents:
    """The log lines and errors of one client."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._silent_until: dict[str, int] = {}
        self._kept_back: dict[str, int] = {}
        self.unreachable = ""
        """Why no broker can be reached; empty while one can, as far as is known."""
        self.fatal = False
        """The client will never work again and must be replaced."""

    def log(self, level: int, form: str, *parts: object) -> None:
        """The one method of ``logging.Logger`` that the client calls: (level, "%s [%s] %s", kind, client, text)."""
        kind = str(parts[0]) if parts else form
        now = self._clock.monotonic_ns()
        if now < self._silent_until.get(kind, 0):
            self._kept_back[kind] = self._kept_back.get(kind, 0) + 1
            return
        self._silent_until[kind] = now + _QUIET_NS
        self._telemetry.log(
            "kafka_client",
            level="warning" if level >= 30 else "info",
            kind=kind,
            text=str(parts[-1]) if parts else form,
            kept_back=self._kept_back.pop(kind, 0),
        )

    def error(self, error: KafkaError) -> None:
        """The error callback; also for an error that a consumer received instead of a record."""
        if error.fatal() or error.name() == "_FATAL":
            self.fatal = True
            self._telemetry.log("kafka_client_fatal", level="error", text=error.str())
        elif error.name() in _UNREACHABLE:
            if not self.unreachable:
                self._telemetry.log("kafka_away", level="warning", text=error.str())
            self.unreachable = error.str()

    def reached(self) -> None:
        """A broker answered."""
        if self.unreachable:
            self._telemetry.log("kafka_back")
        self.unreachable = ""


def kafka_error(error: BaseException) -> KafkaError | None:
    """The client's error inside an exception."""
    found = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return found if isinstance(found, KafkaError) else None


def code_of(error: KafkaError) -> str:
    """A stable code for an error: Douse's own where it decides something, the client's otherwise."""
    return _CODES.get(error.name(), error.name().lower().lstrip("_"))


def unavailable(what: str, error: BaseException) -> TransientFailure:
    """``what`` could not be had from the log: ``unknown_topic``, ``not_authorized``, or ``log_away``."""
    cause = kafka_error(error)
    if cause is None:
        return TransientFailure(f"{what}: {str(error) or 'no answer in time'}", code="log_away")
    code = code_of(cause)
    return TransientFailure(
        f"{what}: {cause.str()}", code=code if code in {"unknown_topic", "not_authorized"} else "log_away"
    )


def could_not_open(error: KafkaException) -> ConfigError:
    """A client refused its configuration."""
    cause = kafka_error(error)
    return ConfigError((Problem("kafka", cause.str() if cause else str(error)),))
