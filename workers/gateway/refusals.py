"""Why the gateway refuses a request: one class per HTTP status.

Raised by ``requests``, ``intake`` and ``http``; turned into an answer by ``http.errors``. A refused request was not
written: a refusal is raised before the first record is sent.
"""

from collections.abc import Mapping
from typing import ClassVar


class Refused(Exception):
    """The gateway refuses a request. Not a ``WorkerError``: no disposition applies."""

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
    """The caller lacks the right."""

    code = "forbidden"
    status = 403


class NotFound(Refused):
    """There is no such thing."""

    code = "not_found"
    status = 404


class Conflict(Refused):
    """The present state does not allow it."""

    code = "conflict"
    status = 409


class TooLarge(Refused):
    """It is larger than the limit."""

    code = "too_large"
    status = 413


class TooMany(Refused):
    """Too many requests in a minute."""

    code = "too_many_requests"
    status = 429

    def __init__(self, message: str, /, *, retry_after_s: float) -> None:
        """``retry_after_s`` is how many seconds from now the next request will be accepted."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
