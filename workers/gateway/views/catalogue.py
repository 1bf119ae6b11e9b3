"""The actions. Made by ``fleet_showing``."""

from dataclasses import dataclass

from workers.gateway.views.targets import Flat, TargetView


@dataclass(frozen=True, slots=True)
class FieldView:
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


@dataclass(frozen=True, slots=True)
class ActionView:
    """One entry of the catalogue."""

    name: str
    """Its name, here and in a node's settings."""
    type: str
    """Its name in the compatible API."""
    summary: str
    """What it does."""
    drawbacks: tuple[str, ...]
    """What it costs."""
    permission: str
    """The class of permission it needs."""
    lane: str
    """containment or gathering."""
    target: str
    """process, container or file."""
    parameters: tuple[FieldView, ...]
    """What may be chosen."""
    outputs: tuple[FieldView, ...]
    """What it reports."""
    privileges: tuple[str, ...]
    """Linux capabilities it needs for others' objects."""
    mounts: tuple[str, ...]
    """Host paths a containerised worker needs."""
    reversible_by: str | None
    """The action that undoes it; None where nothing does."""
    undo_only: bool
    """Runs only as another action's undo."""
    ttl_s: int
    """Seconds after which a request of it may no longer start, unless the request says otherwise."""
    timeout_s: int
    """Seconds a run may take."""
    example_target: TargetView | None
    """An example of what it acts on."""
    example_parameters: Flat
    """An example of its parameters."""
