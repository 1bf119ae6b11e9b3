"""What a Kafka client says about itself: its log lines, few of them, and whether it can reach the log at all.

Handed to every client as its logger and error callback; calls telemetry. Runs inside the client's ``poll``, so it must
never raise and never block.
"""

from typing import Final

from confluent_kafka import KafkaError

from workers.system.ports import Clock, Telemetry

_QUIET_NS: Final = 60_000_000_000
"""One line a kind and minute: a client that cannot connect has something to say every 30 ms."""

_UNREACHED: Final = frozenset({"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL", "_ALL_BROKERS_DOWN"})


class ClientEvents:
    """Takes in log lines and errors of one client."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._silent_until: dict[str, int] = {}
        self._kept_back: dict[str, int] = {}
        self.away = ""
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
        """The error callback; also what a consumer was handed instead of a record."""
        if error.fatal() or error.name() == "_FATAL":
            self.fatal = True
            self._telemetry.log("kafka_client_fatal", level="error", text=error.str())
        elif error.name() in _UNREACHED:
            if not self.away:
                self._telemetry.log("kafka_away", level="warning", text=error.str())
            self.away = error.str()

    def reached(self) -> None:
        """A broker answered."""
        if self.away:
            self._telemetry.log("kafka_back")
        self.away = ""
