"""The object store over the S3 API: conditional puts, and large objects in parts that resume where they stopped.

Made by ``open_store`` and ``open_reader``. Of an earlier, unfinished upload only those parts are kept whose tag is the
MD5 of what this node would send; everything else is sent again, so the store's claim about what it holds is never
trusted. Tags serve to name parts and prove nothing.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from urllib3 import BaseHTTPResponse

from workers.domain.errors import PermanentFailure, TransientFailure, WorkerError
from workers.domain.ids import NodeId
from workers.domain.pace import Pace
from workers.domain.targets.custody import executed, is_object_key
from workers.store.objects.bucket import Bucket
from workers.store.objects.checks import check_digest, check_own
from workers.store.objects.ports import ObjectSource, StoredObject, Written
from workers.store.objects.s3_errors import RESEND
from workers.store.objects.s3_requests import translated

MOST_PARTS: Final = 10_000
"""S3's own limit of one upload."""


class S3Store:
    """``ports.ObjectStore``."""

    def __init__(self, bucket: Bucket, node_id: NodeId) -> None:
        """Objects lie under ``node_id``/."""
        self._bucket = bucket
        self._node_id = node_id

    def put(self, key: str, source: ObjectSource, *, pace: Pace) -> Written:
        check_own(key, self._node_id)
        if source.size > self._bucket.part_size:
            return self._put_in_parts(key, source, pace)
        pace.check()
        data = source.read_at(0, source.size)
        check_digest(hashlib.sha256(data).hexdigest(), source)
        return Written.NEW if self._bucket.put(key, data, source.sha256, pace) else Written.THERE

    def holds(self, key: str, source: ObjectSource, *, pace: Pace) -> bool | None:
        """By size and stated digest: the tag proves nothing."""
        check_own(key, self._node_id)
        pace.check()
        try:
            found = self._bucket.head(key)
        except PermanentFailure:
            return None
        if found is None:
            return False
        return found.size == source.size and found.sha256 in ("", source.sha256)

    def answers(self) -> bool:
        """A refusal is an answer too."""
        try:
            self._bucket.uploads(f"{self._node_id}/")
        except TransientFailure:
            return False
        except WorkerError:
            return True
        return True

    def unfinished(self) -> Sequence[str]:
        keys = {key for key, _ in self._bucket.uploads(f"{self._node_id}/")}
        return sorted(key for key in keys if executed(key, self._node_id) is not None)

    def give_up(self, key: str) -> None:
        check_own(key, self._node_id)
        for found, upload in self._bucket.uploads(key):
            if found == key:
                self._bucket.abort(key, upload)

    def _put_in_parts(self, key: str, source: ObjectSource, pace: Pace) -> Written:
        upload, known = self._earlier(key)
        upload = upload or self._bucket.begin(key, source.sha256)
        try:
            tags = self._sent(key, upload, source, known, pace)
            if self._bucket.finish(key, upload, tags):
                return Written.NEW
        except TransientFailure as error:
            if error.reason == RESEND:
                # Part of this upload is not what was sent: the next attempt begins a new one.
                self._abort(key, upload)
            raise
        except PermanentFailure:
            self._abort(key, upload)
            raise
        self._abort(key, upload)
        return Written.THERE

    def _sent(
        self, key: str, upload: str, source: ObjectSource, known: Mapping[int, tuple[int, str]], pace: Pace
    ) -> Sequence[str]:
        """Every part's tag, in order; parts that the store has as they are here are not sent again."""
        size = max(self._bucket.part_size, -(-source.size // MOST_PARTS))
        whole, tags = hashlib.sha256(), []
        for number, offset in enumerate(range(0, source.size, size), 1):
            pace.check()
            data = source.read_at(offset, min(size, source.size - offset))
            whole.update(data)
            kept = known.get(number)
            if kept is not None and kept == (len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()):
                tags.append(kept[1])
            else:
                tags.append(self._bucket.put_part(key, upload, number, data, pace))
            pace.moved()
        check_digest(whole.hexdigest(), source)
        return tags

    def _earlier(self, key: str) -> tuple[str, Mapping[int, tuple[int, str]]]:
        """An upload of this key that stopped half way, and its parts; further ones are aborted. If this node may not
        list uploads a new one is begun, and the bucket's own rule expires those that are never finished."""
        try:
            uploads = [upload for found, upload in self._bucket.uploads(key) if found == key]
            for upload in uploads[1:]:
                self._bucket.abort(key, upload)
            return (uploads[0], self._bucket.parts(key, uploads[0])) if uploads else ("", {})
        except PermanentFailure:
            return "", {}

    def _abort(self, key: str, upload: str) -> None:
        with contextlib.suppress(WorkerError):  # the janitor aborts what cannot be aborted now
            self._bucket.abort(key, upload)


class S3Reader:
    """``ports.ObjectReader``."""

    def __init__(self, bucket: Bucket) -> None:
        """Reads any node's objects."""
        self._bucket = bucket

    def open(self, key: str) -> StoredObject | None:
        if not is_object_key(key):
            raise ValueError(f"{key!r} is not an object key")
        found = self._bucket.get(key)
        return None if found is None else _Body(found)


class _Body:
    """``ports.StoredObject``: an answer that is still arriving."""

    def __init__(self, answer: BaseHTTPResponse) -> None:
        self._answer = answer
        self.size = int(answer.headers.get("content-length", -1))

    def read(self, length: int) -> bytes:
        with translated():
            return self._answer.read(length)

    def close(self) -> None:
        self._answer.close()
        self._answer.release_conn()
