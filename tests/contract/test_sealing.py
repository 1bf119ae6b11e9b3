"""What every Sealer and Opener does, the fake ones included: nothing is believed that a trusted key did not sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.fakes.clock import START_NS, FakeClock
from tests.fakes.codec import FakeCodec
from tests.fakes.signing import FakeOpener, FakeSealer, fake_key, fake_keyset
from workers.adapters.avro import AvroCodec
from workers.adapters.signing import EnvelopeOpener, EnvelopeSealer, PrivateKey
from workers.core.envelope import PayloadType
from workers.core.errors import MalformedMessage
from workers.core.ids import NodeId
from workers.core.keyset import KeyRole, Keyset, PublicKey
from workers.core.topology import Topology
from workers.ports import Codec, Opener, Sealer

RECORD = Topology("default", 1, 64, "response.commands.default", 7)
NODE = NodeId("a" * 32)


@dataclass
class Room:
    """A sealer of a node, and openers of whatever keyset a test asks for."""

    sealer: Sealer
    key: PublicKey
    opener: Callable[[Keyset], Opener]

    def trusting(self, *keys: PublicKey) -> Opener:
        return self.opener(fake_keyset(*keys))


def _real() -> Room:
    codec: Codec = AvroCodec()
    private = PrivateKey.generate()
    key = PublicKey(private.key_id, private.public, KeyRole.NODE, NODE)
    return Room(EnvelopeSealer(private, codec), key, lambda keyset: EnvelopeOpener(keyset, codec, clock=FakeClock()))


def _fake() -> Room:
    key = fake_key(NODE, KeyRole.NODE)
    return Room(FakeSealer(key, FakeCodec()), key, lambda keyset: FakeOpener(keyset, FakeCodec(), clock=FakeClock()))


@pytest.fixture(params=[_real, _fake], ids=["real", "fake"])
def room(request: pytest.FixtureRequest) -> Room:
    made: Room = request.param()
    return made


def _reason(opener: Opener, value: bytes, kind: PayloadType = PayloadType.TOPOLOGY) -> str:
    with pytest.raises(MalformedMessage) as caught:
        opener.open(value, kind, Topology)
    return caught.value.reason


def test_what_was_sealed_opens_and_names_its_signatory(room: Room) -> None:
    sealed = room.sealer.seal(PayloadType.TOPOLOGY, RECORD)
    opened = room.trusting(room.key).open(sealed.value, PayloadType.TOPOLOGY, Topology)
    assert opened.record == RECORD
    assert opened.payload == sealed.payload
    assert opened.signatory.is_node(NODE)
    assert opened.signatory.key_id == room.sealer.key_id


def test_a_key_that_is_not_in_the_keyset_does_not_exist(room: Room) -> None:
    value = room.sealer.seal(PayloadType.TOPOLOGY, RECORD).value
    assert _reason(room.trusting(), value) == "unknown_key"


def test_a_revoked_key_signs_nothing(room: Room) -> None:
    value = room.sealer.seal(PayloadType.TOPOLOGY, RECORD).value
    assert _reason(room.trusting(replace(room.key, revoked=True)), value) == "revoked_key"


def test_one_type_never_passes_for_another(room: Room) -> None:
    value = room.sealer.seal(PayloadType.COMMAND, RECORD).value
    assert _reason(room.trusting(room.key), value) == "wrong_type"


def test_a_key_under_another_s_fingerprint_does_not_verify(room: Room) -> None:
    value = room.sealer.seal(PayloadType.TOPOLOGY, RECORD).value
    impostor = replace(room.key, raw=bytes(31) + b"\x01")
    assert _reason(room.trusting(impostor), value) == "bad_signature"


@pytest.mark.parametrize("value", [b"", b"{}", b"\xc3\x01", b"\x00" * 100, b"null", b"[" * 500])
def test_bytes_that_are_no_envelope_are_refused(room: Room, value: bytes) -> None:
    assert _reason(room.trusting(room.key), value) == "not_an_envelope"


def test_an_expired_keyset_vouches_for_nobody(room: Room) -> None:
    value = room.sealer.seal(PayloadType.TOPOLOGY, RECORD).value
    for expires_at_ns, opens in ((START_NS + 1, True), (START_NS, False), (0, False)):
        opener = room.opener(fake_keyset(room.key, expires_at_ns=expires_at_ns))
        if opens:
            assert opener.open(value, PayloadType.TOPOLOGY, Topology).record == RECORD
        else:
            assert _reason(opener, value) == "keyset_expired"


def test_more_than_a_worker_looks_at_is_oversize(room: Room) -> None:
    assert _reason(room.trusting(room.key), b"\xc3" * 1_000_001) == "oversize"
