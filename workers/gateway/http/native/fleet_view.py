"""Nodes and the gateway's health, as the native API shows them. Made by the routes. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Set

from workers.domain.history.queries import StoredNode, StoreHealth
from workers.domain.node_state import Progress
from workers.domain.trust.keyset import Keyset, days_left, expiry_warning
from workers.gateway.http.native.target_view import Flat, View, flat
from workers.gateway.http.native.times import shown


class PositionView(View):
    """The next offset a node will take in from one command partition."""

    log_id: str
    """Names the log."""
    topic: str
    """The command topic."""
    partition: int
    """Its partition."""
    next_offset: int
    """The next offset."""


class ProgressView(View):
    """How far the copy or the upload of gathered evidence had come."""

    execution_id: str
    """The execution that gathers."""
    step: str
    """copy: onto the node's own disk; then upload: to the object store."""
    done: int
    """Bytes that are copied, or that the object store has; of a part under way, none."""
    size: int
    """Bytes of the whole; 0 while that is not known."""

    @classmethod
    def of(cls, progress: Progress) -> "ProgressView":
        """As a heartbeat has it."""
        return cls(execution_id=progress.execution_id, step=progress.step, done=progress.done, size=progress.size)


class NodeView(View):
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
    """When the node wrote it, by its own clock."""
    boot_id: str
    """The host's boot."""
    machine_key: str
    """A keyed hash of the machine id."""
    node_key: str
    """Fingerprint of its key."""
    host_names: tuple[str, ...]
    """Host names that events use for this host."""
    disputed_names: tuple[str, ...]
    """Host names among them that another node has too; they belong to the one that the dispatcher knew first."""
    zone: str
    """The zone whose command topic it reads."""
    cluster: str
    """Its cluster."""
    version: str
    """The worker's version."""
    actions: tuple[str, ...]
    """Actions whose trigger is ALL."""
    runtimes: tuple[str, ...]
    """Sockets of the container runtimes that it uses."""
    gathering: tuple[ProgressView, ...]
    """What was copied or uploaded at that moment; an upload that waits for its next try is not among them."""
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

    @classmethod
    def of(cls, stored: StoredNode, shared: Set[str]) -> "NodeView":
        """A node's newest heartbeat; ``shared`` are the ``shared_names`` of the fleet."""
        state = stored.state
        return cls(
            node_id=state.node_id,
            incarnation=state.incarnation,
            instance_id=state.instance_id,
            record_no=state.record_no,
            at=shown(state.at_ns),
            boot_id=state.boot_id,
            machine_key=state.machine_key,
            node_key=state.node_key,
            host_names=state.host_names,
            disputed_names=tuple(name for name in state.host_names if name.lower() in shared),
            zone=state.zone,
            cluster=state.cluster,
            version=state.version,
            actions=state.actions,
            runtimes=state.runtimes,
            gathering=tuple(map(ProgressView.of, state.gathering)),
            positions=tuple(
                PositionView(log_id=p.log_id, topic=p.topic, partition=p.partition, next_offset=p.next_offset)
                for p in state.positions
            ),
            queued=state.queued,
            running=state.running,
            unpublished=state.unpublished,
            health=state.health,
            labels=flat(state.labels),
            verified=stored.verified,
            folded_at=shown(stored.folded_at_ns),
        )


def shared_names(fleet: Iterable[StoredNode]) -> Set[str]:
    """Host names, in lower case, that more than one node has."""
    counts = Counter(name for each in fleet for name in {name.lower() for name in each.state.host_names})
    return {name for name, count in counts.items() if count > 1}


class HealthView(View):
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
    """Nodes that ever sent a heartbeat."""
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
    keyset_version: int | None = None
    """The version of the gateway's keyset."""
    keyset_days_left: int | None = None
    """Whole days until it expires, when every worker waits; negative once it has."""
    warnings: list[str] | None = None
    """What an operator should see to soon."""

    @classmethod
    def of(cls, store: StoreHealth, *, nodes: int, version: str, now_ns: int, keyset: Keyset) -> "HealthView":
        """The answer to a caller with a token."""
        return cls(
            live=True,
            ready=True,
            version=version,
            now=shown(now_ns),
            nodes=nodes,
            executions=store.executions,
            offsets=dict(store.next_offsets),
            unverified=store.unverified,
            conflicts=store.conflicts,
            gaps=store.gaps,
            keyset_version=keyset.version,
            keyset_days_left=days_left(keyset, now_ns),
            warnings=[warning] if (warning := expiry_warning(keyset, now_ns)) else [],
        )
