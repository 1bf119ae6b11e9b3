"""The nodes, and how the gateway itself is. Made by ``fleet_showing``."""

from collections.abc import Mapping
from dataclasses import dataclass

from workers.gateway.views.targets import Flat


@dataclass(frozen=True, slots=True)
class PositionView:
    """The next offset a node will take in from one command partition."""

    log_id: str
    """Names the log."""
    topic: str
    """The command topic."""
    partition: int
    """Its partition."""
    next_offset: int
    """The next offset."""


@dataclass(frozen=True, slots=True)
class ProgressView:
    """How far an upload of gathered evidence had come."""

    execution_id: str
    """The execution that gathers."""
    done: int
    """Bytes that the object store has; of a part under way, none."""
    size: int
    """Bytes of the whole."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node's newest heartbeat."""

    node_id: str
    """32 hex digits."""
    incarnation: str
    """Born with the node's journal."""
    instance_id: str
    """New at each start."""
    record_no: int
    """Counts the node's signed records."""
    at: str | None
    """When the node said it, by its own clock."""
    boot_id: str
    """The host's boot."""
    machine_key: str
    """A keyed hash of the machine id."""
    node_key: str
    """Fingerprint of its key."""
    host_names: tuple[str, ...]
    """Names events call this host."""
    zone: str
    """Whose command topic it reads."""
    cluster: str
    """Its cluster."""
    version: str
    """The worker's version."""
    actions: tuple[str, ...]
    """Actions whose trigger is ALL."""
    runtimes: tuple[str, ...]
    """Sockets of the container runtimes that it uses."""
    gathering: tuple[ProgressView, ...]
    """Uploads under way at that moment; one that waits for its next try is not among them."""
    positions: tuple[PositionView, ...]
    """How far it has read its commands."""
    queued: int
    """Executions that wait."""
    running: int
    """Executions under way."""
    unpublished: int
    """Records that the log does not have yet."""
    health: str
    """ok, or what is wrong."""
    labels: Flat
    """The operator's labels."""
    verified: bool
    """Whether the heartbeat's signature holds."""
    folded_at: str | None
    """When history took it in."""


@dataclass(frozen=True, slots=True)
class HealthView:
    """Whether the gateway works; the rest only with a token."""

    live: bool
    """The process answers."""
    ready: bool
    """History can be read."""
    version: str | None = None
    """The gateway's version."""
    now: str | None = None
    """The gateway's clock."""
    nodes: int | None = None
    """Nodes ever heard."""
    executions: int | None = None
    """Executions in history."""
    offsets: Mapping[str, int] | None = None
    """topic/partition to the next offset that history will fold."""
    unverified: int | None = None
    """Records kept apart because their signature did not hold."""
    conflicts: int | None = None
    """Executions with contradicting signed steps."""
    gaps: int | None = None
    """Gaps in what could be read."""
