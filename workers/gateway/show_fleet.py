"""Events, nodes, actions and health as the native face shows them.

Called by ``http.native``; pure.
"""

from workers.actions.base import AnyAction, FieldSpec
from workers.domain.history.queries import StoredEvent, StoredNode, StoreHealth
from workers.gateway import show_execution
from workers.gateway.times import shown
from workers.gateway.views.catalogue import ActionView, FieldView
from workers.gateway.views.events import EventView
from workers.gateway.views.fleet import HealthView, NodeView, PositionView, ProgressView


def event(stored: StoredEvent) -> EventView:
    """An event, and what it led to."""
    event = stored.event
    return EventView(
        id=event.event_id,
        detector=event.detector,
        source=event.source,
        rule=event.rule,
        priority=event.priority,
        occurred_at=shown(event.occurred_at_ns),
        host=event.host,
        message=event.message,
        tags=event.tags,
        process_line=show_execution.processes(event.process_line),
        container_id=event.container.id if event.container is not None else "",
        container_name=event.container.name if event.container is not None else "",
        container_image=event.container.image if event.container is not None else "",
        file_path=event.file_path,
        cluster=event.cluster,
        namespace=event.namespace,
        workload=event.workload,
        caused_by=event.caused_by,
        fields=show_execution.flat(event.fields),
        executions=stored.executions,
    )


def node(stored: StoredNode) -> NodeView:
    """A node's newest heartbeat."""
    state = stored.state
    return NodeView(
        node_id=state.node_id,
        incarnation=state.incarnation,
        instance_id=state.instance_id,
        record_no=state.record_no,
        at=shown(state.at_ns),
        boot_id=state.boot_id,
        machine_key=state.machine_key,
        node_key=state.node_key,
        host_names=state.host_names,
        zone=state.zone,
        cluster=state.cluster,
        version=state.version,
        actions=state.actions,
        runtimes=state.runtimes,
        gathering=tuple(ProgressView(p.execution_id, p.done, p.size) for p in state.gathering),
        positions=tuple(PositionView(p.log_id, p.topic, p.partition, p.next_offset) for p in state.positions),
        queued=state.queued,
        running=state.running,
        unpublished=state.unpublished,
        health=state.health,
        labels=show_execution.flat(state.labels),
        verified=stored.verified,
        folded_at=shown(stored.folded_at_ns),
    )


def action(action: AnyAction) -> ActionView:
    """A catalogue entry, as the action describes itself."""
    example = action.example.get("target")
    return ActionView(
        name=action.name,
        type=action.api_type,
        summary=action.summary,
        drawbacks=action.drawbacks,
        permission=action.permission,
        lane=action.lane,
        target=action.target.kind,
        parameters=tuple(_field(spec) for spec in action.parameter_specs()),
        outputs=tuple(_field(spec) for spec in action.outputs),
        privileges=action.privileges,
        mounts=action.mounts,
        reversible_by=action.reversible_by,
        undo_only=action.undo_only,
        ttl_s=action.ttl_s,
        timeout_s=action.timeout_s,
        example_target=show_execution.target(example) if example is not None else None,
        example_parameters=show_execution.flat(action.example.get("parameters", {})),
    )


def health(store: StoreHealth, *, nodes: int, version: str, now_ns: int) -> HealthView:
    """All there is to say to somebody with a token."""
    return HealthView(
        live=True,
        ready=True,
        version=version,
        now=shown(now_ns),
        nodes=nodes,
        executions=store.executions,
        offsets=dict(store.next_offsets),
        unverified=store.unverified,
        conflicts=store.conflicts,
        gaps=store.gaps,
    )


def _field(spec: FieldSpec) -> FieldView:
    return FieldView(spec.name, spec.type, spec.description, spec.required, spec.default, spec.minimum, spec.maximum)
