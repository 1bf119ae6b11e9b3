"""Signatures: Ed25519, and the envelopes that carry it. The one doorway of cryptography."""

from workers.wire.signing.ed25519 import PrivateKey, verify
from workers.wire.signing.envelopes import EnvelopeSigner, EnvelopeVerifier

__all__ = ["EnvelopeSigner", "EnvelopeVerifier", "PrivateKey", "verify"]
