"""What all steps of the node share: its identity, its ports, its catalogue, its own settings.

Made once by ``wiring.node`` (or a test). Makes no decisions and has no state of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from workers.actions.base import AnyAction
from workers.domain.admission import Addressee
from workers.domain.ids import Incarnation, InstanceId, KeyId, NodeId
from workers.domain.outcome import NOTHING, Values
from workers.host.ports import Host
from workers.node.live_state import Health, TimeFloor, Uploads
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
"""Where a fault test may end this worker, in the order a command passes them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """This node, as its heartbeat describes it."""

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
        """What a command for this node must name."""
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
    """Every action this version knows, by name; whether one may run here is decided by the gate."""
    settings: ResponseActions
    health: Health
    uploads: Uploads
    """The same object as ``host.progress``."""
    committed: Callable[[], None] = lambda: None
    """Called after every commit: there may be something to send."""
