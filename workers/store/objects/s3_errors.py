"""What a failed S3 request means, in the words of ``domain.errors``.

Called by ``s3_requests`` with the store's own error code and the HTTP status. A message names that code and nothing of
the request: neither key nor signature.
"""

from typing import Final

from workers.domain.errors import LimitExceeded, PermanentFailure, TransientFailure, WorkerError

RESEND: Final = "resend"
"""The reason of a failure after which everything is sent again, to a new upload."""

_DAMAGED_ON_THE_WAY: Final = frozenset(
    {
        "BadDigest",
        "InvalidPart",
        "InvalidPartOrder",
        "NoSuchUpload",
        "IncompleteBody",
        "EntityTooSmall",
        "RequestTimeout",
    }
)
"""The data did not arrive as it was sent, or the upload no longer exists."""

_BUSY: Final = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "ConditionalRequestConflict",
        "OperationAborted",
        "ThrottlingException",
    }
)

_FULL: Final = frozenset({"QuotaExceeded", "EntityTooLarge", "XMinioStorageFull", "InsufficientStorage"})


def failure(code: str, status: int) -> WorkerError:
    """The error for the store's ``code`` under this HTTP status.

    ``TransientFailure`` is ``store_unavailable`` or ``RESEND``, ``PermanentFailure`` ``store_refused``,
    ``LimitExceeded`` ``store_full``.
    """
    if code in _DAMAGED_ON_THE_WAY:
        return TransientFailure(f"the object store did not receive what was sent: {code}", code=RESEND)
    if code in _FULL or status == 507:
        return LimitExceeded(f"the object store is full: {code}", code="store_full")
    if code in _BUSY or status >= 500 or status in (301, 307, 408, 425, 429):
        return TransientFailure(f"the object store is temporarily unavailable: {code}", code="store_unavailable")
    return PermanentFailure(
        f"the object store refuses: {code}; `douse doctor` checks storage.s3 and its credential", code="store_refused"
    )


def unreadable() -> TransientFailure:
    """The store answered something that is not S3."""
    return TransientFailure("the object store's answer cannot be read", code="store_unavailable")
