"""A codec that remembers what it encoded: for tests that do not care about bytes."""

from __future__ import annotations

import hashlib
from typing import TypeVar

from workers.domain.errors import MalformedMessage

T = TypeVar("T")

_RECORDS: dict[bytes, object] = {}
"""Shared by all instances, so that what one worker encodes another can read."""


class FakeCodec:
    """Encodes to a digest of the record's text; the same record always gives the same bytes."""

    def encode(self, record: object) -> bytes:
        data = b"fake:" + hashlib.sha256(repr(record).encode()).hexdigest().encode()
        _RECORDS[data] = record
        return data

    def decode(self, data: bytes, as_: type[T]) -> T:
        record = _RECORDS.get(data)
        if record is None:
            raise MalformedMessage("the fake codec never made these bytes", code="undecodable")
        if not isinstance(record, as_):
            raise MalformedMessage(f"a {type(record).__name__}, not a {as_.__name__}", code="wrong_record")
        return record

    def names(self, data: bytes, kind: type) -> bool:
        return isinstance(_RECORDS.get(data), kind)
