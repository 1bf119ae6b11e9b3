"""The object store over the S3 API: conditional puts, and large objects in parts that go on where they stopped.

Made by ``open_store`` and ``open_reader``. Of an earlier, unfinished upload only those parts are kept whose tag is the
MD5 of what this node would send; everything else is sent again, so no store's word is taken for what it holds. Tags
serve to name parts and prove nothing.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from workers.domain.errors import LimitExceeded, PermanentFailure, TransientFailure, WorkerError
from workers.domain.ids import NodeId
from workers.domain.targets.custody import executed, is_object_key
from workers.store.objects.bucket import Bucket
from workers.store.objects.digests import check_digest
from workers.store.objects.ports import ObjectSource, StoredObject, Written
from workers.store.objects.s3_faults import RESEND, translated
from workers.system.ports import Clock

MOST_PARTS: Final = 10_000
"""S3's own limit of one upload."""


class S3Store:
    """``ports.ObjectStore``."""

    def __init__(self, bucket: Bucket, node_id: NodeId, *, clock: Clock) -> None:
        """Objects lie under ``node_id``/."""
        self._bucket = bucket
        self._node_id = node_id
        self._clock = clock

    def put(self, key: str, source: ObjectSource, *, deadline_ns: int) -> Written:
        """As the port says."""
        self._own(key)
        if source.size > self._bucket.part_size:
            return self._put_in_parts(key, source, deadline_ns)
        self._in_time(deadline_ns)
        data = source.read_at(0, source.size)
        check_digest(hashlib.sha256(data).hexdigest(), source)
        return Written.NEW if self._bucket.put(key, data, source.sha256) else Written.THERE

    def holds(self, key: str, source: ObjectSource, *, deadline_ns: int) -> bool | None:
        """As the port says: by size and stated digest, for the tag proves nothing."""
        self._own(key)
        self._in_time(deadline_ns)
        try:
            found = self._bucket.head(key)
        except PermanentFailure:
            return None
        if found is None:
            return False
        return found.size == source.size and found.sha256 in ("", source.sha256)

    def answers(self) -> bool:
        """As the port says: a refusal is an answer."""
        try:
            self._bucket.uploads(f"{self._node_id}/")
        except TransientFailure:
            return False
        except WorkerError:
            return True
        return True

    def unfinished(self) -> Sequence[str]:
        """As the port says."""
        keys = {key for key, _ in self._bucket.uploads(f"{self._node_id}/")}
        return sorted(key for key in keys if executed(key, self._node_id) is not None)

    def give_up(self, key: str) -> None:
        """As the port says."""
        self._own(key)
        for found, upload in self._bucket.uploads(key):
            if found == key:
                self._bucket.abort(key, upload)

    def _put_in_parts(self, key: str, source: ObjectSource, deadline_ns: int) -> Written:
        upload, known = self._earlier(key)
        upload = upload or self._bucket.begin(key, source.sha256)
        try:
            tags = self._sent(key, upload, source, known, deadline_ns)
            if self._bucket.finish(key, upload, tags):
                return Written.NEW
        except TransientFailure as error:
            if error.reason == RESEND:
                # Something of this upload is not what was sent: the next try begins a fresh one.
                self._abort(key, upload)
            raise
        except PermanentFailure:
            self._abort(key, upload)
            raise
        self._abort(key, upload)
        return Written.THERE

    def _sent(
        self, key: str, upload: str, source: ObjectSource, known: Mapping[int, tuple[int, str]], deadline_ns: int
    ) -> Sequence[str]:
        """Every part's tag, in order; parts that the store has as they are here are not sent again."""
        size = max(self._bucket.part_size, -(-source.size // MOST_PARTS))
        whole, tags = hashlib.sha256(), []
        for number, offset in enumerate(range(0, source.size, size), 1):
            self._in_time(deadline_ns)
            data = source.read_at(offset, min(size, source.size - offset))
            whole.update(data)
            kept = known.get(number)
            if kept is not None and kept == (len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()):
                tags.append(kept[1])
            else:
                tags.append(self._bucket.put_part(key, upload, number, data))
        check_digest(whole.hexdigest(), source)
        return tags

    def _earlier(self, key: str) -> tuple[str, Mapping[int, tuple[int, str]]]:
        """An upload of this key that stopped half way, and its parts; further ones are ended. A store that does not
        let us look has a fresh one begun, and its own rule for what is never finished."""
        try:
            uploads = [upload for found, upload in self._bucket.uploads(key) if found == key]
            for upload in uploads[1:]:
                self._bucket.abort(key, upload)
            return (uploads[0], self._bucket.parts(key, uploads[0])) if uploads else ("", {})
        except PermanentFailure:
            return "", {}

    def _abort(self, key: str, upload: str) -> None:
        with contextlib.suppress(WorkerError):  # what cannot be ended now is the janitor's
            self._bucket.abort(key, upload)

    def _own(self, key: str) -> None:
        if executed(key, self._node_id) is None:
            raise ValueError(f"{key!r} is no key of this node")

    def _in_time(self, deadline_ns: int) -> None:
        if self._clock.now_ns() > deadline_ns:
            raise LimitExceeded("the time for this object is over", code="timed_out")


class S3Reader:
    """``ports.ObjectReader``."""

    def __init__(self, bucket: Bucket) -> None:
        """Reads any node's objects."""
        self._bucket = bucket

    def open(self, key: str) -> StoredObject | None:
        """As the port says."""
        if not is_object_key(key):
            raise ValueError(f"{key!r} is no key")
        found = self._bucket.get(key)
        return None if found is None else _Body(found)


class _Body:
    """``ports.StoredObject``: an answer that is still arriving."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.size = int(answer.headers.get("content-length", -1))

    def read(self, length: int) -> bytes:
        """As the port says."""
        with translated() as answer:
            answer.found = self._answer.read(length)
        return bytes(answer.found or b"")

    def close(self) -> None:
        """As the port says."""
        self._answer.close()
        self._answer.release_conn()
