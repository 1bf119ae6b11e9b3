"""What every RecordSigner and RecordVerifier does, the fakes included: only a trusted key's signature is accepted."""

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
class Signing:
    """A node's signer, and verifiers of any keyset that a test asks for."""

    signer: RecordSigner
    key: PublicKey
    verifier: Callable[[Keyset], RecordVerifier]

    def trusting(self, *keys: PublicKey) -> RecordVerifier:
        return self.verifier(fake_keyset(*keys))


def _real() -> Signing:
    codec: Codec = AvroCodec()
    private = PrivateKey.generate()
    key = PublicKey(private.key_id, private.public, KeyRole.NODE, NODE)
    return Signing(
        EnvelopeSigner(private, codec), key, lambda keyset: EnvelopeVerifier(keyset, codec, clock=FakeClock())
    )


def _fake() -> Signing:
    key = fake_key(NODE, KeyRole.NODE)
    return Signing(
        FakeSigner(key, FakeCodec()), key, lambda keyset: FakeVerifier(keyset, FakeCodec(), clock=FakeClock())
    )


@pytest.fixture(params=[_real, _fake], ids=["real", "fake"])
def signing(request: pytest.FixtureRequest) -> Signing:
    made: Signing = request.param()
    return made


def _reason(verifier: RecordVerifier, value: bytes, kind: PayloadType = PayloadType.TOPOLOGY) -> str:
    with pytest.raises(MalformedMessage) as caught:
        verifier.verify(value, kind, Topology)
    return caught.value.reason


def test_a_signed_record_verifies_and_names_its_signatory(signing: Signing) -> None:
    signed = signing.signer.sign(PayloadType.TOPOLOGY, RECORD)
    verified = signing.trusting(signing.key).verify(signed.value, PayloadType.TOPOLOGY, Topology)
    assert verified.record == RECORD
    assert verified.payload == signed.payload
    assert verified.signatory.is_node(NODE)
    assert verified.signatory.key_id == signing.signer.key_id


def test_a_key_that_is_not_in_the_keyset_is_refused(signing: Signing) -> None:
    value = signing.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    assert _reason(signing.trusting(), value) == "unknown_key"


def test_a_revoked_key_is_refused(signing: Signing) -> None:
    value = signing.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    assert _reason(signing.trusting(replace(signing.key, revoked=True)), value) == "revoked_key"


def test_a_record_of_another_type_is_refused(signing: Signing) -> None:
    value = signing.signer.sign(PayloadType.COMMAND, RECORD).value
    assert _reason(signing.trusting(signing.key), value) == "wrong_type"


def test_a_key_under_another_s_fingerprint_does_not_verify(signing: Signing) -> None:
    value = signing.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    impostor = replace(signing.key, raw=bytes(31) + b"\x01")
    assert _reason(signing.trusting(impostor), value) == "bad_signature"


@pytest.mark.parametrize("value", [b"", b"{}", b"\xc3\x01", b"\x00" * 100, b"null", b"[" * 500])
def test_bytes_that_are_not_an_envelope_are_refused(signing: Signing, value: bytes) -> None:
    assert _reason(signing.trusting(signing.key), value) == "not_an_envelope"


def test_an_expired_keyset_is_refused(signing: Signing) -> None:
    value = signing.signer.sign(PayloadType.TOPOLOGY, RECORD).value
    for expires_at_ns, opens in ((START_NS + 1, True), (START_NS, False), (0, False)):
        verifier = signing.verifier(fake_keyset(signing.key, expires_at_ns=expires_at_ns))
        if opens:
            assert verifier.verify(value, PayloadType.TOPOLOGY, Topology).record == RECORD
        else:
            assert _reason(verifier, value) == "keyset_expired"


def test_an_envelope_beyond_the_limit_is_oversize(signing: Signing) -> None:
    assert _reason(signing.trusting(signing.key), b"\xc3" * 1_000_001) == "oversize"
