"""The audit chain: every producer's records, each holding the hash of the one before.

Pure: makes the next record of a chain and its hash. Written through a worker's outbox; each link is checked where
history lists audit records. Format of one link: SHA-256(PAE(payload) || previous hash), over the record's exact bytes.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from workers.domain.ids import NO_EXECUTION, ChainId, ExecutionId
from workers.domain.outcome import NOTHING, Values
from workers.domain.trust.envelope import PayloadType, signed_bytes

GENESIS: Final = bytes(32)
"""The hash before the first record."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing a worker did or refused, in its chain's order."""

    chain_id: ChainId
    record_no: int
    """From 0, without a gap."""
    previous: bytes
    """Hash of the record before; ``GENESIS`` for the first."""
    at_ns: int
    worker: str
    kind: str
    """An open set: ``intent``, ``outcome``, ``rejected``, ``dead_letter``, ``gap``, ``started``, ``checkpoint`` …"""
    execution_id: ExecutionId = NO_EXECUTION
    actor: str = ""
    detail: Values = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain stands: the number its next record will have, and the hash that record must hold."""

    chain_id: ChainId
    next_no: int = 0
    hash: bytes = GENESIS


def link(payload: bytes, previous: bytes) -> bytes:
    """The hash of a record, from its exact encoded bytes and the hash before it."""
    return hashlib.sha256(signed_bytes(PayloadType.AUDIT, payload) + previous).digest()


def advance(head: ChainHead, payload: bytes) -> ChainHead:
    """The head after the record whose encoded bytes are ``payload``."""
    return ChainHead(head.chain_id, head.next_no + 1, link(payload, head.hash))
