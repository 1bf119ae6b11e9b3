"""An action, as it describes itself in the catalogue. Made by the routes. Pure."""

from workers.actions.base import AnyAction, FieldSpec
from workers.gateway.http.native.target_view import Flat, TargetView, View, flat


class FieldView(View):
    """One parameter or output."""

    name: str
    """Its name."""
    type: str
    """string, integer or boolean."""
    description: str
    """What it means."""
    required: bool
    """Whether it must be given."""
    default: str | int | bool | None
    """What it is when not given."""
    minimum: int | None
    """Smallest integer."""
    maximum: int | None
    """Largest integer, or longest text in characters."""

    @classmethod
    def of(cls, spec: FieldSpec) -> "FieldView":
        """A parameter or output."""
        return cls(
            name=spec.name,
            type=spec.type,
            description=spec.description,
            required=spec.required,
            default=spec.default,
            minimum=spec.minimum,
            maximum=spec.maximum,
        )


class ActionView(View):
    """One entry of the catalogue."""

    name: str
    """Its name, here and in a node's settings."""
    type: str
    """Its name in the compatible API."""
    summary: str
    """What it does."""
    drawbacks: tuple[str, ...]
    """Its drawbacks."""
    permission: str
    """The class of permission it needs."""
    lane: str
    """containment or gathering."""
    target: str
    """process, container, file or network."""
    parameters: tuple[FieldView, ...]
    """What may be chosen."""
    outputs: tuple[FieldView, ...]
    """What it reports."""
    privileges: tuple[str, ...]
    """Linux capabilities it needs for objects of other users."""
    mounts: tuple[str, ...]
    """Host paths a containerised worker needs."""
    reversible_by: str | None
    """The action that undoes it; null if nothing does."""
    undo_only: bool
    """Runs only as the undo of another action."""
    ttl_s: int
    """Seconds after which a request of it may no longer start, unless the request says otherwise."""
    timeout_s: int
    """Seconds a run may take."""
    example_target: TargetView | None
    """An example of what it acts on."""
    example_parameters: Flat
    """An example of its parameters."""
    offered_by: int
    """How many nodes would run it now."""

    @classmethod
    def of(cls, action: AnyAction, *, offered_by: int) -> "ActionView":
        """A catalogue entry, as the action describes itself."""
        example = action.example.get("target")
        return cls(
            name=action.name,
            type=action.api_type,
            summary=action.summary,
            drawbacks=action.drawbacks,
            permission=action.permission,
            lane=action.lane,
            target=action.target.kind,
            parameters=tuple(FieldView.of(spec) for spec in action.parameter_specs()),
            outputs=tuple(FieldView.of(spec) for spec in action.outputs),
            privileges=action.privileges,
            mounts=action.mounts,
            reversible_by=action.reversible_by,
            undo_only=action.undo_only,
            ttl_s=action.ttl_s,
            timeout_s=action.timeout_s,
            example_target=TargetView.of(example) if example is not None else None,
            example_parameters=flat(action.example.get("parameters", {})),
            offered_by=offered_by,
        )
