"""The keyset: public keys, their roles, and the list that pins each node id to its keys.

Pure values; loaded and checked by ``wire.keys``, used by ``wire.signing``. No trust on first use: a key that is
not in here does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from workers.domain.ids import KeyId, NodeId


class KeyRole(StrEnum):
    """What a key may sign."""

    OPERATOR = "operator"
    DISPATCHER = "dispatcher"
    NODE = "node"
    GATEWAY = "gateway"
    """Requests of people, events received over HTTP, and its audit chain."""
    RESPONDER = "responder"
    """Requests of rules, and its audit chain."""
    WORKER = "worker"
    """The projector: its audit chain only."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One trusted key."""

    key_id: KeyId
    raw: bytes
    """Ed25519, 32 bytes."""
    role: KeyRole
    owner: str
    """The node id of a node's key; else the worker's or person's name."""
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Keyset:
    """One version of the list of trusted keys."""

    version: int
    expires_at_ns: int
    keys: Mapping[KeyId, PublicKey] = field(default_factory=dict)
    threshold: int = 1
    """How many operators must sign a new version."""


@dataclass(frozen=True, slots=True)
class Signatory:
    """The owner of a signing key, as the keyset names it."""

    key_id: KeyId
    role: KeyRole
    owner: str

    def is_node(self, node_id: NodeId) -> bool:
        """Whether this is the pinned key of ``node_id``."""
        return self.role is KeyRole.NODE and self.owner == node_id
