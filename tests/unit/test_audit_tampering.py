"""A thousand signed audit records, each damaged in every way: a reader that knows only the documented format and the
public key notices every one (fault F30)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.fakes.clock import START_NS
from workers.domain.ids import ChainId
from workers.domain.trust.audit import AuditRecord, ChainHead, advance
from workers.domain.trust.envelope import PayloadType, signed_bytes
from workers.wire.avro import AvroCodec

RECORDS = 1_000
KIND = PayloadType.AUDIT
CODEC = AvroCodec()

Sealed = tuple[bytes, bytes]
"""Payload and signature."""


def sealed(key: Ed25519PrivateKey, payload: bytes) -> Sealed:
    return payload, key.sign(signed_bytes(KIND, payload))


def record(head: ChainHead, kind: str) -> AuditRecord:
    return AuditRecord(head.chain_id, head.next_no, head.hash, START_NS + head.next_no, "node", kind)


def chain(key: Ed25519PrivateKey) -> list[Sealed]:
    head, made = ChainHead(ChainId("node/one")), []
    for number in range(RECORDS):
        payload = CODEC.encode(record(head, f"kind-{number % 7}"))
        made.append(sealed(key, payload))
        head = advance(head, payload)
    return made


def link(payload: bytes, previous: bytes) -> bytes:
    """The documented format, written down once more."""
    return hashlib.sha256(b"DSSEv1 %d %b %d %b" % (len(KIND), KIND.encode(), len(payload), payload) + previous).digest()


def fault(records: Sequence[Sealed], key: Ed25519PublicKey, *, first: int = 0, previous: bytes = bytes(32)) -> str:
    """What is wrong with a part of a chain that begins with number ``first`` after the hash ``previous``."""
    for number, (payload, signature) in enumerate(records, start=first):
        try:
            key.verify(signature, b"DSSEv1 %d %b %d %b" % (len(KIND), KIND.encode(), len(payload), payload))
        except InvalidSignature:
            return "signature"
        read = CODEC.decode(payload, AuditRecord)
        if (read.record_no, read.previous) != (number, previous):
            return "chain"
        previous = link(payload, previous)
    return ""


def mutants(
    this: Sealed, after: Sequence[Sealed], at: int, key: Ed25519PrivateKey, other: Ed25519PrivateKey
) -> Iterator[tuple[str, list[Sealed]]]:
    """One record and those after it: a bit flipped in payload and in signature, signed by another key, doubled,
    dropped, exchanged with the next, replaced by another record that the same key signed, or one inserted."""
    payload, signature = this
    flipped, broken = bytearray(payload), bytearray(signature)
    flipped[at % len(payload)] ^= 1 << at % 8
    broken[at % len(signature)] ^= 1 << at % 8
    forged = sealed(key, CODEC.encode(replace(CODEC.decode(payload, AuditRecord), kind="forged")))
    yield "payload", [(bytes(flipped), signature), *after]
    yield "signature", [(payload, bytes(broken)), *after]
    yield "other key", [sealed(other, payload), *after]
    yield "doubled", [this, this, *after]
    if after:
        yield "dropped", list(after)
        yield "exchanged", [after[0], this, *after[1:]]
        yield "replaced", [forged, *after]
        yield "inserted", [forged, this, *after]


@pytest.mark.fault("F30")
def test_every_single_tampering_with_a_thousand_records_is_detected() -> None:
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
    records, public = chain(key), key.public_key()
    assert fault(records, public) == ""
    made, detected, previous = Counter[str](), Counter[str](), bytes(32)
    for at, this in enumerate(records):
        # What comes before is whole, as checked above; two records after it must suffice to notice.
        for kind, mutant in mutants(this, records[at + 1 : at + 3], at, key, other):
            made[kind] += 1
            detected[kind] += bool(fault(mutant, public, first=at, previous=previous))
        previous = link(this[0], previous)
    print(f"\nmutants detected / made: {detected.total()} / {made.total()}, {dict(made)}")
    assert detected == made


@pytest.mark.fault("F30")
def test_a_tail_that_is_cut_off_shows_only_by_the_next_record() -> None:
    """A limit that docs/limits.md names: records carry the hash before them, and nothing announces the newest."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    records = chain(key)
    assert fault(records[:-5], key.public_key()) == ""
    assert fault([*records[:-5], records[-1]], key.public_key()) == "chain"
