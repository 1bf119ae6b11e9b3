"""The compatible API's words: every mapping holds both ways, and nothing that goes out is longer than it may be."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fakes.clock import START_NS
from tests.stories import NODE, Story, step_of
from tests.strategies import results, values
from workers.actions import CATALOGUE
from workers.actions.base import FieldSpec
from workers.domain.history.execution import Execution, fold
from workers.domain.history.queries import ExecutionQuery
from workers.domain.ids import ExecutionId, uuid7
from workers.domain.outcome import Outcome, Scalar, Stage, Values
from workers.domain.request import ActionRequest
from workers.domain.result import ActionResult
from workers.gateway import requests
from workers.gateway.http.compatible import contexts, filters, show, vocabulary
from workers.gateway.http.compatible.bodies import SubmitActionExecution
from workers.gateway.http.compatible.submissions import submission_of
from workers.gateway.http.compatible.vocabulary import Status
from workers.gateway.permissions import ADMIN
from workers.gateway.refusals import Invalid
from workers.gateway.requests import expected_execution

BY_NAME = {action.name: action for action in CATALOGUE}
REQUESTABLE = sorted(action.api_type for action in CATALOGUE if not action.undo_only)
STAGES_AND_OUTCOMES = [(stage, None) for stage in Stage if stage is not Stage.ENDED] + [
    (Stage.ENDED, each) for each in Outcome
]

paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd"), max_size=200).map("/{}".format)
containers = st.text("0123456789abcdef", min_size=12, max_size=64)
_OF_NAME: dict[str, SearchStrategy[Any]] = {
    vocabulary.HOST: st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    "process.id": st.integers(1, (1 << 22) - 1),
    "startTime": st.just(-1) | st.integers(1, (1 << 63) - 1),
    "path.absolute": paths,
    vocabulary.CONTAINER: containers,
}


def _own(spec: FieldSpec) -> SearchStrategy[Any]:
    match spec.type:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(spec.minimum or 0, spec.maximum or 0)
        case _:
            return st.text("abc", max_size=9)


@st.composite
def submissions(draw: st.DrawFn) -> SubmitActionExecution:
    """What a client may send: every required parameter, some of the others, numbers as numbers or as text."""
    action = BY_NAME[draw(st.sampled_from(REQUESTABLE)).lower()]
    sent: dict[str, Any] = {}
    for spec in vocabulary.parameters_of(action):
        if spec.required or draw(st.booleans()):
            value = draw(_OF_NAME[spec.name] if spec.name in _OF_NAME else _own(spec))
            as_text = isinstance(value, int) and not isinstance(value, bool) and draw(st.booleans())
            sent[spec.name] = str(value) if as_text else value
    caller_id = draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=128))
    return SubmitActionExecution(action_type=action.api_type, caller_id=caller_id, parameters=sent)


def requested(body: SubmitActionExecution) -> ActionRequest:
    """The request that the gateway makes of it."""
    execution_id = ExecutionId(uuid7(START_NS, bytes(10)))
    submission = submission_of(body, BY_NAME)
    return requests.execute(submission, BY_NAME, person=ADMIN, execution_id=execution_id, now_ns=START_NS, event=None)


@given(submissions())
def test_what_a_client_sends_comes_back_as_it_came(body: SubmitActionExecution) -> None:
    shown = show.execution(expected_execution(requested(body)))
    assert shown.parameters == body.parameters
    assert (shown.action_type, shown.caller_id) == (body.action_type, body.caller_id or None)
    assert shown.status == "ENQUEUED"


@given(submissions())
def test_without_the_echo_the_parameters_are_the_same_with_numbers_as_text(body: SubmitActionExecution) -> None:
    shown = show.execution(expected_execution(replace(requested(body), echo={})))
    assert shown.parameters == {
        name: value if isinstance(value, bool) else str(value) for name, value in body.parameters.items()
    }


@given(submissions(), st.data())
def test_numbers_and_texts_of_them_make_the_same_request(body: SubmitActionExecution, data: st.DataObject) -> None:
    as_text = {
        name: str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in body.parameters.items()
    }
    other = body.model_copy(update={"parameters": as_text})
    assert requests.differs(requested(body), requested(other)) in ("", "parameters")  # own ones are typed by the action
    parse = BY_NAME[body.action_type.lower()].parse
    assert parse(requested(body).steps[0].parameters) == parse(requested(other).steps[0].parameters)


@given(submissions(), st.data())
def test_without_a_required_parameter_the_field_is_named(body: SubmitActionExecution, data: st.DataObject) -> None:
    required = [spec.name for spec in vocabulary.parameters_of(BY_NAME[body.action_type.lower()]) if spec.required]
    gone = data.draw(st.sampled_from(required))
    how: dict[str, Scalar | None] = {} if data.draw(st.booleans()) else {gone: data.draw(st.sampled_from(["", None]))}
    without = {name: value for name, value in body.parameters.items() if name != gone} | how
    with pytest.raises(Invalid) as refused:
        requested(body.model_copy(update={"parameters": without}))
    assert refused.value.details == {"field": gone}


@pytest.mark.parametrize(("stage", "outcome"), STAGES_AND_OUTCOMES)
def test_a_status_filter_finds_exactly_the_executions_of_that_status(stage: Stage, outcome: Outcome | None) -> None:
    found = [
        status
        for status in Status
        if stage in (of := vocabulary.stages_and_outcomes_of(status))[0] and (outcome.value if outcome else "") in of[1]
    ]
    assert found == [vocabulary.status_of(stage, outcome)]


def test_the_ten_outcomes_become_the_four_statuses_as_published() -> None:
    ended = {outcome: vocabulary.status_of(Stage.ENDED, outcome) for outcome in Outcome}
    assert {outcome for outcome, status in ended.items() if status is Status.COMPLETED} == {
        Outcome.COMPLETED,
        Outcome.NO_ACTION,
        Outcome.DRY_RUN,
    }
    assert ended[Outcome.UNKNOWN] is Status.IN_PROGRESS
    assert sum(status is Status.FAILED for status in ended.values()) == 6
    assert vocabulary.status_of(Stage.HELD, None) is Status.ENQUEUED
    assert vocabulary.status_of(Stage.DISPATCHED, None) is Status.ENQUEUED
    assert vocabulary.status_of(Stage.CLAIMED, None) is Status.IN_PROGRESS


PUBLISHED = {
    "KILL_PROCESS": ({"host.id", "process.id", "startTime"}, None),
    "KILL_CONTAINER": ({"host.id", "container.id"}, None),
    "STOP_CONTAINER": ({"host.id", "container.id"}, "START_CONTAINER"),
    "PAUSE_CONTAINER": ({"host.id", "container.id"}, "UNPAUSE_CONTAINER"),
    "FILE_QUARANTINE": ({"host.id", "path.absolute"}, "FILE_UNQUARANTINE"),
    "FILE_ACQUIRE": ({"host.id", "path.absolute"}, None),
}


@pytest.mark.parametrize("api_type", PUBLISHED)
def test_a_published_action_takes_the_published_parameters_and_has_the_published_undo(api_type: str) -> None:
    required, undo = PUBLISHED[api_type]
    action = BY_NAME[api_type.lower()]
    specs = vocabulary.parameters_of(action)
    assert {spec.name for spec in specs if spec.required} == required
    assert (action.reversible_by or "").upper() == (undo or "")
    if api_type.startswith("FILE"):
        assert vocabulary.CONTAINER in {spec.name for spec in specs if not spec.required}
    if undo is not None:
        assert undo not in REQUESTABLE


def test_every_action_has_its_place_in_this_api() -> None:
    for action in CATALOGUE:
        names = [spec.name for spec in vocabulary.parameters_of(action)]
        assert len(names) == len(set(names))
        assert len(action.api_type) <= vocabulary.LONGEST_TYPE
        assert show.action(action).is_undoable is (action.reversible_by is not None)
        for undo_of in vocabulary.UNDO_TAKES.get(action.name, ()):
            (forward,) = (each for each in CATALOGUE if each.reversible_by == action.name)
            assert undo_of in {spec.name for spec in forward.outputs}


@given(results, values, st.text(max_size=700), st.text(max_size=1500))
def test_every_execution_is_shown_within_the_published_limits(
    result: ActionResult, outputs: Values, code: str, message: str
) -> None:
    reported = replace(result, outputs={**outputs, "long": "x" * 600, "n": 1 << 62}, code=code, message=message)
    shown = show.execution(fold(reported.execution_id, [step_of(reported)]))
    if shown.outputs is not None:
        assert all(isinstance(value, str | bool) for value in shown.outputs.values())
        assert len(str(shown.outputs["long"])) == 512
        assert shown.outputs["n"] == str(1 << 62)
    assert (shown.failure is not None) == (shown.status == "FAILED")
    assert json.loads(shown.model_dump_json(by_alias=True, exclude_none=True))["id"] == reported.execution_id


def test_an_undo_shows_where_it_acts_and_what_it_needs_of_the_execution_it_undoes() -> None:
    done = fold_of(Story(1, action="file_quarantine"), outputs={"quarantined_file_path": "/vault/1", "size": 7})
    undo = Story(2, action="file_unquarantine", undo_of=done.execution_id, target=None)
    shown = show.execution(fold(undo.id, [step_of(undo.requested())]), undone=done)
    assert shown.action_execution_id_being_undone == done.execution_id
    assert shown.parameters == {
        "host.id": NODE,
        "process.id": "4711",
        "startTime": "-1",
        "quarantined_file_path": "/vault/1",
    }


def fold_of(story: Story, *, outputs: Values) -> Execution:
    """A whole execution."""
    steps = (story.requested(), story.dispatched(), story.ended(outputs=outputs))
    return fold(story.id, [step_of(each) for each in steps])


# Labels.


@given(
    st.dictionaries(st.sampled_from(["host.id", "container.id", "process.id", "a.b"]), st.text("abc-/ 1", min_size=1))
)
def test_the_three_spellings_of_a_context_are_equivalent(labels: dict[str, str]) -> None:
    spellings = [
        [("context", json.dumps(labels))],
        [(f"context[{name}]", value) for name, value in labels.items()],
        list(labels.items()),
    ]
    for spelling in spellings:
        assert contexts.labels_of(spelling) == labels


@pytest.mark.parametrize(
    "query",
    [
        [("context", "{")],
        [("context", "[1]")],
        [("context", '{"host.id": []}')],
        [("context", "[" * 5000)],
        [("host.id", "a"), ("context", '{"host.id": "b"}')],
        [("context[host.id]", "x" * 1025)],
        [("context[" + "x" * 201 + "]", "x")],
    ],
)
def test_a_context_that_is_none_is_refused(query: list[tuple[str, str]]) -> None:
    with pytest.raises(Invalid) as refused:
        contexts.labels_of(query)
    assert refused.value.details == {"field": "context"}


# The filter.


def test_a_filter_narrows_by_each_of_its_terms() -> None:
    text = """actionType = KILL_PROCESS AND host.id='web-1' and callerId = "a b" and status=in_progress"""
    assert filters.narrowed(ExecutionQuery(), text, BY_NAME) == ExecutionQuery(
        action="kill_process",
        host="web-1",
        caller_id="a b",
        stages=("CLAIMED", "ENDED"),
        outcomes=("", "UNKNOWN"),
    )
    assert filters.narrowed(ExecutionQuery(), "  ", BY_NAME) == ExecutionQuery()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "web-1",
            "host.id",
            "host.id=",
            "host=web-1",
            "status=DONE",
            "actionType=DANCE",
            "host.id != web-1",
            "' and '",
        ),
        *("status=FAILED status=FAILED", "status=FAILED and status=FAILED", "status = FAILED and"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused_and_never_ignored(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        filters.narrowed(ExecutionQuery(), text, BY_NAME)
    assert refused.value.details == {"field": "filter"}


@given(st.text(max_size=60))
def test_no_text_breaks_the_filter(text: str) -> None:
    with contextlib.suppress(Invalid):
        filters.narrowed(ExecutionQuery(), text, BY_NAME)
