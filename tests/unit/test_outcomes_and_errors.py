"""How things end: closed sets that newer versions can add to, and one disposition for every failure."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workers
from tests.unit.source_rules import sources_under
from workers.domain.errors import (
    CommandRejected,
    ConfigError,
    Disposition,
    Indeterminate,
    LimitExceeded,
    MalformedMessage,
    PermanentFailure,
    Problem,
    TransientFailure,
    WorkerError,
    disposition,
    reason_of,
)
from workers.domain.outcome import NOTHING, Outcome, Stage, code

GOOD = (Outcome.COMPLETED, Outcome.NO_ACTION, Outcome.DRY_RUN)


@pytest.mark.parametrize("outcome", Outcome)
def test_only_unknown_can_be_followed_by_another_outcome(outcome: Outcome) -> None:
    assert outcome.is_final == (outcome.name != "UNKNOWN")


@pytest.mark.parametrize("outcome", Outcome)
def test_a_code_is_action_success_or_error_and_reason(outcome: Outcome) -> None:
    kind = "success" if outcome in GOOD else "error"
    assert code("kill_process", outcome, "gone") == f"kill_process_{kind}_gone"


@given(st.text(max_size=12).filter(lambda name: name not in Outcome.__members__))
def test_an_outcome_of_a_newer_version_reads_as_unknown(name: str) -> None:
    assert Outcome(name) is Outcome.UNKNOWN


@given(st.text(max_size=12).filter(lambda name: name not in Stage.__members__))
def test_a_stage_of_a_newer_version_ranks_lowest(name: str) -> None:
    assert Stage(name) is Stage.REQUESTED


def test_nothing_stays_nothing() -> None:
    with pytest.raises(TypeError):
        NOTHING["a"] = 1  # type: ignore[index]
    assert dict(NOTHING) == {}


def _subclasses(cls: type[WorkerError]) -> Iterator[type[WorkerError]]:
    for found in cls.__subclasses__():
        yield found
        yield from _subclasses(found)


def _every_error() -> list[type[WorkerError]]:
    found = {cls for cls in _subclasses(WorkerError) if cls.__module__ == "workers.domain.errors"}
    return [WorkerError, *sorted(found, key=lambda cls: cls.__qualname__)]


def test_every_error_stands_in_one_file() -> None:
    names = {cls.__name__ for cls in _every_error()}
    strays = [
        f"{source.module}: {node.name}"
        for source in sources_under(Path(workers.__file__).parent)
        if source.module != "workers.domain.errors"
        for node in ast.walk(ast.parse(source.text))
        if isinstance(node, ast.ClassDef)
        if any(isinstance(base, ast.Name) and base.id in names for base in node.bases)
    ]
    assert strays == [], "an error class of its own needs its disposition next to the others"


def test_every_error_has_a_code_a_sentence_and_a_disposition() -> None:
    errors = _every_error()
    assert len(errors) >= 8
    for cls in errors:
        assert "code" in vars(cls), f"{cls.__qualname__} has no wire code of its own"
        assert cls.code.replace("_", "").isalnum()
        assert cls.code == cls.code.lower()
        doc = inspect.getdoc(cls)
        assert doc, f"{cls.__qualname__} has no docstring"
        assert doc.splitlines()[0].endswith(".")
        error = cls(()) if issubclass(cls, ConfigError) else cls()
        assert isinstance(disposition(error), Disposition)
        assert reason_of(error) == cls.code


def test_no_two_errors_share_a_code() -> None:
    codes = [cls.code for cls in _every_error()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigError("x"), Disposition.STOP),
        (MalformedMessage(), Disposition.DEAD_LETTER),
        (CommandRejected(), Disposition.REJECT),
        (TransientFailure(), Disposition.RETRY),
        (PermanentFailure(), Disposition.FAIL),
        (LimitExceeded(), Disposition.FAIL),
        (Indeterminate(), Disposition.PROBE),
        (WorkerError(), Disposition.FAIL),
        (ValueError("a bug"), Disposition.FAIL),
        (KeyboardInterrupt(), Disposition.FAIL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.name,
)
def test_each_failure_has_one_disposition(error: BaseException, expected: Disposition) -> None:
    assert disposition(error) is expected


def test_a_bug_is_called_internal() -> None:
    assert reason_of(ValueError("x")) == "internal"


def test_an_error_s_docstring_is_its_default_message_and_its_code_can_be_narrowed() -> None:
    assert MalformedMessage().message == "The bytes are not a message that can be trusted or read."
    narrowed = MalformedMessage("no", code="bad_signature")
    assert (narrowed.message, narrowed.reason, MalformedMessage.code) == ("no", "bad_signature", "malformed")


def test_a_configuration_error_is_one_line_a_problem() -> None:
    error = ConfigError((Problem("a.b", "is missing"), Problem("", "is no mapping")))
    assert str(error).splitlines() == ["a.b: is missing", "is no mapping"]
    assert ConfigError("x").problems == (Problem("", "x"),)


def test_a_transient_failure_carries_the_least_wait() -> None:
    assert TransientFailure(retry_after_s=1.5).retry_after_s == 1.5
