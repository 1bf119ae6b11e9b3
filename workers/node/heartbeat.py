"""The heartbeat: identity, enabled actions, position in the log and health of this node. Signed, and never skipped.

Stepped by the loop every few seconds, at start and at the very end. It goes through the journal, numbered with the
results, so that a lost record shows; while the journal is unavailable it goes through memory, because a node whose disk
is full must be able to report that. Nodes never read heartbeats.
"""

from collections.abc import Mapping

from workers.domain.admission import MEMORY_NS
from workers.domain.errors import JournalUnavailable, LimitExceeded, PermanentFailure
from workers.domain.log.record import LogPosition, OutRecord
from workers.domain.node_state import CommandPosition, NodeState
from workers.domain.trust.audit import ChainHead
from workers.node.lanes import Lanes
from workers.node.services import Services
from workers.node.transitions import Transitions
from workers.wire.ports import RecordTx


class Heartbeat:
    """Makes node states; also keeps the journal small. Each heartbeat persists the floor of time with it."""

    def __init__(self, services: Services, transitions: Transitions, lanes: Lanes, memory_outbox: RecordTx) -> None:
        """``memory_outbox`` is relayed beside the journal's."""
        self._services = services
        self._transitions = transitions
        self._lanes = lanes
        self._memory_outbox = memory_outbox

    def step(self) -> None:
        """Send one."""
        try:
            with self._transitions.commit() as tx:
                self._services.recorder.node_state(tx, self._state())
        except JournalUnavailable:
            number = self._transitions.reserve_record_number()
            if number is not None:
                self._services.recorder.node_state(_Numbered(self._memory_outbox, number), self._state())

    def tidy(self) -> int:
        """Forget published commands that are too old to be delivered again; how many.

        Goes by the floor, which is never ahead of true time, so that a wall clock that jumps forward cannot make this
        node forget what it did.

        Raises:
            LimitExceeded, PermanentFailure: the journal is away; nothing was forgotten.
        """
        return self._services.journal.prune(ended_before_ns=self._services.time.floor_ns() - MEMORY_NS)

    def _state(self) -> NodeState:
        me = self._services.identity
        positions, unpublished = self._journal()
        return NodeState(
            node_id=me.node_id,
            record_no=0,  # filled in by the recorder
            at_ns=self._services.time.now_ns(),
            incarnation=me.incarnation,
            instance_id=me.instance_id,
            boot_id=me.boot_id,
            machine_key=me.machine_key,
            node_key=me.key_id,
            host_names=me.host_names,
            zone=me.zone,
            version=me.version,
            actions=tuple(name for name in self._services.catalogue if self._services.settings.allows(name)),
            positions=tuple(
                CommandPosition(position.log_id, position.topic, position.partition, next_offset)
                for position, next_offset in positions.items()
            ),
            queued=self._lanes.queued,
            running=self._lanes.running,
            unpublished=unpublished,
            health=self._health(),
            labels=me.labels,
            cluster=me.cluster,
            runtimes=self._runtimes(),
            gathering=self._services.uploads.now(),
        )

    def _health(self) -> str:
        status = self._services.health.status
        return "clock" if status == "ok" and self._services.time.ahead_ns else status

    def _runtimes(self) -> tuple[str, ...]:
        containers = self._services.host.containers
        return () if containers is None else tuple(each.socket for each in containers.runtimes() if each.usable)

    def _journal(self) -> tuple[Mapping[LogPosition, int], int]:
        """How far it has read, and how many records wait (500 stands for "many"); nothing of a journal that cannot be
        read."""
        try:
            return self._services.journal.positions(), len(self._services.journal.outbox(limit=500))
        except (LimitExceeded, PermanentFailure) as error:
            self._services.health.journal_failed(error.reason)
            return {}, 0


class _Numbered:
    """The outbox in memory, for one record of a given number."""

    def __init__(self, outbox: RecordTx, number: int) -> None:
        self._outbox = outbox
        self._number = number

    def publish(self, record: OutRecord) -> None:
        self._outbox.publish(record)

    def next_record_no(self) -> int:
        return self._number

    def chain_head(self) -> ChainHead:
        return self._outbox.chain_head()

    def set_chain_head(self, head: ChainHead) -> None:
        self._outbox.set_chain_head(head)
