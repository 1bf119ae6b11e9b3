"""Bearer tokens, and the limit of requests a minute.

Called by ``http.security`` on the one event-loop thread, before anything else of a request is read; nothing in here
blocks or awaits, which makes ``take`` atomic. Only the digests of tokens are kept.
"""

import hashlib
import hmac
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from workers.gateway.refusals import TooMany, Unauthorized
from workers.system.ports import Clock

MINUTE_NS: Final = 60_000_000_000

LONGEST_TOKEN: Final = 512
"""Bytes; a longer token is never valid and is not hashed."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A known caller."""

    name: str
    rights: frozenset[str] = frozenset()
    """See ``permissions``; none by default."""


class Tokens:
    """The valid tokens."""

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        """``principals`` by the SHA-256 of their token, in hex."""
        self._principals = tuple((bytes.fromhex(digest), principal) for digest, principal in principals.items())

    def is_valid(self, token: str) -> bool:
        """Whether ``principal`` would know it."""
        try:
            self.principal(token)
        except Unauthorized:
            return False
        return True

    def principal(self, token: str) -> Principal:
        """The owner of a token, compared in constant time. ``token`` is text as HTTP headers are decoded (Latin-1).

        Raises:
            Unauthorized: it is not known here.
        """
        given = token.strip(" \t").encode("latin-1", "replace")
        if not given or len(given) > LONGEST_TOKEN:
            raise Unauthorized("this token is not known here")
        digest = hashlib.sha256(given).digest()
        # All are compared, so that the time does not depend on which one matches.
        known = [principal for stored, principal in self._principals if hmac.compare_digest(digest, stored)]
        if not known:
            raise Unauthorized("this token is not known here")
        return known[0]


class RateLimit:
    """At most so many requests of one principal in any minute. The window slides, so that twice as many never pass at a
    boundary."""

    def __init__(self, a_minute: int, clock: Clock) -> None:
        """``a_minute`` is the limit."""
        self.a_minute = a_minute
        self._clock = clock
        self._taken: dict[str, deque[int]] = {}

    def take(self, principal: Principal) -> None:
        """Count one request.

        Raises:
            TooMany: the limit is reached; names when the oldest request of the minute will have left the window.
        """
        now = self._clock.monotonic_ns()
        taken = self._taken.setdefault(principal.name, deque())
        while taken and taken[0] <= now - MINUTE_NS:
            taken.popleft()
        if len(taken) >= self.a_minute:
            wait = (taken[0] + MINUTE_NS - now) / 1e9
            raise TooMany(f"more than {self.a_minute} requests in a minute", retry_after_s=wait)
        taken.append(now)
