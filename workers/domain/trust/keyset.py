"""The keyset: public keys, their roles, and the list that pins each node id to its keys.

Pure values; loaded and checked by ``wire.keys``, used by ``wire.signing``. No trust on first use: a key that is
not in here does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from workers.domain.ids import KeyId, NodeId

DAY_NS: Final = 86_400 * 1_000_000_000


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
    revoked_since_ns: int = 0
    """Of a revoked key: until this moment it counts as any other, and what it signed before stays valid as evidence; 0
    where nothing that it ever signed counts."""

    def is_revoked(self, now_ns: int) -> bool:
        """Whether it signs nothing more that counts."""
        return self.revoked and now_ns >= self.revoked_since_ns


@dataclass(frozen=True, slots=True)
class Keyset:
    """One version of the list of trusted keys."""

    version: int
    expires_at_ns: int
    keys: Mapping[KeyId, PublicKey] = field(default_factory=dict)
    threshold: int = 1
    """How many operators must sign a new version."""


def left_at_ns(keyset: Keyset, node_id: NodeId) -> int | None:
    """From when on no key of a node counts, because operators retired or revoked it; the moment may be still to come.
    None for a node that has a key without an end, or never had one."""
    ends = [
        (key.revoked, key.revoked_since_ns)
        for key in keyset.keys.values()
        if key.role is KeyRole.NODE and key.owner == node_id
    ]
    if not ends or not all(revoked for revoked, _ in ends):
        return None
    return max(since_ns for _, since_ns in ends)


def left_nodes(keyset: Keyset) -> Mapping[NodeId, int]:
    """Every node that has left or is about to, and from when on."""
    owners = {NodeId(key.owner) for key in keyset.keys.values() if key.role is KeyRole.NODE and key.revoked}
    found = {node_id: left_at_ns(keyset, node_id) for node_id in owners}
    return {node_id: at_ns for node_id, at_ns in found.items() if at_ns is not None}


WARN_DAYS: Final = (60, 30, 7)
"""How long before the expiry of a keyset each warning begins; when it has expired, every worker waits."""


def days_left(keyset: Keyset, now_ns: int) -> int:
    """Whole days until a keyset expires; negative once it has."""
    return (keyset.expires_at_ns - now_ns) // DAY_NS


def expiry_warning(keyset: Keyset, now_ns: int) -> str:
    """One line for people; empty while more days are left than the first warning has."""
    left = days_left(keyset, now_ns)
    if left >= WARN_DAYS[0]:
        return ""
    if left < 0:
        return f"keyset version {keyset.version} has expired: every worker waits until it is renewed"
    within = min(days for days in WARN_DAYS if left < days)
    return f"keyset version {keyset.version} expires within {within} days ({left} whole days left): renew it"


@dataclass(frozen=True, slots=True)
class Signatory:
    """The owner of a signing key, as the keyset names it."""

    key_id: KeyId
    role: KeyRole
    owner: str

    def is_node(self, node_id: NodeId) -> bool:
        """Whether this is the pinned key of ``node_id``."""
        return self.role is KeyRole.NODE and self.owner == node_id
