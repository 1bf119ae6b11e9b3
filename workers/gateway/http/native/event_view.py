"""A detector's event, as the native API shows it. Made by the routes. Pure."""

from workers.domain.history.queries import StoredEvent
from workers.gateway.http.native.target_view import Flat, TargetProcessView, View, flat
from workers.gateway.http.native.times import shown


class EventView(View):
    """One detection, normalised. Its content comes from the detector and is not verified."""

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

    @classmethod
    def of(cls, stored: StoredEvent) -> "EventView":
        """An event, and what it led to."""
        event = stored.event
        return cls(
            id=event.event_id,
            detector=event.detector,
            source=event.source,
            rule=event.rule,
            priority=event.priority,
            occurred_at=shown(event.occurred_at_ns),
            host=event.host,
            message=event.message,
            tags=event.tags,
            process_line=TargetProcessView.line_of(event.process_line),
            container_id=event.container.id if event.container is not None else "",
            container_name=event.container.name if event.container is not None else "",
            container_image=event.container.image if event.container is not None else "",
            file_path=event.file_path,
            cluster=event.cluster,
            namespace=event.namespace,
            workload=event.workload,
            caused_by=event.caused_by,
            fields=flat(event.fields),
            executions=stored.executions,
        )


class AcceptedEventView(View):
    """One event that the log has."""

    event_id: str
    """Its id."""
