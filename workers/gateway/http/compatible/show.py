"""Executions and actions as the compatible API shows them. Pure.

Called by the routes. Adds nothing to what history has; cuts what is longer than this API permits.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from workers.actions.base import AnyAction, FieldSpec
from workers.domain.history.execution import Execution
from workers.domain.ids import is_node_id
from workers.domain.outcome import Scalar, Stage, Values
from workers.domain.target import Target
from workers.domain.target_kind import NameFormat
from workers.gateway.http.compatible import vocabulary
from workers.gateway.http.compatible.bodies import ActionExecution, Failure, FieldMetadata, ResponseAction
from workers.gateway.http.compatible.vocabulary import Status, cut

_LAST_US: Final = 253_402_300_799_999_999
"""The end of the year 9999, beyond which RFC 3339 has no form."""


def execution(execution: Execution, *, undone: Execution | None = None) -> ActionExecution:
    """The execution; ``undone`` is the one that it undoes."""
    request = execution.request
    status = vocabulary.status_of(execution.stage, execution.outcome)
    return ActionExecution(
        id=execution.execution_id,
        caller_id=_or_none(request.caller_id if request is not None else "", vocabulary.LONGEST_ID),
        action_type=cut(execution.action.upper(), vocabulary.LONGEST_TYPE),
        execution_context=_context(execution, undone),
        parameters=_parameters(execution, undone),
        outputs=_outputs(execution),
        failure=_failure(execution) if status is Status.FAILED else None,
        status=status.value,
        created_at=_moment(execution.requested_at_ns),
        updated_at=_moment(max(execution.updated_at_ns, execution.requested_at_ns)),
        action_execution_id_being_undone=_or_none(execution.undo_of, vocabulary.LONGEST_ID),
    )


def action(action: AnyAction) -> ResponseAction:
    """The action, as it describes itself."""
    return ResponseAction(
        type=cut(action.api_type, vocabulary.LONGEST_TYPE),
        parameters=[_metadata(spec) for spec in vocabulary.parameters_of(action)],
        outputs=[_metadata(spec) for spec in action.outputs if _is_plain(spec.name)],
        description=cut(". ".join((action.summary, " ".join(action.drawbacks))), vocabulary.LONGEST_DESCRIPTION),
        is_undoable=action.reversible_by is not None,
    )


def _context(execution: Execution, undone: Execution | None) -> dict[str, str]:
    """Where it runs, as far as known: as the dispatcher resolved it, before that as the request named it."""
    subject = undone if undone is not None else execution
    named = subject.request.host if subject.request is not None else ""
    target = _target(subject)
    labels = {
        vocabulary.HOST: execution.node_id or subject.node_id or named,
        vocabulary.HOST_NAME: "" if is_node_id(named) else named,
        vocabulary.CONTAINER: target.container if target is not None else "",
    }
    return {name: cut(value, vocabulary.LONGEST_CONTEXT) for name, value in labels.items() if value}


def _parameters(execution: Execution, undone: Execution | None) -> dict[str, Scalar]:
    if execution.request is not None and execution.request.echo:
        return dict(execution.request.echo)
    subject = undone if undone is not None else execution
    where = subject.node_id if undone is not None else (execution.request.host if execution.request is not None else "")
    found: dict[str, Scalar] = {vocabulary.HOST: where} if where else {}
    target = _target(subject)
    if target is not None:
        found |= _location(target)
    if undone is not None:
        found |= {name: undone.outputs[name] for name in _taken(execution) if name in undone.outputs}
    elif execution.asked is not None:
        found |= execution.asked.parameters
    return dict(_readable(found))


def _taken(undo: Execution) -> tuple[str, ...]:
    return vocabulary.UNDO_TAKES.get(undo.action, ())


def _target(execution: Execution) -> Target | None:
    return execution.asked.target if execution.asked is not None else None


def _location(target: Target) -> dict[str, Scalar]:
    names = target.names()
    found = {field.published_name: names[field.name] for field in target.name_fields if field.name in names}
    unknown = {
        field.published_name: vocabulary.UNKNOWN_START
        for field in target.name_fields
        if names and field.format is NameFormat.START_TIME
    }
    return unknown | found


def _outputs(execution: Execution) -> dict[str, bool | str] | None:
    """What it reports, once it has ended."""
    if execution.stage is not Stage.ENDED or not execution.outputs:
        return None
    return dict(_readable(execution.outputs))


def _readable(values: Values) -> Mapping[str, bool | str]:
    """Values as every published client can read them: numbers as text, long text cut."""
    return {
        cut(name, vocabulary.LONGEST_NAME): value
        if isinstance(value, bool)
        else cut(str(value), vocabulary.LONGEST_VALUE)
        for name, value in values.items()
    }


def _failure(execution: Execution) -> Failure:
    reason = execution.code or str(execution.outcome or "")
    return Failure(
        failure_reason=cut(reason, vocabulary.LONGEST_REASON),
        log_message=cut(execution.message, vocabulary.LONGEST_LOG),
    )


def _metadata(spec: FieldSpec) -> FieldMetadata:
    return FieldMetadata(
        name=cut(spec.name, vocabulary.LONGEST_NAME),
        description=cut(spec.description, vocabulary.LONGEST_DESCRIPTION),
        type=cast(Any, spec.type),
        required=spec.required,
    )


def _is_plain(name: str) -> bool:
    """Whether generated clients of the published contract take the name in a list of outputs: letters, dots and
    underscores. An output that is left out of the list still comes with the execution."""
    return name.isascii() and name.replace(".", "").replace("_", "").isalpha()


def _or_none(text: str, most: int) -> str | None:
    return cut(text, most) if text else None


def _moment(at_ns: int) -> str:
    """RFC 3339 with six digits: some clients cannot read more."""
    microseconds = min(max(0, at_ns // 1000), _LAST_US)
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"
