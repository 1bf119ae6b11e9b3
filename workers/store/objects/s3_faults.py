"""Errors of the S3 client, of the network and of the store itself, in the words of ``domain.errors``.

Called around every request by ``bucket`` and ``s3``. What a person reads names the store's own code and nothing of the
request: neither key nor signature.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from workers.domain.errors import LimitExceeded, PermanentFailure, TransientFailure, WorkerError

_NOTHING: Final = frozenset({"PreconditionFailed", "NoSuchKey"})
"""No failures, but answers: something has the name, or nothing has."""

_SENT_BADLY: Final = frozenset(
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
"""What was sent did not arrive as it was sent, or was sent to an upload that is no more: to be sent anew."""

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


RESEND: Final = "resend"
"""The reason of a failure after which everything is sent again, to a fresh upload."""


@dataclass(slots=True)
class Answer:
    """What came back; None where a condition failed or nothing has the name."""

    found: Any = None


@contextmanager
def translated() -> Iterator[Answer]:
    """Around one request.

    Raises:
        TransientFailure: ``store_unavailable``, ``resend`` (``RESEND``).
        PermanentFailure: ``store_refused``.
        LimitExceeded: ``store_full``.
    """
    try:
        yield Answer()
    except S3Error as error:
        if error.code not in _NOTHING:
            raise _said(str(error.code), int(error.response.status)) from error
    except ServerError as error:
        raise _said(f"status {error.status_code}", int(error.status_code)) from error
    except InvalidResponseError as error:
        status = _status(error)
        if status == 412:
            return
        raise _said(f"status {status} without an error of S3's", status) from error
    except HTTPError as error:
        raise TransientFailure(
            f"the object store does not answer: {_short(error)}", code="store_unavailable"
        ) from error
    except (ParseError, MinioException, ValueError) as error:
        raise TransientFailure("the object store's answer cannot be read", code="store_unavailable") from error


def _said(code: str, status: int) -> WorkerError:
    if code in _SENT_BADLY:
        return TransientFailure(f"the object store did not get what was sent: {code}", code=RESEND)
    if code in _FULL or status == 507:
        return LimitExceeded(f"the object store has no room for it: {code}", code="store_full")
    if code in _BUSY or status >= 500 or status in (408, 425, 429):
        return TransientFailure(f"the object store cannot now: {code}", code="store_unavailable")
    return PermanentFailure(
        f"the object store refuses: {code}; `douse doctor` checks storage.s3 and its credential", code="store_refused"
    )


def _status(error: InvalidResponseError) -> int:
    """The library keeps it in its message alone ("… Response code: 502, …")."""
    digits = str(error).partition("code: ")[2].partition(",")[0].strip()
    return int(digits) if digits.isdigit() else 500


def _short(error: HTTPError) -> str:
    """The reason at the bottom of the chain: the outer ones repeat host and path."""
    reason = getattr(error, "reason", None) or error
    return type(reason).__name__
