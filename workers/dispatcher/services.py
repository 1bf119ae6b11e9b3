"""What all step functions of the dispatcher share: its ports, its catalogue, its policy.

Made once by ``wiring.dispatcher`` (or a test). Makes no decisions and has no state of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workers.actions.base import AnyAction
from workers.dispatcher.tails import Tails
from workers.domain.ids import NodeId
from workers.domain.policy import Decision, PolicyState
from workers.domain.request import ActionRequest
from workers.system.ports import Telemetry
from workers.wire.ports import Codec, Recorder, RecordSigner, RecordVerifier


@dataclass(frozen=True, slots=True)
class Services:
    """The dispatcher's ports and rules, the same for every transaction."""

    codec: Codec
    verifier: RecordVerifier
    signer: RecordSigner
    """Signs commands; no other worker has this key."""
    recorder: Recorder
    telemetry: Telemetry
    tails: Tails
    actions: Mapping[str, AnyAction]
    """The closed catalogue."""
    zones: Mapping[str, int]
    """Partitions of the command topic of each zone that this dispatcher serves."""
    silent_after_s: int
    decide: Callable[[ActionRequest, PolicyState], Decision]
    left_nodes: Callable[[], Mapping[NodeId, int]] = dict
    """Nodes that operators retired or revoked, and from when on their keys count no more."""
