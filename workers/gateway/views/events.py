"""What a detector saw. Made by ``fleet_showing`` and by the route that takes events in."""

from dataclasses import dataclass

from workers.gateway.views.targets import Flat, TargetProcessView


@dataclass(frozen=True, slots=True)
class EventView:
    """One detection, normalised. Its content is the detector's word."""

    id: str
    """The detector's own id, or one derived from the content."""
    detector: str
    """Such as falco."""
    source: str
    """Such as syscall."""
    rule: str
    """The detector's rule."""
    priority: str
    """emergency, alert, critical, error, warning, notice, informational or debug."""
    occurred_at: str | None
    """When it happened."""
    host: str
    """Node id or host name, as the detector gave it."""
    message: str
    """The detector's line."""
    tags: tuple[str, ...]
    """The rule's tags."""
    process_line: tuple[TargetProcessView, ...]
    """The process, its parent, and so on."""
    container_id: str
    """12 to 64 hex digits, or empty."""
    container_name: str
    """The container's name."""
    container_image: str
    """Its image."""
    file_path: str
    """The file, or empty."""
    cluster: str
    """Kubernetes cluster."""
    namespace: str
    """Kubernetes namespace."""
    workload: str
    """Kubernetes pod or workload."""
    caused_by: str
    """Our own execution that caused this event, or empty."""
    fields: Flat
    """The detector's own output fields."""
    executions: tuple[str, ...]
    """Executions it led to."""


@dataclass(frozen=True, slots=True)
class AcceptedEventView:
    """One event that the log has."""

    event_id: str
    """Its id."""
