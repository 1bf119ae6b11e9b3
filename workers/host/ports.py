"""Everything an action may touch on this machine, in one value."""

from dataclasses import dataclass, field

from workers.host.containers.ports import Containers
from workers.host.evidence.ports import NoProgress, ProgressBoard, Spool
from workers.host.files.ports import Vault
from workers.host.network.ports import Network
from workers.host.processes.ports import Processes
from workers.store.objects.ports import ObjectStore
from workers.system.ports import Clock, Failpoints


@dataclass(frozen=True, slots=True)
class Host:
    """Everything an action may touch: the ports of this machine. New kinds of action add a field here."""

    processes: Processes
    clock: Clock
    failpoints: Failpoints
    vault: Vault | None = None
    """None where this machine keeps no quarantine: actions on files are refused."""
    spool: Spool | None = None
    objects: ObjectStore | None = None
    """None where no object store is configured: actions that gather are refused."""
    containers: Containers | None = None
    """None where no runtime is asked: actions on containers are refused."""
    network: Network | None = None
    """None where no network can be isolated: those actions are refused."""
    progress: ProgressBoard = field(default_factory=NoProgress)
