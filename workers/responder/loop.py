"""The responder's one thread: join the group, step until stopped, send and commit what is left, close.

Made by ``wiring.responder``, run by the command line. Rules are read once, at start: a change of rules is a restart,
which loses nothing and requests nothing twice. Next: ``responder.responder``.
"""

from collections.abc import Callable
from typing import Final

from workers.domain.errors import TransientFailure
from workers.responder.responder import HELD_UP, Responder
from workers.service import Service
from workers.system.ports import StopSignal, Telemetry

_POLL_S: Final = 0.25
"""How long one step waits for events; how late a stop is noticed at most."""

_LONGEST_PAUSE_S: Final = 1.0
_HELD_UP_S: Final = 0.05
_DRAIN_S: Final = 5.0


class Loop:
    """Implements ``Runnable``."""

    def __init__(self, responder: Responder, *, telemetry: Telemetry, close: Callable[[], None]) -> None:
        """``close`` closes what wiring opened; called last."""
        self._responder = responder
        self._telemetry = telemetry
        self._close = close

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set, then drain. Blocks."""
        Service(self._telemetry, longest_pause_s=_LONGEST_PAUSE_S).run(
            stop, start=(self._responder.start,), step=self._step, drain=self._drain, close=self._close
        )

    def _step(self) -> float:
        return _HELD_UP_S if self._responder.step(_POLL_S) == HELD_UP else 0.0

    def _drain(self) -> None:
        try:
            self._responder.drain(_DRAIN_S)
        except TransientFailure as error:
            # What was not committed is read again at the next start, and requests the same executions.
            self._telemetry.log("left_uncommitted", level="warning", reason=error.reason, message=error.message)
