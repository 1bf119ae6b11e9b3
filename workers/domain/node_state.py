"""A node's signed heartbeat on ``fleet.nodes``.

Written by the node; read by dispatcher (to resolve hosts and to prove non-delivery) and projector. Nodes never read it.
"""

from dataclasses import dataclass, field
from typing import Final

from workers.domain.ids import ExecutionId, Incarnation, InstanceId, KeyId, LogId, NodeId
from workers.domain.outcome import NOTHING, Values

COPYING: Final = "copy"
UPLOADING: Final = "upload"


@dataclass(frozen=True, slots=True)
class CommandPosition:
    """The next offset that a node will take in from one partition: of each generation of its command topic, and of
    ``fleet.topology``, which shows the nodes that know of a growth."""

    log_id: LogId
    topic: str
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the copy or the upload of one execution's evidence is."""

    execution_id: ExecutionId
    done: int
    """Bytes that are copied, or that the object store has; a part under way does not count."""
    size: int
    """Bytes of the whole; 0 where that is not known yet."""
    step: str = UPLOADING
    """``copy``: onto the node's own spool; then ``upload``."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """One heartbeat."""

    node_id: NodeId
    record_no: int
    at_ns: int
    incarnation: Incarnation
    instance_id: InstanceId
    boot_id: str
    machine_key: str
    """A keyed hash of the machine id, so that a copied key on another machine shows."""
    node_key: KeyId
    host_names: tuple[str, ...]
    zone: str
    version: str
    actions: tuple[str, ...]
    """Names of the actions whose trigger is ALL."""
    positions: tuple[CommandPosition, ...]
    queued: int
    running: int
    unpublished: int
    health: str = "ok"
    """``ok``, or what is wrong: ``journal``, ``clock`` (its floor of time is ahead of its clock), ``draining``,
    ``stopping``."""
    labels: Values = field(default_factory=lambda: NOTHING)
    cluster: str = ""
    runtimes: tuple[str, ...] = ()
    """Sockets of container runtimes whose containers it acts on."""
    gathering: tuple[Progress, ...] = ()
    """What is copied or uploaded at this moment; an upload that waits for its next try is not among them."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be read or was refused, kept for inspection."""

    topic: str
    partition: int
    offset: int
    log_id: LogId
    key: bytes | None
    value: bytes | None
    """The original bytes; the first 64 KiB where it was larger."""
    size: int
    sha256: str
    headers: tuple[tuple[str, bytes], ...]
    reason: str
    """Stable code: ``bad_signature``, ``undecodable``, ``wrong_incarnation`` and so on."""
    message: str
    worker: str
    at_ns: int
