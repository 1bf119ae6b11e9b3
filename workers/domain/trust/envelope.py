"""The signed wrapper around whatever is acted on or kept, and the bytes a signature covers.

Pure. Signing and verifying live in ``wire.signing``; every reader verifies before it decodes the payload.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from workers.domain.ids import KeyId


class PayloadType(StrEnum):
    """What an envelope's payload is; part of the signed bytes, so one type never passes for another."""

    REQUEST = "application/vnd.douse.request+avro"
    EVENT = "application/vnd.douse.event+avro"
    COMMAND = "application/vnd.douse.command+avro"
    RESULT = "application/vnd.douse.result+avro"
    AUDIT = "application/vnd.douse.audit+avro"
    NODE_STATE = "application/vnd.douse.node-state+avro"
    TOPOLOGY = "application/vnd.douse.topology+avro"
    KEYSET = "application/vnd.douse.keyset+json"
    MANIFEST = "application/vnd.douse.manifest+avro"
    CUSTODY = "application/vnd.douse.custody+avro"


EVIDENCE: Final[Mapping[PayloadType, str]] = {
    PayloadType.RESULT: "at_ns",
    PayloadType.AUDIT: "at_ns",
    PayloadType.MANIFEST: "begun_at_ns",
    PayloadType.CUSTODY: "taken_at_ns",
}
"""Records that stay evidence after their key was revoked, and the field inside the signature that tells when each was
signed. Everything else is acted on when it is read, and a revoked key counts for nothing there."""

MAX_ENVELOPE_BYTES: Final = 1_000_000
"""Largest value that a worker reads: Kafka's own default bound of a record is 1 MiB."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Payload bytes exactly as signed, and the key that signed them."""

    payload_type: str
    payload: bytes
    key_id: KeyId
    signature: bytes
    path: tuple[bytes, ...] = ()
    """Empty; reserved for one signature over a batch (a Merkle path)."""


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what the signature is over."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
