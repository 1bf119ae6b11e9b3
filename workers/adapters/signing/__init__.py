"""Signatures: Ed25519, and the envelopes that carry it. The one doorway of cryptography."""

from workers.adapters.signing.ed25519 import PrivateKey, verify
from workers.adapters.signing.envelopes import EnvelopeOpener, EnvelopeSealer

__all__ = ["EnvelopeOpener", "EnvelopeSealer", "PrivateKey", "verify"]
