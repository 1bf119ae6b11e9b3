"""Failpoints that a test arms by name, and that remember every pass."""

from __future__ import annotations

from collections import Counter


class Crash(BaseException):
    """What an armed failpoint raises: stands for the end of the process, so no `except Exception` may catch it."""


class FakeFailpoints:
    """Raises at the nth pass of an armed name; `passes` has every name reached, in order."""

    def __init__(self) -> None:
        self.passes: list[str] = []
        self._armed: dict[tuple[str, int], BaseException] = {}
        self._counts: Counter[str] = Counter()

    def arm(self, name: str, *, nth: int = 1, error: BaseException | None = None) -> None:
        """Raise `error` (a `Crash` by default) at the `nth` pass from now."""
        self._armed[name, self._counts[name] + nth] = error if error is not None else Crash(f"{name} pass {nth}")

    def disarm(self) -> None:
        """Raise at nothing that was armed and not reached."""
        self._armed.clear()

    def reach(self, name: str) -> None:
        self.passes.append(name)
        self._counts[name] += 1
        error = self._armed.pop((name, self._counts[name]), None)
        if error is not None:
            raise error
