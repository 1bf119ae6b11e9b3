"""The ports ``RecordSigner`` and ``RecordVerifier``: records into signed envelopes, and out of them if the signature
holds.

Made by wiring with the codec and, for verifying, a verified keyset. The payload's bytes are verified exactly as they
arrived, before a single one of them is decoded.
"""

import hashlib
from typing import TypeVar

from workers.domain.errors import MalformedMessage
from workers.domain.ids import KeyId
from workers.domain.trust.envelope import EVIDENCE, MAX_ENVELOPE_BYTES, Envelope, PayloadType, signed_bytes
from workers.domain.trust.keyset import Keyset, PublicKey, Signatory
from workers.system.ports import Clock
from workers.wire.ports import Codec, SignedRecord, VerifiedRecord
from workers.wire.signing.ed25519 import PrivateKey, verify

T = TypeVar("T")


class EnvelopeSigner:
    """Signs with one private key."""

    def __init__(self, key: PrivateKey, codec: Codec) -> None:
        """``codec`` encodes both the record and the envelope around it."""
        self._key = key
        self._codec = codec

    @property
    def key_id(self) -> KeyId:
        """The key it signs with."""
        return self._key.key_id

    def sign(self, kind: PayloadType, record: object) -> SignedRecord:
        """Encode, sign, wrap.

        Raises:
            MalformedMessage: content that cannot travel (``unencodable``), or more of it than a worker would open
                (``oversize``).
            TypeError: a class that has no schema.
        """
        payload = self._codec.encode(record)
        signature = self._key.sign(signed_bytes(kind, payload))
        value = self._codec.encode(Envelope(kind.value, payload, self._key.key_id, signature))
        if len(value) > MAX_ENVELOPE_BYTES:
            raise MalformedMessage(
                f"a {type(record).__name__} of {len(value)} bytes is more than {MAX_ENVELOPE_BYTES}", code="oversize"
            )
        return SignedRecord(value, payload)


class EnvelopeVerifier:
    """Verifies against one keyset."""

    def __init__(self, keyset: Keyset, codec: Codec, *, clock: Clock) -> None:
        """``clock`` decides whether the keyset has expired: one that was not renewed vouches for no key."""
        self._keyset = keyset
        self._codec = codec
        self._clock = clock

    def trust(self, keyset: Keyset) -> None:
        """Verify against this version from now on."""
        self._keyset = keyset

    def verify(self, value: bytes, kind: PayloadType, as_: type[T]) -> VerifiedRecord[T]:
        """The record inside, its signature checked first.

        Raises:
            MalformedMessage: ``oversize``, ``not_an_envelope``, ``wrong_type``, ``keyset_expired``, ``unknown_key``,
                ``revoked_key``, ``bad_signature``; then what decoding raises.
        """
        envelope = self._envelope(value)
        if envelope.payload_type != kind.value:
            raise MalformedMessage(f"{envelope.payload_type!r} where {kind.value} belongs", code="wrong_type")
        key = self._key(self._keyset, envelope.key_id, kind)
        signed = signed_bytes(envelope.payload_type, envelope.payload)
        # A path would make this a signature over a batch, which no version so far can check.
        if envelope.path or not verify(key.raw, envelope.signature, signed):
            raise MalformedMessage(f"the signature does not hold for key {key.key_id}", code="bad_signature")
        record = self._codec.decode(envelope.payload, as_)
        if key.revoked and kind in EVIDENCE and getattr(record, EVIDENCE[kind]) >= key.revoked_since_ns:
            raise MalformedMessage(f"key {key.key_id} is revoked since before this was signed", code="revoked_key")
        digest = hashlib.sha256(envelope.payload).hexdigest()
        return VerifiedRecord(record, envelope.payload, digest, Signatory(key.key_id, key.role, key.owner))

    def _envelope(self, value: bytes) -> Envelope:
        if len(value) > MAX_ENVELOPE_BYTES:
            raise MalformedMessage(f"{len(value)} bytes are more than {MAX_ENVELOPE_BYTES}", code="oversize")
        try:
            return self._codec.decode(value, Envelope)
        except MalformedMessage as error:
            raise MalformedMessage(f"not an envelope: {error.message}", code="not_an_envelope") from error

    def _key(self, keyset: Keyset, key_id: KeyId, kind: PayloadType) -> PublicKey:
        if self._clock.now_ns() >= keyset.expires_at_ns:
            raise MalformedMessage(f"keyset version {keyset.version} has expired: renew it", code="keyset_expired")
        key = keyset.keys.get(key_id)
        if key is None:
            raise MalformedMessage(f"key {key_id!r} is not in keyset version {keyset.version}", code="unknown_key")
        is_evidence = kind in EVIDENCE and key.revoked_since_ns > 0
        if key.is_revoked(self._clock.now_ns()) and not is_evidence:
            raise MalformedMessage(f"key {key_id} is revoked", code="revoked_key")
        return key
