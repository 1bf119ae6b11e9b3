"""The node worker, put together.

Called by the composition root. Imports of adapters stand inside the functions, so that no other worker pays for them.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.domain.ids import NodeId
from workers.node.services import Identity, Services
from workers.node.transitions import Transitions
from workers.settings import NodeSettings
from workers.system.ports import Runnable

if TYPE_CHECKING:
    from workers.host.evidence.fork_server import ForkServer


def node(settings: NodeSettings) -> Runnable:
    """The node worker; it owns its data directory until it ends.

    Raises:
        ConfigError: data directory, keys, keyset or broker settings cannot be used, or another worker has them.
        LimitExceeded, PermanentFailure: the journal's disk is full, damaged, or the file is in use.
    """
    from workers.host.evidence.fork_server import start_fork_server
    from workers.system.lock_file import LockFile

    opened = _Opened()
    fork_server = start_fork_server()  # before there is a thread, a lock or anything else to inherit
    opened.on_close(fork_server.close)
    try:
        opened.on_close(LockFile(settings.node.data_dir / "lock").release)
        return _built(settings, opened, fork_server)
    except BaseException:
        opened.close()
        raise


def _built(settings: NodeSettings, opened: "_Opened", fork_server: "ForkServer") -> Runnable:
    from workers.domain.ids import ChainId
    from workers.log.memory_outbox import MemoryOutbox
    from workers.log.readers import KafkaLogReader
    from workers.log.relay import OutboxRelay
    from workers.log.unsendable import Unsendable
    from workers.log.writer import KafkaLogWriter
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
    from workers.node.loop import CommitSignal, LaneSignals, Loop, Steps
    from workers.node.recover import Recovery
    from workers.node.run import Runner

    commit_signal = CommitSignal()
    at = _services(settings, opened, fork_server, committed=commit_signal.set)
    gate, transitions = Gate(at), Transitions(at)
    lane_signals = LaneSignals()
    lanes = Lanes(at.settings.queue_length, lock=lane_signals.lock, wake=lane_signals.wake)
    watch = DeadlineWatch(at, transitions)
    generations = Generations(at, transitions, partitions=settings.node.command_partitions)
    executor = Executor(at, Intake(at, gate, transitions, lanes), transitions, lanes, generations)
    reader = KafkaLogReader(settings.kafka, telemetry=at.telemetry, clock=at.clock)
    opened.on_close(reader.close)
    feed = Feed(reader, executor, at.telemetry, at.clock)
    spare = MemoryOutbox(ChainId(f"node/{at.identity.node_id}/spare"))
    relays = []
    unsendable = Unsendable(transitions.commit, at.recorder, at.time.now_ns, at.telemetry)
    for outbox, refused in ((executor, unsendable), (spare, None)):
        writer = KafkaLogWriter(settings.kafka, telemetry=at.telemetry, clock=at.clock)
        opened.on_close(writer.close)
        relays.append(
            OutboxRelay(
                outbox, writer, failpoints=at.failpoints, telemetry=at.telemetry, clock=at.clock, refused=refused
            )
        )
    steps = Steps(
        services=at,
        transitions=transitions,
        recovery=Recovery(at, gate, transitions),
        feed=feed,
        runner=Runner(at, gate, transitions, watch),
        deadline_watch=watch,
        effect_watch=EffectWatch(at, transitions),
        heartbeat=Heartbeat(at, transitions, lanes, spare),
        janitor=Janitor(at),
        lanes=lanes,
        lane_signals=lane_signals,
        relays=relays,
        commit_signal=commit_signal,
        heartbeat_s=settings.node.heartbeat_s,
        drain_s=settings.node.drain_s,
    )
    return Loop(steps, close=opened.close)


def _services(
    settings: NodeSettings, opened: "_Opened", fork_server: "ForkServer", *, committed: Callable[[], None]
) -> Services:
    from workers.actions import CATALOGUE
    from workers.domain.ids import RANDOM_BYTES, InstanceId, uuid7
    from workers.host.evidence.isolated_reader import IsolatedFileReader
    from workers.host.evidence.spool import SystemSpool
    from workers.host.files.ports import VaultLimits
    from workers.host.files.quarantine.vault import SystemVault
    from workers.host.machine import Machine
    from workers.host.network.system import SystemNetwork
    from workers.host.ports import Host
    from workers.host.processes.descriptors import allow_many
    from workers.host.processes.system import SystemProcesses
    from workers.log.cluster_facts import brokers
    from workers.node.health import Health
    from workers.node.time_floor import TimeFloor
    from workers.node.uploads import Uploads
    from workers.store.journal import SqliteJournal
    from workers.store.objects.stores import open_store
    from workers.system.clock import SystemClock
    from workers.system.failpoints import failpoints
    from workers.system.parent import siblings
    from workers.system.randomness import SystemRandomness
    from workers.system.retrying import TenacityRetrying
    from workers.system.telemetry import telemetry
    from workers.wire.avro import AvroCodec
    from workers.wire.keys import load_keyset, load_private_key
    from workers.wire.recorder import ChainRecorder
    from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier
    from workers.wiring.containers import host_containers

    allow_many()
    clock, randomness, codec, uploads = SystemClock(), SystemRandomness(), AvroCodec(), Uploads()
    machine, processes = Machine(randomness), SystemProcesses(siblings=lambda: (*siblings(), fork_server.pid))
    instance_id = InstanceId(uuid7(clock.now_ns(), randomness.bytes(RANDOM_BYTES)))
    armed = failpoints(os.environ)
    signer = EnvelopeSigner(load_private_key(settings.keys.private_key), codec)
    keyset = load_keyset(settings.keys.keyset)
    node_id = machine.node_id(settings.node.data_dir, settings.node.id)
    journal = SqliteJournal(settings.node.data_dir / "journal.sqlite", node_id=node_id, randomness=randomness)
    opened.on_close(journal.close)
    _check_owner(journal.node_id, node_id)
    verifier = EnvelopeVerifier(keyset, codec, clock=clock)
    quarantine, acquire = settings.actions.file_quarantine, settings.actions.file_acquire
    own = {
        settings.node.data_dir: "is this node's journal",
        settings.keys.private_key.parent: "holds this node's keys",
    }
    if settings.storage.directory is not None:
        own[settings.storage.directory] = "is the object store"
    vault = SystemVault(
        quarantine.quarantine_path,
        VaultLimits(
            max_file=quarantine.max_file_size_mb << 20,
            quota=quarantine.quota_mb << 20,
            reserve=quarantine.reserve_mb << 20,
        ),
        node_id=node_id,
        signer=signer,
        verifier=verifier,
        clock=clock,
        own=own,
    )
    spool = SystemSpool(
        settings.node.data_dir / "spool",
        largest=acquire.max_file_size_mb << 20,
        reserve=acquire.reserve_mb << 20,
        node_id=node_id,
        signer=signer,
        verifier=verifier,
        clock=clock,
        own={**own, quarantine.quarantine_path: "is this node's quarantine"},
        reader=IsolatedFileReader(fork_server, clock),
    )
    identity = Identity(
        node_id=node_id,
        key_id=signer.key_id,
        incarnation=journal.incarnation,
        instance_id=instance_id,
        boot_id=processes.boot_id(),
        machine_key=machine.machine_key,
        host_names=settings.node.host_names or machine.host_names,
        zone=settings.node.zone,
        cluster=settings.node.cluster,
        labels=settings.node.labels,
        version=_version(),
    )
    containers = host_containers(settings.actions, clock, own_line=processes.own_line)
    told = telemetry(settings.telemetry, worker="node", instance_id=instance_id)
    return Services(
        identity=identity,
        journal=journal,
        codec=codec,
        verifier=verifier,
        recorder=ChainRecorder("node", signer=signer, codec=codec),
        clock=clock,
        time=TimeFloor(clock, journal.floor_ns()),
        telemetry=told,
        failpoints=armed,
        retrying=TenacityRetrying(clock),
        host=Host(
            processes=processes,
            clock=clock,
            failpoints=armed,
            vault=vault,
            spool=spool,
            objects=open_store(settings.storage, node_id, clock=clock),
            containers=containers,
            network=SystemNetwork(
                bootstrap_servers=settings.kafka.bootstrap_servers,
                brokers=lambda: brokers(settings.kafka, telemetry=told, clock=clock),
                store_url=settings.storage.s3.endpoint if settings.storage.s3 is not None else "",
                operators=settings.actions.isolate_network.lifelines(),
                own_ids=containers.own_ids,
            ),
            progress=uploads,
        ),
        catalogue={action.name: action for action in CATALOGUE},
        settings=settings.actions,
        health=Health(clock),
        uploads=uploads,
        committed=committed,
    )


def _check_owner(born_for: NodeId, node_id: NodeId) -> None:
    from workers.domain.errors import ConfigError, Problem

    if born_for != node_id:
        reason = f"holds the journal of node {born_for}, and this is node {node_id}; give each node its own directory"
        raise ConfigError((Problem("node.data_dir", reason),))


def _version() -> str:
    from workers import __version__

    return __version__


@dataclass(slots=True)
class _Opened:
    """What must be closed, newest first."""

    closers: list[Callable[[], None]] = field(default_factory=list)

    def on_close(self, closer: Callable[[], None]) -> None:
        self.closers.append(closer)

    def close(self) -> None:
        while self.closers:
            self.closers.pop()()
