"""The compatible API's names of parameters, statuses and limits, and what they mean here. Pure.

Used by every module of this package. Everything else comes from the catalogue of actions and the kinds of targets, so
that a new action or kind needs no line in this package.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, assert_never

from workers.actions.base import AnyAction, FieldSpec
from workers.domain.outcome import Outcome, Stage
from workers.domain.target import KINDS, Target
from workers.domain.target_kind import NameField, NameFormat

LONGEST_ID: Final = 128
LONGEST_TYPE: Final = 32
LONGEST_VALUE: Final = 512
LONGEST_CONTEXT: Final = 1024
LONGEST_NAME: Final = 200
LONGEST_DESCRIPTION: Final = 1024
LONGEST_REASON: Final = 64
"""The published contract has 128; generated clients of its later version refuse more than 64."""
LONGEST_LOG: Final = 1024
MOST_PARAMETERS: Final = 64
"""Of one request: as many as the dispatcher takes."""

HOST: Final = "host.id"
HOST_NAME: Final = "host.hostName"
CONTAINER: Final = "container.id"

NO_CONTAINER: Final = "host"
"""What detectors write in ``container.id`` where there is no container."""

UNKNOWN_START: Final = -1

_HOST: Final = FieldSpec(HOST, "string", "The node to act on: its id, or a host name that only one has", required=True)

_NOT_HERE: Final = frozenset({"ancestor"})
"""Own parameters of actions that choose among an event's processes; a client of this API names the one it means."""

UNDO_TAKES: Final[Mapping[str, tuple[str, ...]]] = {"file_unquarantine": ("quarantined_file_path",)}
"""Outputs of the undone execution that this API shows as parameters of the undo."""

FIELDS: Final[Mapping[str, str]] = {
    "action": "actionType",
    "host": HOST,
    **{f"target.{kind.kind}.{field.name}": field.published_name for kind in KINDS for field in kind.name_fields},
}
"""The gateway's names of fields, and this API's."""


class Status(StrEnum):
    """The four statuses that this API knows."""

    ENQUEUED = "ENQUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


def status_of(stage: Stage, outcome: Outcome | None) -> Status:
    """The status of an execution of this stage and outcome."""
    match outcome:
        case None:
            return Status.IN_PROGRESS if stage is Stage.CLAIMED else Status.ENQUEUED
        case Outcome.UNKNOWN:
            return Status.IN_PROGRESS
        case Outcome.COMPLETED | Outcome.NO_ACTION | Outcome.DRY_RUN:
            return Status.COMPLETED
        case (
            Outcome.PARTIAL | Outcome.FAILED | Outcome.REJECTED | Outcome.TIMED_OUT | Outcome.EXPIRED | Outcome.CANCELED
        ):
            return Status.FAILED
        case _:
            assert_never(outcome)


def stages_and_outcomes_of(status: Status) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The stages and the outcomes (empty: none yet) of which an execution of this status has one each."""
    all_of_it = [
        (stage, outcome)
        for stage in Stage
        for outcome in ((*Outcome,) if stage is Stage.ENDED else (None,))
        if status_of(stage, outcome) is status
    ]
    stages = dict.fromkeys(stage.value for stage, _ in all_of_it)
    outcomes = dict.fromkeys(outcome.value if outcome is not None else "" for _, outcome in all_of_it)
    return tuple(stages), tuple(outcomes)


def parameters_of(action: AnyAction) -> tuple[FieldSpec, ...]:
    """Everything a client may send for an action: the host, the target and the action's own parameters."""
    return (_HOST, *_naming(action.target), *own_parameters_of(action))


def own_parameters_of(action: AnyAction) -> tuple[FieldSpec, ...]:
    """What may be chosen of an action beside its target."""
    return tuple(spec for spec in action.parameter_specs() if spec.name not in _NOT_HERE)


def is_whole_number(field: NameField) -> bool:
    """Whether a field that names a target is a number here."""
    return field.format in (NameFormat.PID, NameFormat.START_TIME)


def _naming(kind: type[Target]) -> tuple[FieldSpec, ...]:
    """How this API names what an action acts on. A start time must be given here, if only as unknown."""
    return tuple(
        FieldSpec(
            field.published_name,
            "integer" if is_whole_number(field) else "string",
            field.published_description,
            required=field.required or field.format is NameFormat.START_TIME,
        )
        for field in kind.name_fields
    )


def cut(text: str, most: int) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
