"""The responder's life: join, step until told to stop, hand over what waits, leave.

Made by wiring, run by the command line. One thread. Rules are read once, at start: a change of rules is a restart,
which loses nothing and asks for nothing twice.
"""

from typing import Final

from workers.domain.errors import TransientFailure
from workers.log.ports import GroupReader, LogWriter
from workers.responder.responder import HELD_UP, Responder
from workers.system.ports import StopSignal, Telemetry

_POLL_S: Final = 0.25
"""How long one step waits for events; how late a stop is heard at most."""

_AGAIN_S: Final = 1.0
"""Least wait after the log was away, in seconds."""

_HELD_UP_S: Final = 0.05

_DRAIN_S: Final = 5.0


class Loop:
    """Implements ``Runnable``."""

    def __init__(self, *, responder: Responder, reader: GroupReader, writer: LogWriter, telemetry: Telemetry) -> None:
        """Owns all of them: reader and writer are closed at the end."""
        self._responder = responder
        self._reader = reader
        self._writer = writer
        self._telemetry = telemetry

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set, then hand over what waits. Blocks."""
        try:
            self._work(stop)
            self._leave()
        finally:
            self._reader.close()
            self._writer.close()

    def _work(self, stop: StopSignal) -> None:
        started = False
        while not stop.is_set():
            try:
                if not started:
                    self._responder.start()
                    started = True
                if self._responder.step(_POLL_S) == HELD_UP:
                    stop.wait(_HELD_UP_S)
            except TransientFailure as error:
                self._telemetry.log("away", level="warning", reason=error.reason, message=error.message)
                stop.wait(max(error.retry_after_s, _AGAIN_S))

    def _leave(self) -> None:
        try:
            self._responder.drain(_DRAIN_S)
        except TransientFailure as error:
            # What was not committed is read again at the next start, and asks for the same executions.
            self._telemetry.log("left_uncommitted", level="warning", reason=error.reason, message=error.message)
