"""Sealing without cryptography: a "signature" is a hash that names the key, checked as strictly as the real one."""

from __future__ import annotations

import hashlib
import json
from typing import TypeVar

from tests.fakes.codec import FakeCodec
from workers.domain.errors import MalformedMessage
from workers.domain.ids import KeyId, key_id_of
from workers.domain.trust.envelope import MAX_ENVELOPE_BYTES, PayloadType, signed_bytes
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey, Signatory
from workers.system.ports import Clock
from workers.wire.ports import Codec, SignedRecord, VerifiedRecord

T = TypeVar("T")


def fake_key(owner: str, role: KeyRole, *, revoked: bool = False) -> PublicKey:
    """A trusted key, the same for the same owner and role."""
    raw = hashlib.sha256(f"{role}/{owner}".encode()).digest()
    return PublicKey(key_id_of(raw), raw, role, owner, revoked)


def fake_keyset(*keys: PublicKey, version: int = 1, expires_at_ns: int = 1 << 62) -> Keyset:
    """A keyset of these keys that does not expire."""
    return Keyset(version, expires_at_ns, {key.key_id: key for key in keys})


class FakeSigner:
    """Seals with one fake key."""

    def __init__(self, key: PublicKey, codec: Codec | None = None) -> None:
        self._key = key
        self._codec = codec if codec is not None else FakeCodec()

    @property
    def key_id(self) -> KeyId:
        return self._key.key_id

    def sign(self, kind: PayloadType, record: object) -> SignedRecord:
        payload = self._codec.encode(record)
        value = {
            "type": kind.value,
            "payload": payload.hex(),
            "key": self._key.key_id,
            "sig": _sign(self._key, kind, payload),
        }
        return SignedRecord(json.dumps(value).encode(), payload)


class FakeVerifier:
    """Opens what a `FakeSigner` sealed with a key of the keyset; refuses everything else with the port's own codes."""

    def __init__(self, keyset: Keyset, codec: Codec | None = None, *, clock: Clock | None = None) -> None:
        self._keyset = keyset
        self._clock = clock
        self._codec = codec if codec is not None else FakeCodec()

    def verify(self, value: bytes, kind: PayloadType, as_: type[T]) -> VerifiedRecord[T]:
        if len(value) > MAX_ENVELOPE_BYTES:
            raise MalformedMessage(code="oversize")
        try:
            found = json.loads(value)
            payload, key_id = bytes.fromhex(found["payload"]), KeyId(found["key"])
            signature, payload_type = found["sig"], found["type"]
        except (ValueError, KeyError, TypeError):
            raise MalformedMessage(code="not_an_envelope") from None
        if payload_type != kind.value:
            raise MalformedMessage(code="wrong_type")
        if self._clock is not None and self._clock.now_ns() >= self._keyset.expires_at_ns:
            raise MalformedMessage(code="keyset_expired")
        key = self._keyset.keys.get(key_id)
        if key is None:
            raise MalformedMessage(code="unknown_key")
        if key.revoked:
            raise MalformedMessage(code="revoked_key")
        if signature != _sign(key, kind, payload):
            raise MalformedMessage(code="bad_signature")
        record = self._codec.decode(payload, as_)
        return VerifiedRecord(
            record, payload, hashlib.sha256(payload).hexdigest(), Signatory(key.key_id, key.role, key.owner)
        )


def _sign(key: PublicKey, kind: str, payload: bytes) -> str:
    return hashlib.sha256(key.raw + signed_bytes(kind, payload)).hexdigest()
