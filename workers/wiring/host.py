"""What the node's actions act on, put together: processes, containers, files, network, evidence, object store.

Called by ``wiring.node``, after the fork server was started.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from workers.actions.file_acquire import AcquireSettings, FileAcquire
from workers.actions.file_quarantine import FileQuarantine, QuarantineSettings
from workers.actions.isolate_network import IsolateNetwork, IsolateSettings
from workers.domain.ids import NodeId
from workers.host.evidence.fork_server import ForkServer
from workers.host.evidence.isolated_reader import IsolatedFileReader
from workers.host.evidence.ports import ProgressBoard
from workers.host.evidence.spool import SystemSpool
from workers.host.files.ports import VaultLimits
from workers.host.files.quarantine.vault import SystemVault
from workers.host.network.system import SystemNetwork
from workers.host.ports import Host
from workers.host.processes.pidfd import allow_descriptors
from workers.host.processes.system import SystemProcesses
from workers.log.cluster_facts import brokers
from workers.settings import NodeSettings
from workers.store.objects.stores import open_store
from workers.system.parent import siblings
from workers.wire.ports import RecordVerifier
from workers.wiring.containers import host_containers
from workers.wiring.kit import Kit

_SETTINGS: Final = frozenset({".yaml", ".yml", ".json", ".key", ".pem", ".crt", ".token"})


def own_processes(fork_server: ForkServer) -> SystemProcesses:
    """The processes of this host, protecting Douse's own and the fork server's."""
    allow_descriptors()
    return SystemProcesses(siblings=lambda: (*siblings(), fork_server.pid))


def node_host(
    settings: NodeSettings,
    kit: Kit,
    fork_server: ForkServer,
    node_id: NodeId,
    verifier: RecordVerifier,
    *,
    processes: SystemProcesses,
    progress: ProgressBoard,
) -> Host:
    """Everything an action may reach on this machine.

    Raises:
        ConfigError: a directory, a secret or a certificate authority cannot be used.
    """
    containers = host_containers(settings.actions, kit.clock, own_line=processes.own_line)
    quarantine = settings.actions.section(FileQuarantine.name, QuarantineSettings)
    acquire = settings.actions.section(FileAcquire.name, AcquireSettings)
    isolate = settings.actions.section(IsolateNetwork.name, IsolateSettings)
    protected = own_paths(settings)
    vault = SystemVault(
        quarantine.quarantine_path,
        VaultLimits(
            max_file=quarantine.max_file_size_mb << 20,
            quota=quarantine.quota_mb << 20,
            reserve=quarantine.reserve_mb << 20,
        ),
        node_id=node_id,
        signer=kit.signer,
        verifier=verifier,
        clock=kit.clock,
        own=protected,
    )
    spool = SystemSpool(
        settings.node.data_dir / "spool",
        largest=acquire.max_file_size_mb << 20,
        reserve=acquire.reserve_mb << 20,
        node_id=node_id,
        signer=kit.signer,
        verifier=verifier,
        own={**protected, quarantine.quarantine_path: "is this node's quarantine"},
        reader=IsolatedFileReader(fork_server, kit.clock),
    )
    network = SystemNetwork(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        brokers=lambda: brokers(settings.kafka, telemetry=kit.telemetry, clock=kit.clock),
        store_url=settings.storage.s3.endpoint if settings.storage.s3 is not None else "",
        operators=isolate.lifelines(),
        own_ids=containers.own_ids,
    )
    return Host(
        processes=processes,
        clock=kit.clock,
        failpoints=kit.failpoints,
        vault=vault,
        spool=spool,
        objects=open_store(settings.storage, node_id),
        containers=containers,
        network=network,
        progress=progress,
    )


def own_paths(settings: NodeSettings) -> Mapping[Path, str]:
    """Files and directories of this node that no action may touch, and why; the worker's code is found elsewhere."""
    own = {path: f"is what this node's settings name as {key}" for path, key in settings.paths().items()}
    own |= {
        settings.node.data_dir: "is this node's journal",
        settings.keys.private_key.parent: "holds this node's keys",
    }
    if settings.storage.directory is not None:
        own[settings.storage.directory] = "is the object store"
    if settings.file is not None:
        own |= _around(settings.file.absolute())
    return own


def _around(config: Path) -> Mapping[Path, str]:
    """The settings file, what lies beside it, and all that `douse up` keeps, its admin token too."""
    own = {path: "lies beside this node's settings" for path in config.parent.iterdir() if path.suffix in _SETTINGS}
    own[config] = "is this node's settings"
    data = config.parent.parent
    if config.parent.name == "config" and (data / "context.yaml").exists():
        own[data] = "is the data of this `douse up`, its keys and tokens too"
    return own
