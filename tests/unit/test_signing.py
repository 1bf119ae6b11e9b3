"""Envelopes: no byte of one can change, and nothing inside is looked at before the signature holds."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.stories import Story, event, heartbeat
from tests.strategies import commands
from workers.domain.command import ActionCommand
from workers.domain.errors import MalformedMessage
from workers.domain.ids import ChainId, key_id_of
from workers.domain.log.topology import Topology
from workers.domain.result import ActionResult
from workers.domain.targets.custody import Custody
from workers.domain.targets.manifest import Manifest
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import EVIDENCE, MAX_ENVELOPE_BYTES, Envelope, PayloadType, signed_bytes
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.wire.avro import AvroCodec
from workers.wire.ports import VerifiedRecord
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey, verify

T = TypeVar("T")

CODEC = AvroCodec()
KEY = PrivateKey.generate()
CLOCK = FakeClock()
TRUST = Keyset(1, 1 << 62, {KEY.key_id: PublicKey(KEY.key_id, KEY.public, KeyRole.DISPATCHER, "dispatcher")})


class CountingCodec:
    """The real codec; counts what it was asked to decode that is not an envelope."""

    def __init__(self) -> None:
        self.payloads = 0

    def encode(self, record: object) -> bytes:
        return CODEC.encode(record)

    def decode(self, data: bytes, as_: type[T]) -> T:
        self.payloads += as_ is not Envelope
        return CODEC.decode(data, as_)


def _open(value: bytes, *, codec: Any = CODEC, keyset: Keyset = TRUST) -> VerifiedRecord[ActionCommand]:
    return EnvelopeVerifier(keyset, codec, clock=CLOCK).verify(value, PayloadType.COMMAND, ActionCommand)


def _seal(command: ActionCommand) -> bytes:
    return EnvelopeSigner(KEY, CODEC).sign(PayloadType.COMMAND, command).value


def _refusal(value: bytes, **more: Any) -> str:
    with pytest.raises(MalformedMessage) as caught:
        _open(value, **more)
    return caught.value.reason


@settings(max_examples=6)
@given(commands, st.integers(1, 255))
def test_an_envelope_with_any_one_byte_changed_is_refused(command: ActionCommand, mask: int) -> None:
    value = _seal(command)
    assert _open(value).record == command
    for at in range(len(value)):
        forged = value[:at] + bytes([value[at] ^ mask]) + value[at + 1 :]
        _refusal(forged)


@pytest.mark.faults
@settings(max_examples=100)
@given(commands)
def test_an_envelope_with_any_one_bit_changed_is_refused(command: ActionCommand) -> None:
    value = _seal(command)
    for at in range(len(value)):
        for bit in range(8):
            _refusal(value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :])


@settings(max_examples=20)
@given(commands, st.data())
def test_a_payload_whose_signature_does_not_hold_is_never_decoded(command: ActionCommand, data: st.DataObject) -> None:
    envelope = CODEC.decode(_seal(command), Envelope)
    at = data.draw(st.integers(0, 63))
    forged = bytearray(envelope.signature)
    forged[at] ^= data.draw(st.integers(1, 255))
    codec = CountingCodec()
    assert _refusal(_wrap(envelope, signature=bytes(forged)), codec=codec) == "bad_signature"
    assert codec.payloads == 0


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(63), bytes(65), b"x" * 1000])
def test_an_unsigned_envelope_is_refused_before_decoding(signature: bytes) -> None:
    codec = CountingCodec()
    envelope = Envelope(PayloadType.COMMAND, b"anything", KEY.key_id, signature)
    assert _refusal(CODEC.encode(envelope), codec=codec) == "bad_signature"
    assert codec.payloads == 0


def test_a_signature_made_for_another_type_does_not_hold() -> None:
    payload = CODEC.encode(Topology("z", 1, 1, "t", 0))
    signature = KEY.sign(signed_bytes(PayloadType.TOPOLOGY, payload))
    assert _refusal(CODEC.encode(Envelope(PayloadType.COMMAND, payload, KEY.key_id, signature))) == "bad_signature"


def test_a_signed_payload_of_another_record_is_a_wrong_record() -> None:
    sealed = EnvelopeSigner(KEY, CODEC).sign(PayloadType.COMMAND, Topology("z", 1, 1, "t", 0))
    assert _refusal(sealed.value) == "wrong_record"


def test_signed_junk_is_undecodable_and_nothing_worse() -> None:
    signature = KEY.sign(signed_bytes(PayloadType.COMMAND, b"junk"))
    assert _refusal(CODEC.encode(Envelope(PayloadType.COMMAND, b"junk", KEY.key_id, signature))) == "undecodable"


@settings(max_examples=20)
@given(commands)
def test_a_batch_path_is_refused_until_a_version_can_check_it(command: ActionCommand) -> None:
    envelope = CODEC.decode(_seal(command), Envelope)
    assert _refusal(_wrap(envelope, path=(b"x" * 32,))) == "bad_signature"


@settings(max_examples=20)
@given(commands)
def test_an_expired_keyset_vouches_for_nobody(command: ActionCommand) -> None:
    value = _seal(command)
    expired = dataclasses.replace(TRUST, expires_at_ns=CLOCK.now_ns())
    assert _refusal(value, keyset=expired) == "keyset_expired"
    lasting = dataclasses.replace(TRUST, expires_at_ns=CLOCK.now_ns() + 1)
    assert _open(value, keyset=lasting).record == command


@settings(max_examples=20)
@given(commands)
def test_the_digest_is_of_the_very_bytes_that_were_signed(command: ActionCommand) -> None:
    sealed = EnvelopeSigner(KEY, CODEC).sign(PayloadType.COMMAND, command)
    opened = _open(sealed.value)
    assert opened.payload == sealed.payload == CODEC.encode(command)
    assert opened.sha256 == hashlib.sha256(sealed.payload).hexdigest()


def test_what_nobody_would_open_is_not_sealed() -> None:
    big = Topology("z" * MAX_ENVELOPE_BYTES, 1, 1, "t", 0)
    with pytest.raises(MalformedMessage) as caught:
        EnvelopeSigner(KEY, CODEC).sign(PayloadType.TOPOLOGY, big)
    assert caught.value.reason == "oversize"


def test_a_private_key_never_shows_itself() -> None:
    secret = KEY.pem().decode().split("\n")[1]
    assert secret not in repr(KEY) + str(KEY)
    assert not hasattr(KEY, "__dict__")


@given(st.binary(max_size=64), st.binary(max_size=80), st.binary(max_size=40))
def test_verifying_junk_is_false_and_never_raises(data: bytes, signature: bytes, public: bytes) -> None:
    assert not verify(public, signature, data)
    assert not verify(KEY.public, signature, data)
    assert verify(KEY.public, KEY.sign(data), data)


def test_a_key_s_id_is_its_fingerprint() -> None:
    assert KEY.key_id == key_id_of(KEY.public)
    assert PrivateKey.from_pem(KEY.pem()).key_id == KEY.key_id


def _wrap(envelope: Envelope, **changes: Any) -> bytes:
    return CODEC.encode(dataclasses.replace(envelope, **changes))


def _revoked(since_ns: int) -> Keyset:
    key = PublicKey(KEY.key_id, KEY.public, KeyRole.NODE, "a" * 32, revoked=True, revoked_since_ns=since_ns)
    return Keyset(1, 1 << 62, {key.key_id: key})


def _reason(kind: PayloadType, record: object, keyset: Keyset) -> str:
    """Why a record is refused; empty when it is not."""
    value = EnvelopeSigner(KEY, CODEC).sign(kind, record).value
    try:
        EnvelopeVerifier(keyset, CODEC, clock=CLOCK).verify(value, kind, type(record))
    except MalformedMessage as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (PayloadType.RESULT, dataclasses.replace(Story(1).ended(), at_ns=1000)),
        (PayloadType.AUDIT, AuditRecord(ChainId("node/x"), 0, bytes(32), 1000, "node", "intent")),
    ],
    ids=["result", "audit"],
)
def test_evidence_from_before_a_revocation_stays_valid_and_later_evidence_is_none(
    kind: PayloadType, record: object
) -> None:
    assert _reason(kind, record, _revoked(1001)) == ""
    assert _reason(kind, record, _revoked(1000)) == "revoked_key"
    assert _reason(kind, record, _revoked(0)) == "revoked_key"


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (PayloadType.NODE_STATE, heartbeat(1)),
        (PayloadType.EVENT, event(1)),
        (PayloadType.TOPOLOGY, Topology("z", 1, 1, "t", 0)),
    ],
)
def test_what_is_acted_on_counts_only_until_its_key_is_revoked_whatever_time_it_names(
    kind: PayloadType, record: object
) -> None:
    assert _reason(kind, record, _revoked(CLOCK.now_ns() + 1)) == ""
    assert _reason(kind, record, _revoked(CLOCK.now_ns())) == "revoked_key"


def test_each_kind_of_evidence_has_the_time_of_its_signing() -> None:
    classes: dict[PayloadType, Any] = {
        PayloadType.RESULT: ActionResult,
        PayloadType.AUDIT: AuditRecord,
        PayloadType.MANIFEST: Manifest,
        PayloadType.CUSTODY: Custody,
    }
    for kind, name in EVIDENCE.items():
        assert name in {each.name for each in dataclasses.fields(classes[kind])}
