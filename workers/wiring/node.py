"""The node worker, put together. Imported by ``wiring.ROLES`` only when a node starts.

Imports of adapters stand inside the functions: the fork server is forked from a process that has loaded none of
them.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from workers.domain.ids import NodeId
from workers.domain.outcome import Values
from workers.node.deadline_watch import DeadlineWatch
from workers.node.effect_watch import EffectWatch
from workers.node.executor import Executor
from workers.node.feed import Feed
from workers.node.gate import Gate
from workers.node.generations import Generations
from workers.node.heartbeat import Heartbeat
from workers.node.intake import Intake
from workers.node.janitor import Janitor
from workers.node.lanes import Lanes
from workers.node.leftovers import Leftovers
from workers.node.live_state import Health, TimeFloor, Uploads
from workers.node.loop import CommitSignal, LaneSignals, Loop, Steps
from workers.node.recovery import Recovery
from workers.node.runner import Runner
from workers.node.services import Identity, Services
from workers.node.transitions import Transitions
from workers.settings import NodeSettings
from workers.system.ports import Runnable

if TYPE_CHECKING:
    from workers.host.evidence.fork_server import ForkServer
    from workers.wiring.kit import Kit


def node(settings: NodeSettings) -> Runnable:
    """The node worker; it owns its data directory until it ends.

    Raises:
        InUse: another worker has the data directory or the journal.
        ConfigError: data directory, keys, keyset or broker settings cannot be used.
        LimitExceeded, PermanentFailure: the journal's disk is full or damaged.
    """
    from workers.host.evidence.fork_server import start_fork_server
    from workers.system.lock_file import LockFile

    with ExitStack() as opened:
        fork_server = start_fork_server()  # before there is a thread, a lock, a key or anything else to inherit
        opened.callback(fork_server.close)
        opened.callback(LockFile(settings.node.data_dir / "lock").release)
        from workers.wiring.kit import Kit

        kit = Kit("node", settings, opened)
        steps = _steps(settings, kit, fork_server)
        return kit.following(Loop(steps, close=opened.pop_all().close), steps.transitions.commit)


def _steps(settings: NodeSettings, kit: "Kit", fork_server: "ForkServer") -> Steps:
    commit_signal, lane_signals = CommitSignal(), LaneSignals()
    services = node_services(settings, kit, fork_server, committed=commit_signal.set)
    lanes = Lanes(settings.actions.queue_length, lock=lane_signals.lock, wake=lane_signals.wake)
    gate, transitions = Gate(services), Transitions(services)
    deadline_watch = DeadlineWatch(services, gate, transitions)
    generations = Generations(services, transitions, partitions=settings.node.command_partitions)
    intake = Intake(services, gate, transitions, lanes)
    executor = Executor(services, intake, transitions, lanes, generations)
    memory_outbox = kit.memory_outbox(f"node/{services.identity.node_id}/spare")
    unsendable = kit.unsendable(transitions.commit, now_ns=services.time.now_ns)
    return Steps(
        services=services,
        transitions=transitions,
        recovery=Recovery(services, gate, transitions),
        feed=Feed(kit.reader(), executor, kit.telemetry, kit.clock),
        runner=Runner(services, gate, transitions, deadline_watch),
        deadline_watch=deadline_watch,
        effect_watch=EffectWatch(services, transitions),
        heartbeat=Heartbeat(services, transitions, lanes, memory_outbox),
        janitor=Janitor(services),
        leftovers=Leftovers(services, transitions),
        lanes=lanes,
        lane_signals=lane_signals,
        relays=(
            kit.relay(executor, kit.writer(), refused=unsendable),
            kit.relay(memory_outbox, kit.writer(), refused=None),
        ),
        commit_signal=commit_signal,
        heartbeat_s=settings.node.heartbeat_s,
        drain_s=settings.node.drain_s,
    )


def node_services(
    settings: NodeSettings, kit: "Kit", fork_server: "ForkServer", *, committed: Callable[[], None] = lambda: None
) -> Services:
    """What the node's steps share."""
    from workers.actions import CATALOGUE
    from workers.host.machine_identity import Machine
    from workers.store.journal import SqliteJournal
    from workers.system.retrying import TenacityRetrying
    from workers.wiring.host import node_host, own_processes

    machine, processes, uploads = Machine(kit.randomness), own_processes(fork_server), Uploads()
    node_id = machine.node_id(settings.node.data_dir, settings.node.id)
    journal = kit.opened(
        SqliteJournal(settings.node.data_dir / "journal.sqlite", node_id=node_id, randomness=kit.randomness)
    )
    _check_owner(journal.node_id, node_id)
    verifier = kit.verifier()
    return Services(
        identity=Identity(
            node_id=node_id,
            key_id=kit.signer.key_id,
            incarnation=journal.incarnation,
            instance_id=kit.instance_id,
            boot_id=processes.boot_id(),
            machine_key=machine.machine_key,
            host_names=settings.node.host_names or machine.host_names,
            zone=settings.node.zone,
            cluster=settings.node.cluster,
            labels=settings.node.labels,
            version=_version(),
        ),
        journal=journal,
        codec=kit.codec,
        verifier=verifier,
        recorder=kit.recorder,
        clock=kit.clock,
        time=TimeFloor(kit.clock, journal.floor_ns()),
        telemetry=kit.telemetry,
        failpoints=kit.failpoints,
        retrying=TenacityRetrying(kit.clock),
        host=node_host(settings, kit, fork_server, node_id, verifier, processes=processes, progress=uploads),
        catalogue={action.name: action for action in CATALOGUE},
        settings=settings.actions,
        health=Health(kit.clock),
        uploads=uploads,
        committed=committed,
    )


def reset_time_floor(settings: NodeSettings) -> tuple[int, int]:
    """Let the journal's floor of time be the present time of this machine's clock, and put an audit record about it
    into the journal's outbox; what it was and what it is, nanoseconds. The worker must not run.

    Raises:
        InUse, ConfigError, LimitExceeded, PermanentFailure: as for the node itself.
    """
    from workers.host.machine_identity import Machine
    from workers.store.journal import SqliteJournal
    from workers.system.lock_file import LockFile
    from workers.wiring.kit import Kit

    with ExitStack() as opened:
        opened.callback(LockFile(settings.node.data_dir / "lock").release)
        kit = Kit("node", settings, opened)
        node_id = Machine(kit.randomness).node_id(settings.node.data_dir, settings.node.id)
        journal = kit.opened(
            SqliteJournal(settings.node.data_dir / "journal.sqlite", node_id=node_id, randomness=kit.randomness)
        )
        _check_owner(journal.node_id, node_id)
        before_ns, now_ns = journal.floor_ns(), kit.clock.now_ns()
        with journal.begin() as tx:
            tx.reset_floor(now_ns)
            detail: Values = {"before_ns": before_ns, "now_ns": now_ns}
            kit.recorder.audit(tx, "time_floor_reset", at_ns=now_ns, actor=f"uid {os.getuid()}", detail=detail)
        return before_ns, now_ns


def _check_owner(journal_owner: NodeId, node_id: NodeId) -> None:
    from workers.domain.errors import ConfigError, Problem

    if journal_owner != node_id:
        reason = f"holds the journal of node {journal_owner}, not of node {node_id}; give each node its own directory"
        raise ConfigError((Problem("node.data_dir", reason),))


def _version() -> str:
    from workers import __version__

    return __version__
