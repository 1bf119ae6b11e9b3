"""Identifiers, and the rule that ids come from causes.

Used everywhere. Pure: the caller supplies the time and the random bytes. Never invents an id.
"""

import hashlib
import re
import uuid
from typing import Final, NewType

NodeId = NewType("NodeId", str)
"""32 lower-case hex digits; chosen at a node's first start, then immutable."""

ExecutionId = NewType("ExecutionId", str)
"""A UUIDv7 in canonical text; the one id of request, command, journal key and history row."""

EventId = NewType("EventId", str)
"""The detector's own id of an event, or one derived from the event's content."""

Incarnation = NewType("Incarnation", str)
"""A UUID born with a node's journal; restarts keep it, a lost journal changes it."""

InstanceId = NewType("InstanceId", str)
"""A UUID of one run of one worker process."""

ChainId = NewType("ChainId", str)
"""Names one audit chain: one producer, one writer."""

KeyId = NewType("KeyId", str)
"""Fingerprint of a public key: the first 32 hex digits of its SHA-256."""

LogId = NewType("LogId", str)
"""Names one broker log, so that an offset is never applied to another cluster's topic."""

NO_EXECUTION: Final = ExecutionId("")
NO_EVENT: Final = EventId("")

RANDOM_BYTES: Final = 10
"""Bytes of randomness (or hash) that ``uuid7`` consumes; 74 of their 80 bits survive."""

_NODE_ID = re.compile(r"[0-9a-f]{32}")


def is_node_id(text: str) -> bool:
    """Whether ``text`` has the form of a node id, as opposed to a host name."""
    return _NODE_ID.fullmatch(text) is not None


def uuid7(at_ns: int, random: bytes) -> str:
    """The UUIDv7 (RFC 9562, section 5.7) of a moment in nanoseconds since the epoch.

    Raises:
        ValueError: ``random`` is not exactly ``RANDOM_BYTES`` long, or the time does not fit 48 bits of milliseconds.
    """
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"uuid7 needs {RANDOM_BYTES} random bytes, got {len(random)}")
    milliseconds = at_ns // 1_000_000
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError(f"time {at_ns} ns is outside UUIDv7's range")
    value = milliseconds << 80 | int.from_bytes(random)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def uuid7_time_ns(execution_id: ExecutionId) -> int:
    """The moment inside a UUIDv7, in nanoseconds since the epoch, to the millisecond.

    Raises:
        ValueError: not a UUIDv7.
    """
    parsed = uuid.UUID(execution_id)
    if parsed.version != 7:
        raise ValueError(f"{execution_id} is not a UUIDv7")
    return (parsed.int >> 80) * 1_000_000


def is_execution_id(text: str) -> bool:
    """Whether ``text`` is a UUIDv7 in canonical lower-case form."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return False
    return parsed.version == 7 and str(parsed) == text


def id_from_cause(at_ns: int, *causes: str) -> ExecutionId:
    """The execution id that follows from its causes: the same causes at the same moment always give the same id.

    A rule's execution has (event id, rule, step); a person's has (person, idempotency key). Each cause is hashed
    behind its length, so that no two lists of causes share bytes.
    """
    digest = hashlib.sha256()
    for cause in causes:
        encoded = cause.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8))
        digest.update(encoded)
    return ExecutionId(uuid7(at_ns, digest.digest()[:RANDOM_BYTES]))


def key_id_of(public_key: bytes) -> KeyId:
    """The fingerprint of a raw Ed25519 public key (32 bytes)."""
    return KeyId(hashlib.sha256(public_key).hexdigest()[:32])
