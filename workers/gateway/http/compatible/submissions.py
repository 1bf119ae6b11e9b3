"""What a client of the compatible API sent, as a ``Submission``. Pure.

Called by ``executions``. Liberal in what it accepts: whole numbers as numbers or text, ``null`` and empty text for what
is left out, ``host`` for no container. Errors name the field as this API does.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from workers.actions.base import AnyAction
from workers.domain.errors import TransientFailure
from workers.domain.outcome import Scalar, Values
from workers.domain.target import Target
from workers.domain.target_kind import NameFormat
from workers.gateway.http.compatible import vocabulary
from workers.gateway.http.compatible.bodies import SubmitActionExecution
from workers.gateway.refusals import Invalid
from workers.gateway.requests import Named, Submission, action_of

T = TypeVar("T")

_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")


def submission_of(body: SubmitActionExecution, catalogue: Mapping[str, AnyAction]) -> Submission:
    """The submission.

    Raises:
        Invalid: with the field that is wrong.
    """
    action = _action(body.action_type, catalogue)
    sent = {name: _checked(name, value) for name, value in body.parameters.items() if value is not None}
    specs = {spec.name: spec for spec in vocabulary.parameters_of(action)}
    for name in sent:
        if name not in specs:
            known = ", ".join(specs)
            raise Invalid(f"{action.api_type} has no parameter {name!r}; it takes: {known}", field=name)
    for spec in specs.values():
        if spec.required and sent.get(spec.name, "") == "":
            raise Invalid(f"{action.api_type} needs {spec.name}", code="missing_parameter", field=spec.name)
    own = {spec.name for spec in vocabulary.own_parameters_of(action)}
    return Submission(
        action=action.name,
        host=_text(sent, vocabulary.HOST),
        target=_named(action.target, sent),
        parameters={name: value for name, value in sent.items() if name in own},
        caller_id=body.caller_id or "",
        echo=sent,
    )


def translated(work: Callable[[], T]) -> T:
    """What ``work`` returns; its errors name fields as this API does.

    Raises:
        Invalid: the field has this API's name.
        TransientFailure: with the hint that the request may have been written.
    """
    try:
        return work()
    except Invalid as error:
        details = {key: vocabulary.FIELDS.get(value, value) for key, value in error.details.items()}
        raise Invalid(error.message, code=error.reason, **details) from None
    except TransientFailure as error:
        hint = "; the request may have been written all the same: look for its callerId before you try again"
        raise TransientFailure(error.message + hint, code=error.reason, retry_after_s=error.retry_after_s) from error


def _action(action_type: str, catalogue: Mapping[str, AnyAction]) -> AnyAction:
    if action_type.lower() not in catalogue:
        known = ", ".join(sorted(each.api_type for each in catalogue.values() if not each.undo_only))
        raise Invalid(
            f"there is no action {action_type!r}; there are: {known}", code="unknown_action", field="actionType"
        )
    return translated(lambda: action_of(action_type, catalogue))


def _named(kind: type[Target], sent: Values) -> Named:
    names: dict[str, Scalar] = {}
    for field in kind.name_fields:
        name = field.published_name
        value = _whole(sent, name) if vocabulary.is_whole_number(field) else _text(sent, name)
        unknown = field.format is NameFormat.START_TIME and value == vocabulary.UNKNOWN_START
        if not (unknown or (not field.required and value == vocabulary.NO_CONTAINER)):
            names[field.name] = value
    return Named(kind, names)


def _checked(name: str, value: object) -> Scalar:
    """A value that this API, the log and the history can all hold."""
    match value:
        case bool():
            return value
        case int() if -(1 << 63) <= value < 1 << 63:
            return value
        case str() if len(value) <= vocabulary.LONGEST_VALUE and value.encode("utf-8", "replace").decode() == value:
            return value
    wanted = f"text of at most {vocabulary.LONGEST_VALUE} characters, a whole number of 64 bits, or true or false"
    raise Invalid(f"{name[: vocabulary.LONGEST_NAME]} must be {wanted}", field=name)


def _text(sent: Values, name: str) -> str:
    value = sent.get(name, "")
    if not isinstance(value, str):
        raise Invalid(f"{name} must be text, not {_shown(value)}", field=name)
    return value


def _whole(sent: Values, name: str) -> int:
    match sent.get(name):
        case int() as value if not isinstance(value, bool):
            return value
        case str() as text if _WHOLE.fullmatch(text):
            return int(text)
        case value:
            raise Invalid(f"{name} must be a whole number, not {_shown(value)}", field=name)


def _shown(value: Scalar | None) -> str:
    return repr(value)[:64]
