"""The doorway to tenacity: trying again, on transient failures only, with full jitter and never past a deadline.

Made by wiring; used by the node worker through the port ``Retrying``. Must never retry what an adapter did not
declare transient.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import tenacity

from workers.domain.errors import TransientFailure
from workers.system.ports import Clock

T = TypeVar("T")

_FIRST_S: Final = 0.2
_LONGEST_S: Final = 10.0
"""The wait before try n is uniform between 0 and 0.2 × 2^(n-1) s, at most 10 s: a runtime that restarts needs seconds,
and a thousand nodes that wait for one registry must not come back in step."""


class TenacityRetrying:
    """The port ``Retrying``."""

    def __init__(self, clock: Clock) -> None:
        """``clock`` is slept by and held against deadlines."""
        self._clock = clock
        self._jitter = tenacity.wait_random_exponential(multiplier=_FIRST_S, max=_LONGEST_S)

    def run(self, attempt: Callable[[int], T], *, first: int, deadline_ns: int) -> T:
        try:
            return attempt(first)
        except TransientFailure as error:
            return self._again(attempt, error, first=first, deadline_ns=deadline_ns)

    def _again(self, attempt: Callable[[int], T], failed: TransientFailure, *, first: int, deadline_ns: int) -> T:
        """From the second attempt on: tenacity gets the result of the first one. What works at once, as kills do, does
        not pay for it."""

        def too_late(state: tenacity.RetryCallState) -> bool:
            return self._clock.now_ns() + round(state.upcoming_sleep * 1e9) > deadline_ns

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientFailure),
            wait=self._wait_s,
            stop=too_late,
            sleep=self._clock.sleep,
            reraise=True,
        )
        number = first - 1

        def counted() -> T:
            nonlocal number
            number += 1
            if number == first:
                raise failed
            return attempt(number)

        return retrying(counted)

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome is not None else None
        asked_s = failure.retry_after_s if isinstance(failure, TransientFailure) else 0.0
        return max(asked_s, self._jitter(state))
