"""What this node says of its own health: one word in the heartbeat, and the rest after a journal fault.

Written by the steps that meet a fault and by the loop when it drains; read by the heartbeat and before every claim.
"""

from typing import Final

from workers.system.ports import Clock

JOURNAL_REST_S: Final = 1.0
"""How long nothing is claimed after a journal fault. Long enough that a full disk is not hammered by every queued
command, short enough that a kill is late by a second, not by a minute, once space is there again."""


class Health:
    """Any thread may read and write: every field is one assignment."""

    def __init__(self, clock: Clock) -> None:
        """Healthy."""
        self._clock = clock
        self._rest_until_ns = 0
        self._fault = ""
        self._ending = ""

    def journal_failed(self, reason: str) -> None:
        """A commit did not become durable: stop claiming for a while."""
        self._fault = reason
        self._rest_until_ns = self._clock.monotonic_ns() + round(JOURNAL_REST_S * 1e9)

    def journal_works(self) -> None:
        """A commit became durable."""
        self._fault = ""

    def ending(self, word: str) -> None:
        """``draining``, then ``stopping``."""
        self._ending = word

    @property
    def resting(self) -> bool:
        """Whether the journal failed so lately that trying it again would be hammering."""
        return bool(self._fault) and self._clock.monotonic_ns() < self._rest_until_ns

    @property
    def word(self) -> str:
        """``ok``, ``journal``, ``draining`` or ``stopping``."""
        return self._ending or ("journal" if self._fault else "ok")
