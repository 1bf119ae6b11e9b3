"""Who is calling, and how often they may: bearer tokens and the limit of requests a minute.

Called by ``http.edge`` on its one event-loop thread, before anything else of a request is looked at; nothing in here
blocks or awaits, which is what makes ``take`` atomic. Tokens are known by their digest only.
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
"""Bytes; a longer one is none of ours, and is not worth hashing."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may call."""

    name: str
    rights: frozenset[str] = frozenset()
    """See ``permissions``; nothing where nothing was given."""


class Tokens:
    """The tokens that open the door."""

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        """Whose token has which SHA-256, in hex."""
        self._principals = tuple((bytes.fromhex(digest), principal) for digest, principal in principals.items())

    def principal(self, authorization: bytes | None) -> Principal:
        """Whose token an ``Authorization`` header carries, compared in constant time.

        Raises:
            Unauthorized: none, not a bearer token, or not one of ours.
        """
        if authorization is None:
            raise Unauthorized("no bearer token: send the header `Authorization: Bearer <token>`")
        scheme, _, token = authorization.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token or len(token) > LONGEST_TOKEN:
            raise Unauthorized("not a bearer token: send the header `Authorization: Bearer <token>`")
        digest = hashlib.sha256(token).digest()
        # Every one is compared, so that the time tells nothing about which.
        known = [principal for mine, principal in self._principals if hmac.compare_digest(digest, mine)]
        if not known:
            raise Unauthorized("this token is not known here")
        return known[0]


class RateLimit:
    """At most so many requests of one principal in any minute; the minute slides, so no boundary lets twice through."""

    def __init__(self, a_minute: int, clock: Clock) -> None:
        """``a_minute`` is how many."""
        self.a_minute = a_minute
        self._clock = clock
        self._taken: dict[str, deque[int]] = {}

    def take(self, principal: Principal) -> None:
        """Count one request.

        Raises:
            TooMany: the limit is reached; says when the oldest of the minute's requests will have passed.
        """
        now = self._clock.monotonic_ns()
        taken = self._taken.setdefault(principal.name, deque())
        while taken and taken[0] <= now - MINUTE_NS:
            taken.popleft()
        if len(taken) >= self.a_minute:
            wait = (taken[0] + MINUTE_NS - now) / 1e9
            raise TooMany(f"more than {self.a_minute} requests in a minute", retry_after_s=wait)
        taken.append(now)
