"""Parameters of an action: typed out of what travels, and junk is only ever rejected."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import values
from workers.actions.base import Action, Job, Lane, NoParameters, Permission, Probe, parameter
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Outcome, Report, Values
from workers.domain.target import ProcessTarget
from workers.host.ports import Host


@dataclass(frozen=True, slots=True)
class Example:
    """One of each kind."""

    pid: int = parameter("Which.", minimum=1, maximum=100)
    note: str = parameter("Why.", default="", maximum=5)
    hard: bool = parameter("How.", default=False)
    offset: int = parameter("Where.", default=-1, minimum=-10, maximum=10)


class Sample(Action[Example, Any]):
    """An action that is never run."""

    name = "sample"
    summary = "Does nothing."
    drawbacks = ()
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = ProcessTarget
    parameters: ClassVar[type] = Example
    claims = ()
    outputs = ()
    privileges = ()
    mounts = ()
    example: ClassVar[Mapping[str, Any]] = {}

    def admit(self, job: Job[Example], host: Host) -> None:
        raise NotImplementedError

    def bind(self, job: Job[Example], host: Host) -> Any:
        raise NotImplementedError

    def execute(self, job: Job[Example], claim: Any, host: Host) -> Report:
        raise NotImplementedError

    def probe(self, job: Job[Example], claim: Any, host: Host) -> Probe:
        raise NotImplementedError


class Bare(Sample):
    """Takes no parameters."""

    name = "bare"
    parameters = NoParameters


def _rejected(values: dict[str, Any]) -> str:
    with pytest.raises(CommandRejected) as caught:
        Sample.parse(values)
    assert caught.value.reason == "invalid_parameters"
    return caught.value.message


def test_defaults_fill_what_is_not_given() -> None:
    assert Sample.parse({"pid": 7}) == Example(7, "", False, -1)


@pytest.mark.parametrize(
    ("given_", "typed"),
    [
        ({"pid": "7"}, Example(7)),
        ({"pid": 7, "hard": "true"}, Example(7, hard=True)),
        ({"pid": 7, "hard": "false"}, Example(7, hard=False)),
        ({"pid": 7, "offset": "-3"}, Example(7, offset=-3)),
        ({"pid": 100, "note": "12345"}, Example(100, note="12345")),
    ],
)
def test_published_clients_may_send_text_for_numbers_and_truths(given_: dict[str, Any], typed: Example) -> None:
    assert Sample.parse(given_) == typed


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"pid": 0},
        {"pid": 101},
        {"pid": "seven"},
        {"pid": ""},
        {"pid": True},
        {"pid": "1e3"},
        {"pid": "9" * 5000},
        {"pid": 7, "note": "123456"},
        {"pid": 7, "note": 5},
        {"pid": 7, "hard": 1},
        {"pid": 7, "hard": "yes"},
        {"pid": 7, "offset": -11},
        {"pid": 7, "extra": 1},
        {"PID": 7},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_what_does_not_fit_is_rejected(wrong: dict[str, Any]) -> None:
    assert "\n" not in _rejected(wrong)


def test_a_refusal_names_the_parameter_and_what_it_takes() -> None:
    assert "'pid'" in _rejected({"pid": 0})
    assert "1 to 100" in _rejected({"pid": 0})
    assert "at most 5 characters" in _rejected({"pid": 1, "note": "123456"})
    assert "it takes: pid, note, hard, offset" in _rejected({"pid": 1, "extra": 1})
    assert "needs parameter 'pid'" in _rejected({})


@given(values)
def test_junk_is_only_ever_rejected(junk: Values) -> None:
    for action in (Sample, Bare):
        with contextlib.suppress(CommandRejected):
            action.parse(junk)


@given(st.dictionaries(st.sampled_from(["pid", "note", "hard", "offset"]), st.integers() | st.booleans() | st.text()))
def test_what_is_accepted_is_typed_and_in_bounds(near: dict[str, Any]) -> None:
    try:
        typed = Sample.parse(near)
    except CommandRejected:
        return
    assert type(typed.pid) is int
    assert 1 <= typed.pid <= 100
    assert type(typed.hard) is bool
    assert type(typed.note) is str
    assert len(typed.note) <= 5
    assert type(typed.offset) is int
    assert -10 <= typed.offset <= 10


def test_an_action_describes_its_parameters() -> None:
    pid, note, hard, offset = Sample.parameter_specs()
    assert (pid.name, pid.type, pid.required, pid.minimum, pid.maximum) == ("pid", "integer", True, 1, 100)
    assert (note.type, note.required, note.default) == ("string", False, "")
    assert (hard.type, hard.default) == ("boolean", False)
    assert (offset.default, offset.description) == (-1, "Where.")
    assert Bare.parameter_specs() == ()


def test_a_report_carries_the_action_s_own_code() -> None:
    report = Sample().report(Outcome.FAILED, "permission", "not allowed")
    assert (report.code, report.outcome) == ("sample_error_permission", Outcome.FAILED)
    assert Sample().api_type == "SAMPLE"
