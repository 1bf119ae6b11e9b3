"""One signed request to one bucket over the S3 API, sent exactly once.

Called by ``bucket``. The MinIO client's own calls cannot do what Douse needs: ``put_object`` knows no condition for an
upload in parts, nothing public lists the parts of an upload, and a failed request is repeated for minutes. So only the
client's public building blocks are used: ``helpers.BaseURL`` names the address, ``signer.sign_v4_s3`` signs,
``error.S3Error`` reads an error; urllib3 sends. Whether to try again is decided by the caller's retry policy, and
every error leaves as one of ``domain.errors``. Must never follow a redirect: it would carry a signature elsewhere.
"""

import base64
import hashlib
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from xml.etree.ElementTree import ParseError

import urllib3
from minio.credentials import Credentials
from minio.error import MinioException, S3Error
from minio.helpers import BaseURL
from minio.signer import sign_v4_s3
from minio.time import to_amz_date, utcnow
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from workers.domain.errors import TransientFailure
from workers.domain.pace import Pace
from workers.settings import S3Settings
from workers.store.objects.s3_errors import failure, unreadable

_CONNECTIONS: Final = 4
_PIECE: Final = 1 << 16
_MOST_UNSENT: Final = 1 << 17
"""Bytes that the kernel accepts beyond what is on its way: more would look sent while a slow store has none of them."""
_SOCKET_OPTIONS: Final = [
    *HTTPConnection.default_socket_options,
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT),
]
_DONE: Final = frozenset({200, 204, 206})
_NO_FAILURE: Final = frozenset({"PreconditionFailed", "NoSuchKey"})
"""Answers, not failures: the name is taken, or nothing has it."""

_HEAD_CODES: Final = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}
"""An answer to HEAD has no body that could hold a code."""


class S3Requests:
    """The bucket's address and credential; safe for several threads."""

    def __init__(self, settings: S3Settings, secret_key: str, *, connect_s: float, read_s: float) -> None:
        """Does not connect. Raises ``ValueError`` for an endpoint that cannot be one."""
        pool: dict[str, Any] = {"ca_certs": str(settings.ca_file)} if settings.ca_file else {}
        self._url = BaseURL(settings.endpoint, settings.region)
        self._bucket = settings.bucket
        self._credentials = Credentials(settings.access_key, secret_key)
        self._usual = urllib3.Timeout(connect=connect_s, read=read_s)
        self._http = urllib3.PoolManager(
            timeout=self._usual,
            retries=urllib3.Retry(0),
            maxsize=_CONNECTIONS,
            socket_options=_SOCKET_OPTIONS,
            **pool,
        )

    def send(
        self,
        method: str,
        key: str = "",
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        stream: bool = False,
        pace: Pace | None = None,
    ) -> BaseHTTPResponse | None:
        """The answer; None where a condition failed or nothing has the name. ``key`` is the whole name in the bucket,
        empty for the bucket itself. With ``stream`` the body is left to be read, and the caller releases it. With
        ``pace`` each piece of the body that the connection takes moves it, and the store may take its whole limit for
        the next piece and for the answer: however slow it is, it is given up only when it stands still.

        Raises:
            TransientFailure: ``store_unavailable``, ``resend`` (``s3_errors.RESEND``).
            PermanentFailure: ``store_refused``.
            LimitExceeded: ``store_full``.
        """
        region = self._url.region or "us-east-1"
        url = self._url.build(
            method=method,
            region=region,
            bucket_name=self._bucket,
            object_name=key or None,
            query_params=dict(query or {}),
        )
        now = utcnow()
        content = self._content_headers(body)
        signed = sign_v4_s3(
            method=method,
            url=url,
            region=region,
            headers={**(headers or {}), **content, "Host": url.netloc, "x-amz-date": to_amz_date(now)},
            credentials=self._credentials,
            content_sha256=content["x-amz-content-sha256"],
            date=now,
        )
        with translated():
            answer = self._http.urlopen(
                method,
                url.geturl(),
                redirect=False,
                body=_pieces(body, pace) if pace is not None and body else body or None,
                headers={**signed, "Content-Length": str(len(body))} if body else signed,
                preload_content=not stream,
                timeout=self._timeout(pace),
            )
            if answer.status in _DONE:
                return answer
            self._judge(method, answer)
            return None

    def _timeout(self, pace: Pace | None) -> urllib3.Timeout:
        """urllib3 sends under the limit for connecting."""
        if pace is None or not pace.limit_ns:
            return self._usual
        return urllib3.Timeout(connect=pace.limit_ns / 1e9, read=pace.limit_ns / 1e9)

    def _content_headers(self, body: bytes) -> dict[str, str]:
        if not self._url.is_https:
            return {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
        # TLS protects the body on its way: MD5 is cheaper, and the store compares it with what it received.
        headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        if body:
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        return headers

    def _judge(self, method: str, answer: BaseHTTPResponse) -> None:
        """Returns where the answer is no failure."""
        answer.read(cache_content=True)
        answer.release_conn()
        code = _HEAD_CODES.get(answer.status, "") if method == "HEAD" else _code_in(answer)
        if code in _NO_FAILURE or answer.status == 412:
            return
        raise failure(code or f"status {answer.status}", answer.status)


@contextmanager
def translated() -> Iterator[None]:
    """The network's errors as ``TransientFailure`` (``store_unavailable``), around whatever reads from the store."""
    try:
        yield
    except HTTPError as error:
        # The reason at the bottom of the chain: the outer ones repeat host and path.
        reason = type(getattr(error, "reason", None) or error).__name__
        raise TransientFailure(f"the object store does not answer: {reason}", code="store_unavailable") from error
    except (ParseError, MinioException, ValueError) as error:
        raise unreadable() from error


def _pieces(body: bytes, pace: Pace) -> Iterator[memoryview]:
    """The body piece by piece; whoever asks for the next one has sent those before it."""
    whole = memoryview(body)
    for offset in range(0, len(whole), _PIECE):
        yield whole[offset : offset + _PIECE]
        pace.moved()


def _code_in(answer: BaseHTTPResponse) -> str:
    """S3's error code; empty where the answer holds none, as one of a proxy in front of the store."""
    is_xml = "application/xml" in answer.headers.get("content-type", "").split(";")
    return (S3Error.fromxml(answer).code or "") if is_xml and answer.data else ""
