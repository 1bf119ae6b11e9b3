"""The projector's one thread: start, step until stopped, send the alarms that are left, close.

Made by ``wiring.projector``, run by the command line. Folding has a single writer by nature. Next:
``projector.projector``.
"""

from collections.abc import Callable
from typing import Final

from workers.log.ports import Relay
from workers.projector.projector import Projector
from workers.projector.pruner import Pruner
from workers.service import Service
from workers.system.ports import StopSignal, Telemetry

_POLL_S: Final = 0.25
"""How long one step waits for records; how late a stop is noticed at most."""

_LONGEST_PAUSE_S: Final = 1.0
_DRAIN_S: Final = 5.0


class Loop:
    """Implements ``Runnable``."""

    def __init__(
        self,
        *,
        projector: Projector,
        forgetting: Pruner,
        relay: Relay,
        telemetry: Telemetry,
        close: Callable[[], None],
    ) -> None:
        """``close`` closes what wiring opened; called last."""
        self._projector = projector
        self._forgetting = forgetting
        self._relay = relay
        self._telemetry = telemetry
        self._close = close

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set, then drain. Blocks.

        Raises:
            PermanentFailure: another projector owns the store, or its database refuses.
        """
        Service(self._telemetry, longest_pause_s=_LONGEST_PAUSE_S).run(
            stop, start=(self._projector.start,), step=self._step, drain=self._drain, close=self._close
        )

    def _step(self) -> None:
        self._projector.step(_POLL_S)
        self._forgetting.step()
        self._relay.step()

    def _drain(self) -> None:
        self._relay.drain(_DRAIN_S)
