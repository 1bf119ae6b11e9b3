"""Chain of custody: what was gathered, where, when, on which request, and the digest that proves it unchanged since.

Made by the actions that gather evidence; signed by the node, durable in its spool before the first byte leaves, and
stored beside the object. Pure values, and the names that objects have in the store.
"""

from dataclasses import dataclass
from typing import Final

from workers.domain.ids import ExecutionId, NodeId, is_execution_id, is_node_id
from workers.domain.targets.file import NO_FILE, FileIdentity

CUSTODY: Final = ".custody"
"""The suffix of the name of an object's custody record."""


@dataclass(frozen=True, slots=True)
class Custody:
    """One gathered object. Times are nanoseconds since the epoch, sizes bytes."""

    execution_id: ExecutionId
    node_id: NodeId
    action: str
    path: bytes
    """Where the content was read; empty for what was no file."""
    file: FileIdentity
    size: int
    """Of the content; holes count."""
    sha256: str
    """Of the content, holes as zeros; hex."""
    mode: int
    uid: int
    gid: int
    links: int
    mtime_ns: int
    ctime_ns: int
    taken_at_ns: int
    """When the last byte had been read."""
    asked_by: str
    reason: str = ""
    event_id: str = ""
    content_changed: bool = False
    """Whether the file was written to between claim and copy: what was kept is what was read."""
    source: str = ""
    """What it was gathered from, where that was no file: one process or container, by its unique identity."""
    truncated: bool = False
    """Whether a limit of this node left something out."""
    container_id: str = ""
    """The container whose path it is; empty for the host's."""
    run_started_at_ns: int = 0
    """When the run of it that was read in started."""
    root: FileIdentity = NO_FILE
    """The root that the path began at."""


def object_key(node_id: NodeId, execution_id: ExecutionId) -> str:
    """The name of an execution's one object: it depends on node and execution only, not on the file."""
    return f"{node_id}/{execution_id}"


def custody_key(key: str) -> str:
    """The name of the custody record of an object."""
    return key + CUSTODY


def executed(key: str, node_id: NodeId) -> ExecutionId | None:
    """The execution whose object, or custody record, a key names; None where it is not of this node."""
    owner, _, name = key.partition("/")
    execution_id = ExecutionId(name.removesuffix(CUSTODY))
    return execution_id if owner == node_id and is_execution_id(execution_id) else None


def is_object_key(key: str) -> bool:
    """Whether ``key`` is one that ``object_key`` or ``custody_key`` makes: nothing else ever becomes a path."""
    owner, _, name = key.partition("/")
    return is_node_id(owner) and is_execution_id(name.removesuffix(CUSTODY))
