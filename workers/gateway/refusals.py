"""Why the gateway says no: one class an HTTP status, so that rooms refuse in words and only the edge knows numbers.

Raised by ``requests``, ``intake`` and the edge; turned into an answer by ``http.answers``. Whatever is refused was not
written: a refusal is raised before the first record leaves.
"""

from collections.abc import Mapping
from typing import ClassVar


class Refused(Exception):
    """The gateway refuses; no worker's work went wrong, so this has no disposition among ``domain.errors``."""

    code = "refused"
    status: ClassVar[int] = 400

    def __init__(self, message: str, /, *, code: str | None = None, **details: str) -> None:
        """``details`` names what was wrong with which field."""
        super().__init__(message)
        self.message = message
        self.reason = code or type(self).code
        self.details: Mapping[str, str] = details


class Invalid(Refused):
    """Something in the request is wrong or inconsistent."""

    code = "invalid_request"
    status = 400


class Unauthorized(Refused):
    """The bearer token is missing or wrong."""

    code = "unauthorized"
    status = 401


class Forbidden(Refused):
    """Who is calling may not."""

    code = "forbidden"
    status = 403


class NotFound(Refused):
    """There is no such thing."""

    code = "not_found"
    status = 404


class Conflict(Refused):
    """What is there does not allow it."""

    code = "conflict"
    status = 409


class TooLarge(Refused):
    """It is larger than what is taken."""

    code = "too_large"
    status = 413


class TooMany(Refused):
    """Too many requests in a minute."""

    code = "too_many_requests"
    status = 429

    def __init__(self, message: str, /, *, retry_after_s: float) -> None:
        """``retry_after_s`` is when the next request will be taken, in seconds from now."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
