"""Containers that workers may kill, stop and pause: the oracle of those, where a test has an engine.

Used by `client.py`. What is true is the engine's own word; no worker is asked.
"""

from __future__ import annotations

from tests.engines import PATIENT, EngineRig

MOST = 12
"""Containers of one test: making one takes a busy machine half a second."""


class VictimContainers:
    """Makes containers, and says how they are."""

    def __init__(self, engine: EngineRig) -> None:
        self._engine = engine
        self._made = 0

    @property
    def enough(self) -> bool:
        """Whether no more should be made."""
        return self._made >= MOST

    def spawn(self) -> str:
        """One more that runs; its whole id."""
        self._made += 1
        return self._engine.run(command=PATIENT)

    def state(self, container_id: str) -> str:
        """In the engine's word."""
        return self._engine.state(container_id)
