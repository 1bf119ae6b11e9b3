"""The projector's life: start, step until told to stop, send what waits to be sent, close.

Made by wiring, run by the command line. One thread: folding is one writer by nature.
"""

from typing import Final

from workers.domain.errors import TransientFailure
from workers.log.ports import LogReader, LogWriter, Relay
from workers.projector.forgetting import Forgetting
from workers.projector.projector import Projector
from workers.store.history.ports import HistoryStore
from workers.system.ports import StopSignal, Telemetry

_POLL_S: Final = 0.25
"""How long one step waits for records; how late a stop is heard at most."""

_AGAIN_S: Final = 1.0
"""Least wait after the log or the store was away."""

_DRAIN_S: Final = 5.0


class Loop:
    """Implements ``Runnable``."""

    def __init__(
        self,
        *,
        projector: Projector,
        forgetting: Forgetting,
        relay: Relay,
        store: HistoryStore,
        reader: LogReader,
        writer: LogWriter,
        telemetry: Telemetry,
    ) -> None:
        """Owns all of them: they are closed at the end."""
        self._projector = projector
        self._forgetting = forgetting
        self._relay = relay
        self._store = store
        self._reader = reader
        self._writer = writer
        self._telemetry = telemetry

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set.

        Raises:
            PermanentFailure: another projector owns the store, or its database refuses.
        """
        try:
            self._work(stop)
            self._relay.drain(_DRAIN_S)
        finally:
            self._reader.close()
            self._writer.close()
            self._store.close()

    def _work(self, stop: StopSignal) -> None:
        started = False
        while not stop.is_set():
            try:
                if not started:
                    self._projector.start()
                    started = True
                self._projector.step(_POLL_S)
                self._forgetting.step()
                self._relay.step()
            except TransientFailure as error:
                self._telemetry.log("away", level="warning", reason=error.reason, message=error.message)
                stop.wait(max(error.retry_after_s, _AGAIN_S))
