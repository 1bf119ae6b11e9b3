"""What every step of the node worker has at hand: who this node is, its ports, its catalogue, its own settings.

Made once by wiring (or a test) and shared by all steps. Holds no decisions and no state of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from workers.actions.base import AnyAction
from workers.domain.admission import Addressee
from workers.domain.ids import Incarnation, InstanceId, KeyId, NodeId
from workers.domain.outcome import NOTHING, Values
from workers.host.ports import Host
from workers.node.health import Health
from workers.node.time_floor import TimeFloor
from workers.node.uploads import Uploads
from workers.settings import ResponseActions
from workers.store.ports import Journal
from workers.system.ports import Clock, Failpoints, Retrying, Telemetry
from workers.wire.ports import Codec, Recorder, RecordVerifier

FAILPOINTS: Final = (
    "node.intake.before_commit",
    "node.intake.after_commit",
    "node.claim.before_commit",
    "node.claim.after_commit",
    "node.execute.before",
    "node.execute.after",
    "node.observe.before_commit",
    "node.observe.after_commit",
    "node.acknowledge.before",
)
"""Every place where a fault test may end this worker, in the order a command passes them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, in the words of the heartbeat."""

    node_id: NodeId
    key_id: KeyId
    incarnation: Incarnation
    instance_id: InstanceId
    boot_id: str = ""
    machine_key: str = ""
    host_names: tuple[str, ...] = ()
    zone: str = "default"
    cluster: str = ""
    labels: Values = field(default_factory=lambda: NOTHING)
    version: str = ""

    @property
    def addressee(self) -> Addressee:
        """The part of it that a command must name."""
        return Addressee(self.node_id, self.key_id, self.incarnation)


@dataclass(frozen=True, slots=True)
class Services:
    """The ports and facts that the steps share."""

    identity: Identity
    journal: Journal
    codec: Codec
    verifier: RecordVerifier
    recorder: Recorder
    clock: Clock
    time: TimeFloor
    telemetry: Telemetry
    failpoints: Failpoints
    retrying: Retrying
    host: Host
    catalogue: Mapping[str, AnyAction]
    """Every action this version knows, by name; whether one may run here is the gate's question."""
    settings: ResponseActions
    health: Health
    uploads: Uploads
    """The same board that ``host`` tells."""
    committed: Callable[[], None] = lambda: None
    """Called after every commit: there may be something for the relay."""
