"""One runtime event of a detector, normalised.

Made by ``wire.event_reader`` and the Avro codec; matched by ``domain.rules.rule``; stored by the projector. Its
content is untrusted everywhere: it may name a target and never proves one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from workers.domain.ids import EventId
from workers.domain.outcome import NOTHING, Values

MAX_ANCESTORS: Final = 32
"""Longest process line an event or a target may carry; Falco itself names at most 20 ancestors."""


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process as an event or a reviewer names it."""

    pid: int
    started_at_ns: int | None = None
    """Start time in nanoseconds since the epoch, where the detector knows it (Falco: ``proc.pid.ts``)."""
    exe: str = ""
    name: str = ""
    command_line: str = ""


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """A container as an event names it."""

    id: str
    """12 to 64 hex digits; resolved to exactly one run on the node, never by name. Empty where the event is of a
    container, or may be, and names none that can be used."""
    name: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """One detection. Times are nanoseconds since the epoch."""

    event_id: EventId
    detector: str
    source: str
    rule: str
    priority: str
    occurred_at_ns: int
    host: str
    """Node id or host name, as the detector gave it; only the dispatcher resolves it. Empty when unknown."""
    message: str = ""
    tags: tuple[str, ...] = ()
    process_line: tuple[ProcessRef, ...] = ()
    """The event's process, then its parent, grandparent and so on, as far as the detector reports them."""
    container: ContainerRef | None = None
    """None is no proof that it happened on the host: ``domain.falco.container`` decides that."""
    file_path: str = ""
    cluster: str = ""
    namespace: str = ""
    workload: str = ""
    caused_by: str = ""
    """The execution of Douse that caused this event, where the event was made from its audit stream; else empty."""
    fields: Values = field(default_factory=lambda: NOTHING)
    """The detector's own output fields, flat."""
    labels: Mapping[str, str] = field(default_factory=dict)


PRIORITIES: tuple[str, ...] = (
    "emergency",
    "alert",
    "critical",
    "error",
    "warning",
    "notice",
    "informational",
    "debug",
)
"""Falco's priorities, most severe first, in lower case."""
