"""One bucket over the S3 API: the few calls that Douse makes, each a single request that is never repeated here.

Made by ``open_bucket``, called by ``s3``; calls ``s3_requests``, whose head says why. Adds the configured prefix to
every key, and knows what each answer must hold.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from minio.datatypes import ListMultipartUploadsResult, ListPartsResult
from urllib3 import BaseHTTPResponse

from workers.domain.errors import ConfigError, PermanentFailure, Problem, TransientFailure
from workers.domain.pace import Pace
from workers.settings import S3Settings
from workers.store.objects.s3_errors import RESEND, unreadable
from workers.store.objects.s3_requests import S3Requests, translated

CONNECT_S: Final = 5.0
READ_S: Final = 20.0
"""Between two bytes of an answer, where the run has no pace of its own."""
_IF_FREE: Final = {"If-None-Match": "*"}
_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_DIGEST: Final = "x-amz-meta-sha256"


@dataclass(frozen=True, slots=True)
class Head:
    """What the store reports of an object."""

    size: int
    sha256: str
    """As its uploader stated it; empty where it states none."""


class Bucket:
    """A bucket; safe for several threads."""

    def __init__(self, settings: S3Settings, requests: S3Requests) -> None:
        """Use ``open_bucket``."""
        self._requests = requests
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._encrypted = {"x-amz-server-side-encryption": settings.encryption} if settings.encryption else {}
        self.part_size = settings.part_size_mb << 20

    def put(self, key: str, data: bytes, sha256: str, pace: Pace | None = None) -> bool:
        """Store a small object where nothing has its name; False where something has. ``pace`` as of ``send``."""
        headers = {
            **_OCTETS,
            **_IF_FREE,
            **self._encrypted,
            _DIGEST: sha256,
            "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        }
        return self._requests.send("PUT", self._prefix + key, body=data, headers=headers, pace=pace) is not None

    def head(self, key: str) -> Head | None:
        """What the store reports of an object; None where there is none."""
        found = self._requests.send("HEAD", self._prefix + key)
        if found is None:
            return None
        return Head(int(found.headers.get("content-length", -1)), found.headers.get(_DIGEST, ""))

    def get(self, key: str) -> BaseHTTPResponse | None:
        """The open answer that an object is read from; None where there is none. The caller closes and releases it."""
        return self._requests.send("GET", self._prefix + key, stream=True)

    def begin(self, key: str, sha256: str) -> str:
        """Begin an upload in parts; its id."""
        headers = {**_OCTETS, **self._encrypted, _DIGEST: sha256}
        found = self._requests.send("POST", self._prefix + key, headers=headers, query={"uploads": ""})
        upload = _between(_content(found), b"<UploadId>", b"</UploadId>")
        if not upload:
            raise TransientFailure("the object store began an upload without an id", code="store_unavailable")
        return upload

    def put_part(self, key: str, upload: str, number: int, data: bytes, pace: Pace | None = None) -> str:
        """Send one part; the tag by which ``finish`` names it. ``pace`` as of ``send``."""
        query = {"partNumber": str(number), "uploadId": upload}
        found = self._requests.send("PUT", self._prefix + key, body=data, query=query, pace=pace)
        if found is None:
            raise unreadable()
        return str(found.headers.get("etag", "")).strip('"')

    def finish(self, key: str, upload: str, tags: Sequence[str]) -> bool:
        """Make the parts the object where nothing has its name; False where something has."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{_checked(tag)}&quot;</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        found = self._requests.send(
            "POST",
            self._prefix + key,
            body=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode(),
            headers={"Content-Type": "application/xml", **_IF_FREE},
            query={"uploadId": upload},
        )
        if found is None:
            return False
        if b"CompleteMultipartUploadResult" not in found.data:
            # S3 answers 200 first and may add an error after it.
            code = _between(found.data, b"<Code>", b"</Code>") or "no result"
            raise TransientFailure(f"the object store did not put the parts together: {code}", code="store_unavailable")
        return True

    def abort(self, key: str, upload: str) -> None:
        """End an upload; the store forgets its parts. Idempotent."""
        try:
            self._requests.send("DELETE", self._prefix + key, query={"uploadId": upload})
        except TransientFailure as error:
            if error.reason != RESEND:  # the upload no longer exists
                raise

    def uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Key and id of every upload that was begun and neither finished nor aborted, of keys with this prefix."""
        found: list[tuple[str, str]] = []
        wanted = self._prefix + prefix
        query = {"uploads": "", "prefix": wanted, "max-uploads": "1000", "encoding-type": "url"}
        while True:
            answer = self._requests.send("GET", query=query)
            if answer is None:
                return found
            with translated():
                page = ListMultipartUploadsResult(answer)
            for each in page.uploads:
                key = unquote_plus(each.object_name)
                if each.upload_id and key.startswith(wanted):
                    found.append((key.removeprefix(self._prefix), each.upload_id))
            if not page.is_truncated or not page.next_key_marker:
                return found
            query |= {"key-marker": page.next_key_marker, "upload-id-marker": page.next_upload_id_marker or ""}

    def parts(self, key: str, upload: str) -> Mapping[int, tuple[int, str]]:
        """Size and tag of each part that the store has of an upload, by number."""
        found: dict[int, tuple[int, str]] = {}
        query = {"uploadId": upload, "max-parts": "1000"}
        while True:
            answer = self._requests.send("GET", self._prefix + key, query=query)
            if answer is None:
                return found
            with translated():
                page = ListPartsResult(answer)
            for each in page.parts:
                found[each.part_number] = (each.size or 0, (each.etag or "").strip('"'))
            if not page.is_truncated or not page.next_part_number_marker:
                return found
            query["part-number-marker"] = str(page.next_part_number_marker)


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
        return Bucket(settings, S3Requests(settings, secret, connect_s=connect_s, read_s=read_s))
    except ValueError as error:
        raise ConfigError((Problem("storage.s3.endpoint", str(error)),)) from error


def _content(answer: BaseHTTPResponse | None) -> bytes:
    return answer.data if answer is not None else b""


def _checked(tag: str) -> str:
    if not all(c.isalnum() or c in "-_.=+/" for c in tag):
        raise PermanentFailure(
            "the object store's tag of a part holds characters that no tag has", code="store_refused"
        )
    return tag


def _between(data: bytes, left: bytes, right: bytes) -> str:
    return data.partition(left)[2].partition(right)[0].decode("utf-8", "replace")
