"""What the compatible face takes and shows: the published shapes, with their published limits.

Made by ``showing``; read by the routes. An unknown field in a request is a fault, as everywhere in the gateway.
"""

from typing import Annotated, Any, Literal, TypeAlias

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
"""Anything at all: what is wrong with a parameter is said by ``wishes``, which knows what it should be."""
Description: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_DESCRIPTION)]
ContextText: TypeAlias = Annotated[StrictStr, Field(max_length=vocabulary.LONGEST_CONTEXT)]


class _Shape(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=AliasGenerator(alias=to_camel), populate_by_name=True
    )


class SubmitActionExecution(_Shape):
    """A request for an action."""

    action_type: ActionType
    """One of those that GET /actions lists."""
    caller_id: Id | None = None
    """Your own correlation id, echoed and searchable."""
    parameters: Annotated[dict[Name, Sent], Field(max_length=vocabulary.MOST_PARAMETERS)]
    """What GET /actions lists for the type; whole numbers may come as text, and null is left out."""


class SubmitUndo(_Shape):
    """What may come with an undo."""

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
    """Names it."""
    caller_id: Id | None = None
    """The client's own correlation id."""
    action_type: ActionType
    """What is done."""
    responder_type: Literal["HOST"] = "HOST"
    """Who does it; clients of later versions of this API insist on it."""
    execution_context: dict[Name, ContextText]
    """Where it is done."""
    parameters: dict[Name, Value]
    """As they came; of an execution that did not come from here in canonical form, numbers as text."""
    outputs: dict[Name, StrictBool | Text] | None = None
    """What it reports, numbers as text; only once it has something to report."""
    failure: Failure | None = None
    """Only where the status is FAILED."""
    status: Literal["ENQUEUED", "IN_PROGRESS", "COMPLETED", "FAILED"]
    """How far it is; the native face has the exact outcome."""
    created_at: Annotated[StrictStr, Field(json_schema_extra={"format": "date-time"})]
    """When it was asked for."""
    updated_at: Annotated[StrictStr, Field(json_schema_extra={"format": "date-time"})]
    """When something was last heard of it."""
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
    """Who does it."""
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
