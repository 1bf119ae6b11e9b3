"""Chance that repeats: the same seed gives the same bytes."""

from __future__ import annotations

import random


class FakeRandomness:
    """Seeded randomness."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)
