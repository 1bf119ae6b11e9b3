"""Request and response bodies of the compatible API, with their published limits.

Made by ``show``; used by the routes. An unknown field in a request is an error, as everywhere in the gateway.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from workers.gateway.http.compatible import vocabulary

Id: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_ID)]
ActionType: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_TYPE)]
Name: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_NAME)]
Text: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_VALUE)]
Int64: TypeAlias = Annotated[StrictInt, Field(ge=-(1 << 63), lt=1 << 63)]
Value: TypeAlias = StrictBool | Int64 | Text
Sent: TypeAlias = Annotated[Any, WithJsonSchema(TypeAdapter(Value | None).json_schema())]
"""Any value: ``submissions`` checks it, because only the action knows what a parameter must be."""
Description: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_DESCRIPTION)]
ContextText: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_CONTEXT)]


class _Shape(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=AliasGenerator(alias=to_camel),
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class SubmitActionExecution(_Shape):
    """A request for an action."""

    action_type: ActionType
    """One of those that GET /actions lists."""
    caller_id: Id | None = None
    """Your own correlation id, echoed and searchable."""
    parameters: Annotated[dict[Name, Sent], Field(max_length=vocabulary.MOST_PARAMETERS)]
    """What GET /actions lists for the type; whole numbers may be sent as text; null counts as left out."""


class SubmitUndo(_Shape):
    """Optional body of an undo."""

    caller_id: Id | None = None
    """Your own correlation id of the undo."""


class Failure(_Shape):
    """Why an execution failed."""

    failure_reason: Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_REASON)]
    """The stable code."""
    log_message: Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_LOG)]
    """For people."""


class ActionExecution(_Shape):
    """One execution."""

    id: Id
    """Its id."""
    caller_id: Id | None = None
    """The client's own correlation id."""
    action_type: ActionType
    """The type of the action."""
    responder_type: Literal["HOST"] = "HOST"
    """What runs it; clients of later versions of this API require the field."""
    execution_context: dict[Name, ContextText]
    """Where it is done."""
    parameters: dict[Name, Value]
    """As the client sent them; in canonical form, with numbers as text, if it was not requested through this API."""
    outputs: dict[Name, StrictBool | Text] | None = None
    """What it reports, numbers as text; only once it has something to report."""
    failure: Failure | None = None
    """Only if the status is FAILED."""
    status: Literal["ENQUEUED", "IN_PROGRESS", "COMPLETED", "FAILED"]
    """How far it is; the native API has the exact outcome."""
    created_at: Annotated[StrictStr, Field(json_schema_extra={"format": "date-time"})]
    """When it was requested."""
    updated_at: Annotated[StrictStr, Field(json_schema_extra={"format": "date-time"})]
    """When its newest step was written."""
    action_execution_id_being_undone: Id | None = None
    """The execution that this one undoes."""


class ActionExecutions(_Shape):
    """One page of executions."""

    data: list[ActionExecution]
    """Newest first."""


class FieldMetadata(_Shape):
    """One parameter or output."""

    name: Name
    """Its name."""
    description: Description
    """What it means."""
    type: Literal["string", "integer", "boolean"]
    """What it is."""
    required: StrictBool
    """Whether it is always there."""


class ResponseAction(_Shape):
    """An action that can be executed."""

    type: ActionType
    """What to send as actionType."""
    responder_type: Literal["HOST"] = "HOST"
    """What runs it."""
    parameters: list[FieldMetadata]
    """What to send."""
    outputs: list[FieldMetadata]
    """What it reports."""
    description: Description
    """What it does, and what it costs."""
    is_undoable: StrictBool
    """Whether DELETE on its execution undoes it."""


class ResponseActions(_Shape):
    """The actions that can be executed."""

    data: list[ResponseAction]
    """In the catalogue's order."""


class CompatibleError(_Shape):
    """Why a request was not served; nothing was executed."""

    type: Annotated[StrictStr, Field(max_length=512)]
    """A stable code."""
    message: Annotated[StrictStr, Field(max_length=8192)]
    """What was wrong, and what to do."""
    details: Annotated[list[dict[str, str]], Field(max_length=1)]
    """What was wrong with which field."""


_RETRY: Final = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": CompatibleError, "description": "Invalid or inconsistent parameters."},
    401: {"model": CompatibleError, "description": "No bearer token, or a wrong one."},
    403: {"model": CompatibleError, "description": "The caller lacks the right."},
    429: {"model": CompatibleError, "description": "Too many requests in a minute.", "headers": _RETRY},
    500: {"model": CompatibleError, "description": "An internal error, or the log is unavailable."},
}

ERRORS_OF_ONE: Final[dict[int | str, dict[str, Any]]] = {
    **ERRORS,
    404: {"model": CompatibleError, "description": "There is no such execution."},
}
