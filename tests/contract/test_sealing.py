"""What every Sealer and Opener does, the fake ones included: nothing is believed that a trusted key did not sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.fakes.clock import START_NS, FakeClock
from tests.fakes.codec import FakeCodec
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from workers.domain.errors import MalformedMessage
from workers.domain.ids import NodeId
from workers.domain.log.topology import Topology
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.wire.avro import AvroCodec
from workers.wire.ports import Codec, RecordSigner, RecordVerifier
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey

RECORD = Topology("default", 1, 64, "response.commands.default", 7)
NODE = NodeId("a" * 32)


@dataclass
class Room:
    """A sealer of a node, and openers of whatever keyset a test asks for."""

    signer: RecordSigner
    key: PublicKey
    verifier: Callable[[Keyset], RecordVerifier]

    def trusting(self, *keys: PublicKey) -> RecordVerifier:
        return self.verifier(fake_keyset(*keys))


def _real() -> Room:
    codec: Codec = AvroCodec()
    private = PrivateKey.generate()
    key = PublicKey(private.key_id, private.public, KeyRole.NODE, NODE)
    return Room(EnvelopeSigner(private, codec), key, lambda keyset: EnvelopeVerifier(keyset, codec, clock=FakeClock()))


def _fake() -> Room:
    key = fake_key(NODE, KeyRole.NODE)
    return Room(FakeSigner(key, FakeCodec()), key, lambda keyset: FakeVerifier(keyset, FakeCodec(), clock=FakeClock()))


@pytest.fixture(params=[_real, _fake], ids=["real", "fake"])
def room(request: pytest.FixtureRequest) -> Room:
    made: Room = request.param()
    return made


def _reason(verifier: RecordVerifier, value: bytes, kind: PayloadType = PayloadType.TOPOLOGY) -> str:
    with pytest.raises(MalformedMessage) as caught:
        verifier.verify(value, kind, Topology)
    return caught.value.reason


def test_what_was_sealed_opens_and_names_its_signatory(room: Room) -> None:
    sealed = room.signer.sign(PayloadType.TOPOLOGY, RECORD)
    opened = room.trusting(room.key).verify(sealed.value, PayloadType.TOPOLOGY, Topology)
    assert opened.record == RECORD
    assert opened.payload == sealed.payload
    assert opened.signatory.is_node(NODE)
    assert opened.signatory.key_id == room.signer.key_id


def test_a_key_that_is_not_in_the_keyset_does_not_exist(room: Room) -> None:
    value = room.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    assert _reason(room.trusting(), value) == "unknown_key"


def test_a_revoked_key_signs_nothing(room: Room) -> None:
    value = room.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    assert _reason(room.trusting(replace(room.key, revoked=True)), value) == "revoked_key"


def test_one_type_never_passes_for_another(room: Room) -> None:
    value = room.signer.sign(PayloadType.COMMAND, RECORD).value
    assert _reason(room.trusting(room.key), value) == "wrong_type"


def test_a_key_under_another_s_fingerprint_does_not_verify(room: Room) -> None:
    value = room.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    impostor = replace(room.key, raw=bytes(31) + b"\x01")
    assert _reason(room.trusting(impostor), value) == "bad_signature"


@pytest.mark.parametrize("value", [b"", b"{}", b"\xc3\x01", b"\x00" * 100, b"null", b"[" * 500])
def test_bytes_that_are_no_envelope_are_refused(room: Room, value: bytes) -> None:
    assert _reason(room.trusting(room.key), value) == "not_an_envelope"


def test_an_expired_keyset_vouches_for_nobody(room: Room) -> None:
    value = room.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    for expires_at_ns, opens in ((START_NS + 1, True), (START_NS, False), (0, False)):
        verifier = room.verifier(fake_keyset(room.key, expires_at_ns=expires_at_ns))
        if opens:
            assert verifier.verify(value, PayloadType.TOPOLOGY, Topology).record == RECORD
        else:
            assert _reason(verifier, value) == "keyset_expired"


def test_more_than_a_worker_looks_at_is_oversize(room: Room) -> None:
    assert _reason(room.trusting(room.key), b"\xc3" * 1_000_001) == "oversize"
