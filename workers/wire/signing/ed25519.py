"""Ed25519 keys and signatures over plain bytes.

Called by the envelopes and by ``wire.keys``; the only module that imports cryptography. Never prints a private key.
"""

from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from workers.domain.ids import KeyId, key_id_of

PUBLIC_BYTES: Final = 32


class PrivateKey:
    """One private key. Has no text form, so that it cannot end up in a log."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Use ``generate`` or ``from_pem``."""
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "PrivateKey":
        """A new key from the kernel's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> "PrivateKey":
        """A key out of unencrypted PKCS8 PEM.

        Raises:
            ValueError: anything else.
        """
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The library's words may quote the input.
            raise ValueError("is not an unencrypted PEM private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("is a private key, but not an Ed25519 one")  # noqa: TRY004 - the content, not our type
        return cls(key)

    @property
    def key_id(self) -> KeyId:
        """The public key's fingerprint."""
        return key_id_of(self.public)

    def pem(self) -> bytes:
        """Unencrypted PKCS8 PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """64 bytes, always the same for the same data."""
        return self._key.sign(data)


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` over ``data`` is by the holder of ``public``; False for anything malformed."""
    try:
        _public(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=16_384)  # a projector reads a whole zone: loading a key costs a third of a verification
def _public(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)
