"""Request bodies of the native API, and the ``Submission`` that each becomes.

Used by the routes in ``native.requests``. An unknown field is an error: a misspelt ``dry_run`` must never become a real
kill.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, create_model

from workers.domain.outcome import Scalar
from workers.domain.request_bounds import LONGEST_UNDO_AFTER_S
from workers.domain.target import KINDS, Target
from workers.domain.target_kind import NameFormat
from workers.gateway.refusals import Invalid
from workers.gateway.requests import Named, Submission

Int64 = Annotated[StrictInt, Field(ge=-(1 << 63), lt=1 << 63)]
Text = Annotated[StrictStr, Field(max_length=1024)]
Name = Annotated[StrictStr, Field(max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


_FORMATS: Final[Mapping[NameFormat, Any]] = {
    NameFormat.PID: Annotated[StrictInt, Field(ge=1, lt=1 << 31)],
    NameFormat.START_TIME: Int64 | Annotated[StrictStr, Field(pattern=r"^(-1|\d{1,19})$")] | None,
    NameFormat.CONTAINER_ID: Name,
    NameFormat.PATH: Annotated[StrictStr, Field(max_length=4096)],
}
"""The type of a field that names a target."""

_ABSENT: Final[Mapping[NameFormat, Any]] = {NameFormat.START_TIME: None, NameFormat.CONTAINER_ID: ""}
"""The value of an optional field that is left out."""

_UNKNOWN_START: Final = -1


def _body_of(kind: type[Target]) -> type[BaseModel]:
    """The body that names a target of this kind."""
    fields: dict[str, Any] = {
        field.name: (
            _FORMATS[field.format],
            Field(... if field.required else _ABSENT[field.format], description=field.description),
        )
        for field in kind.name_fields
    }
    return create_model(f"{kind.kind.capitalize()}Body", __base__=_Body, __doc__=kind.summary, **fields)


class _AnyTarget(_Body):
    """What to act on: exactly one of these."""

    def named(self) -> Named:
        """The one that is there.

        Raises:
            Invalid: none, or more than one.
        """
        given = [(kind, body) for kind in KINDS if (body := getattr(self, kind.kind)) is not None]
        if len(given) != 1:
            *others, last = (kind.kind for kind in KINDS)
            raise Invalid(f"target names exactly one of {', '.join(others)} and {last}", field="target")
        kind, body = given[0]
        names: dict[str, Scalar] = {}
        for field in kind.name_fields:
            value = getattr(body, field.name)
            if field.format is NameFormat.START_TIME and value is not None:
                value = int(value) if int(value) != _UNKNOWN_START else None
            if value is not None:
                names[field.name] = value
        return Named(kind, names)


if TYPE_CHECKING:
    TargetBody = _AnyTarget
else:
    TargetBody = create_model(
        "TargetBody",
        __base__=_AnyTarget,
        __doc__=_AnyTarget.__doc__,
        **{kind.kind: (_body_of(kind) | None, Field(None, description=kind.summary)) for kind in KINDS},
    )
"""A field for each kind of target."""


class ExecutionBody(_Body):
    """A request for an action."""

    action: Name
    """The action's name in the catalogue."""
    host: Name = ""
    """Node id or host name; may be left out where event_id is given."""
    target: TargetBody | None = None
    """What to act on; or give event_id."""
    event_id: Name = ""
    """Act on what this event names; instead of target."""
    parameters: dict[Name, StrictBool | Int64 | Text] = Field(default={}, max_length=32)
    """The action's parameters; whole numbers may come as text."""
    reason: Text = ""
    """Why it is requested; kept in the history."""
    dry_run: StrictBool = False
    """Check everything and touch nothing."""
    ttl_s: Annotated[StrictInt, Field(ge=0, le=86_400)] = 0
    """Seconds after which it may no longer start; 0 takes the action's own."""
    undo_after_s: Annotated[StrictInt, Field(ge=0, le=LONGEST_UNDO_AFTER_S)] = 0
    """Seconds after which a success is undone by itself, at most 30 days; 0 never."""
    caller_id: Annotated[StrictStr, Field(max_length=128)] = ""
    """Your own correlation id, echoed."""

    def submission(self) -> Submission:
        """The plain value.

        Raises:
            Invalid: the target is none or ambiguous.
        """
        return Submission(
            action=self.action,
            host=self.host,
            target=self.target.named() if self.target is not None else None,
            event_id=self.event_id,
            parameters=dict(self.parameters),
            reason=self.reason,
            dry_run=self.dry_run,
            ttl_s=self.ttl_s,
            undo_after_s=self.undo_after_s,
            caller_id=self.caller_id,
        )


class UndoBody(_Body):
    """Why an execution is undone."""

    reason: Text = ""
    """Why it is requested; kept in the history."""


class CancelBody(_Body):
    """Why an execution is cancelled."""

    reason: Text = ""
    """Why it is requested; kept in the history."""
