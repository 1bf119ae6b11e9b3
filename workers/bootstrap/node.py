"""The node worker, put together.

Called by the composition root. Imports of adapters stand inside the functions, so that no other worker pays for them.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.core.ids import NodeId
from workers.node.equipment import Equipment, Identity
from workers.node.register import Register
from workers.ports import Runnable
from workers.settings import NodeSettings

if TYPE_CHECKING:
    from workers.adapters.spool.keeper import Keeper


def node(settings: NodeSettings) -> Runnable:
    """The node worker; it owns its data directory until it ends.

    Raises:
        ConfigError: data directory, keys, keyset or broker settings cannot be used, or another worker has them.
        LimitExceeded, PermanentFailure: the journal's disk is full, damaged, or the file is in use.
    """
    from workers.adapters.lockfile import LockFile
    from workers.adapters.spool.keeper import start_keeper

    opened = _Opened()
    keeper = start_keeper()  # before there is a thread, a lock or anything else to inherit
    opened.on_close(keeper.close)
    try:
        opened.on_close(LockFile(settings.node.data_dir / "lock").release)
        return _built(settings, opened, keeper)
    except BaseException:
        opened.close()
        raise


def _built(settings: NodeSettings, opened: "_Opened", keeper: "Keeper") -> Runnable:
    from workers.adapters.kafka.memory_outbox import MemoryOutbox
    from workers.adapters.kafka.reader import KafkaLogReader
    from workers.adapters.kafka.relay import OutboxRelay
    from workers.adapters.kafka.unsendable import Unsendable
    from workers.adapters.kafka.writer import KafkaLogWriter
    from workers.core.ids import ChainId
    from workers.node.executor import Executor
    from workers.node.feed import Feed
    from workers.node.gate import Gate
    from workers.node.generations import Generations
    from workers.node.heartbeat import Heartbeat
    from workers.node.intake import Intake
    from workers.node.janitor import Janitor
    from workers.node.loop import Bell, Loop, Pace, SharedLanes, Steps
    from workers.node.recover import Recovery
    from workers.node.run import Runner
    from workers.node.vigil import Vigil
    from workers.node.watch import Watch

    bell = Bell()
    at = _equipment(settings, opened, keeper, committed=bell.ring)
    gate, register = Gate(at), Register(at)
    lanes = SharedLanes(at.settings.queue_length, at.clock.monotonic_ns)
    watch = Watch(at, register)
    generations = Generations(at, register, partitions=settings.node.command_partitions)
    executor = Executor(at, Intake(at, gate, register, lanes), register, lanes, generations)
    reader = KafkaLogReader(settings.kafka, telemetry=at.telemetry, clock=at.clock)
    opened.on_close(reader.close)
    feed = Feed(reader, executor, at.telemetry, at.clock)
    spare = MemoryOutbox(ChainId(f"node/{at.identity.node_id}/spare"))
    relays = []
    unsendable = Unsendable(register.commit, at.scribe, at.time.now_ns, at.telemetry)
    for outbox, refused in ((executor, unsendable), (spare, None)):
        writer = KafkaLogWriter(settings.kafka, telemetry=at.telemetry, clock=at.clock)
        opened.on_close(writer.close)
        relays.append(
            OutboxRelay(
                outbox, writer, failpoints=at.failpoints, telemetry=at.telemetry, clock=at.clock, refused=refused
            )
        )
    steps = Steps(
        equipment=at,
        register=register,
        recovery=Recovery(at, gate, register),
        feed=feed,
        runner=Runner(at, gate, register, watch),
        watch=watch,
        vigil=Vigil(at, register),
        heartbeat=Heartbeat(at, register, lanes, spare),
        janitor=Janitor(at),
        lanes=lanes,
        relays=relays,
        bell=bell,
    )
    return Loop(steps, Pace(settings.node.heartbeat_s, settings.node.drain_s), close=opened.close)


def _equipment(
    settings: NodeSettings, opened: "_Opened", keeper: "Keeper", *, committed: Callable[[], None]
) -> Equipment:
    from workers.actions import CATALOGUE
    from workers.adapters.avro import AvroCodec
    from workers.adapters.chance import SystemChance
    from workers.adapters.clock import SystemClock
    from workers.adapters.failpoints import failpoints
    from workers.adapters.journal import SqliteJournal
    from workers.adapters.kafka.brokers import brokers
    from workers.adapters.keys import load_keyset, load_private_key
    from workers.adapters.machine import Machine
    from workers.adapters.nftables import SystemNetwork
    from workers.adapters.object_store import open_store
    from workers.adapters.parent import siblings
    from workers.adapters.processes import SystemProcesses
    from workers.adapters.processes.descriptors import allow_many
    from workers.adapters.retrying import TenacityRetrying
    from workers.adapters.scribe import ChainScribe
    from workers.adapters.signing import EnvelopeOpener, EnvelopeSealer
    from workers.adapters.spool import SystemSpool
    from workers.adapters.spool.kept import KeptReading
    from workers.adapters.telemetry import telemetry
    from workers.adapters.vault import SystemVault
    from workers.bootstrap.containers import host_containers
    from workers.core.ids import RANDOM_BYTES, InstanceId, uuid7
    from workers.node.health import Health
    from workers.node.time_floor import TimeFloor
    from workers.node.uploads import Uploads
    from workers.ports import Host, VaultLimits

    allow_many()
    clock, chance, codec, uploads = SystemClock(), SystemChance(), AvroCodec(), Uploads()
    machine, processes = Machine(chance), SystemProcesses(siblings=lambda: (*siblings(), keeper.pid))
    instance_id = InstanceId(uuid7(clock.now_ns(), chance.bytes(RANDOM_BYTES)))
    armed = failpoints(os.environ)
    sealer = EnvelopeSealer(load_private_key(settings.keys.private_key), codec)
    keyset = load_keyset(settings.keys.keyset)
    node_id = machine.node_id(settings.node.data_dir, settings.node.id)
    journal = SqliteJournal(settings.node.data_dir / "journal.sqlite", node_id=node_id, chance=chance)
    opened.on_close(journal.close)
    _check_owner(journal.node_id, node_id)
    opener = EnvelopeOpener(keyset, codec, clock=clock)
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
        sealer=sealer,
        opener=opener,
        clock=clock,
        own=own,
    )
    spool = SystemSpool(
        settings.node.data_dir / "spool",
        largest=acquire.max_file_size_mb << 20,
        reserve=acquire.reserve_mb << 20,
        node_id=node_id,
        sealer=sealer,
        opener=opener,
        clock=clock,
        own={**own, quarantine.quarantine_path: "is this node's quarantine"},
        reading=KeptReading(keeper, clock),
    )
    identity = Identity(
        node_id=node_id,
        key_id=sealer.key_id,
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
    return Equipment(
        identity=identity,
        journal=journal,
        codec=codec,
        opener=opener,
        scribe=ChainScribe("node", sealer=sealer, codec=codec),
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
    from workers.core.errors import ConfigError, Problem

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
