"""One bucket over the S3 API: the few calls that Douse makes, each a single request that is never repeated here.

Made by ``open_bucket``, called by ``s3``. The client library's own uploads know no condition and repeat requests for
minutes, so its request function is used and nothing above it. Whether to try again is decided by the retry doorway,
and every error leaves in the words of ``domain.errors``. Must never follow a redirect: it would carry a signature
elsewhere."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

import urllib3
from minio import Minio
from minio.datatypes import ListMultipartUploadsResult, ListPartsResult

from workers.domain.errors import ConfigError, PermanentFailure, Problem, TransientFailure
from workers.settings import S3Settings
from workers.store.objects.s3_faults import RESEND, translated

CONNECT_S: Final = 5.0
READ_S: Final = 20.0
"""Between two signs of life. A part has to be stored before it is answered: 16 MiB at under 1 MB/s are given up."""
_CONNECTIONS: Final = 4
_LONGEST_ANSWER: Final = 4 << 20
_IF_FREE: Final = {"If-None-Match": "*"}
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Head:
    """What the store says of an object."""

    size: int
    sha256: str
    """As its uploader stated it; empty where it states none."""


class Bucket(Minio):
    """A bucket; safe for several threads."""

    def __init__(self, settings: S3Settings, secret_key: str, *, connect_s: float, read_s: float) -> None:
        """Does not connect."""
        scheme, _, endpoint = settings.endpoint.partition("://")
        pool: dict[str, Any] = {"ca_certs": str(settings.ca_file)} if settings.ca_file else {}
        super().__init__(
            endpoint,
            settings.access_key,
            secret_key,
            secure=scheme == "https",
            region=settings.region,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=connect_s, read=read_s),
                retries=urllib3.Retry(0),
                maxsize=_CONNECTIONS,
                **pool,
            ),
        )
        self._name = settings.bucket
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._encrypted = {"x-amz-server-side-encryption": settings.encryption} if settings.encryption else {}
        self.part_size = settings.part_size_mb << 20

    def put(self, key: str, data: bytes, sha256: str) -> bool:
        """Store a small object where nothing has its name; False where something has."""
        headers = {
            **_OCTETS,
            **_IF_FREE,
            **self._encrypted,
            **_digest_header(sha256),
            "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        }
        return self._ask("PUT", key, body=data, headers=headers) is not None

    def head(self, key: str) -> Head | None:
        """What the store says of an object; None where there is none."""
        found = self._ask("HEAD", key)
        if found is None:
            return None
        return Head(int(found.headers.get("content-length", -1)), found.headers.get("x-amz-meta-sha256", ""))

    def get(self, key: str) -> Any:
        """The open answer that an object is read from; None where there is none. The caller closes and releases it."""
        return self._ask("GET", key, preload_content=False)

    def begin(self, key: str, sha256: str) -> str:
        """Begin an upload in parts; its id."""
        headers = {**_OCTETS, **self._encrypted, **_digest_header(sha256)}
        found = self._ask("POST", key, headers=headers, query={"uploads": ""})
        upload = _between(found.data, b"<UploadId>", b"</UploadId>")
        if not upload:
            raise TransientFailure("the object store began an upload without saying which", code="store_unavailable")
        return upload

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Send one part; the tag by which ``finish`` names it."""
        found = self._ask("PUT", key, body=data, query={"partNumber": str(number), "uploadId": upload})
        return str(found.headers.get("etag", "")).strip('"')

    def finish(self, key: str, upload: str, tags: Sequence[str]) -> bool:
        """Make the parts the object where nothing has its name; False where something has."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{_escaped(tag)}&quot;</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        headers = {"Content-Type": "application/xml", **_IF_FREE}
        found = self._ask("POST", key, body=body, headers=headers, query={"uploadId": upload})
        if found is None:
            return False
        if b"CompleteMultipartUploadResult" not in found.data:
            # S3 says 200 first and may add an error after it.
            code = _between(found.data, b"<Code>", b"</Code>") or "no result"
            raise TransientFailure(f"the object store did not put the parts together: {code}", code="store_unavailable")
        return True

    def abort(self, key: str, upload: str) -> None:
        """End an upload; what was sent of it is forgotten. Idempotent."""
        try:
            self._ask("DELETE", key, query={"uploadId": upload})
        except TransientFailure as error:
            if error.reason != RESEND:  # it is no more
                raise

    def uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Key and id of every upload that was begun and neither finished nor aborted, of keys that begin so."""
        found: list[tuple[str, str]] = []
        query = {"uploads": "", "prefix": self._prefix + prefix, "max-uploads": "1000", "encoding-type": "url"}
        while True:
            with translated():
                page = ListMultipartUploadsResult(self._execute("GET", self._name, query_params=dict(query)))
            for each in page.uploads:
                key = unquote_plus(each.object_name)
                if each.upload_id and key.startswith(self._prefix + prefix):
                    found.append((key.removeprefix(self._prefix), each.upload_id))
            if not page.is_truncated or not page.next_key_marker:
                return found
            query |= {"key-marker": page.next_key_marker, "upload-id-marker": page.next_upload_id_marker or ""}

    def parts(self, key: str, upload: str) -> Mapping[int, tuple[int, str]]:
        """Size and tag of each part that the store has of an upload, by number."""
        found: dict[int, tuple[int, str]] = {}
        query = {"uploadId": upload, "max-parts": "1000"}
        while True:
            answer = self._ask("GET", key, query=dict(query))
            if answer is None:
                return found
            with translated():
                page = ListPartsResult(answer)
            for each in page.parts:
                found[each.part_number] = (each.size or 0, (each.etag or "").strip('"'))
            if not page.is_truncated or not page.next_part_number_marker:
                return found
            query["part-number-marker"] = str(page.next_part_number_marker)

    def _ask(
        self,
        method: str,
        key: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        preload_content: bool = True,
    ) -> Any:
        """One request; None where a condition failed or nothing has the name."""
        with translated() as answer:
            answer.found = self._execute(
                method,
                self._name,
                self._prefix + key,
                body=body,
                headers=dict(headers or {}),
                query_params=dict(query or {}),
                preload_content=preload_content,
                no_body_trace=True,
            )
        return answer.found


def open_bucket(settings: S3Settings, *, connect_s: float = CONNECT_S, read_s: float = READ_S) -> Bucket:
    """The configured bucket.

    Raises:
        ConfigError: the secret key or the certificate authority cannot be read.
    """
    try:
        secret = settings.secret_key_file.read_text("utf-8").strip()
        if settings.ca_file is not None:
            settings.ca_file.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((Problem("storage.s3", f"cannot be used: {error}"),)) from error
    if not secret:
        raise ConfigError((Problem("storage.s3.secret_key_file", f"{settings.secret_key_file} is empty"),))
    try:
        return Bucket(settings, secret, connect_s=connect_s, read_s=read_s)
    except ValueError as error:
        raise ConfigError((Problem("storage.s3.endpoint", str(error)),)) from error


def _digest_header(sha256: str) -> Mapping[str, str]:
    return {"x-amz-meta-sha256": sha256}


def _escaped(tag: str) -> str:
    if not all(c.isalnum() or c in "-_.=+/" for c in tag):
        raise PermanentFailure("the object store names a part in a way that no store does", code="store_refused")
    return tag


def _between(data: bytes, left: bytes, right: bytes) -> str:
    return data.partition(left)[2].partition(right)[0].decode("utf-8", "replace")
