"""What a column of the journal holds comes back exactly, and a damaged one never comes back as something else."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.errors import PermanentFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Scalar, Values
from workers.store.sqlite import text

# Lone surrogates included: names on Linux are bytes, and travel escaped as such.
_TEXTS = st.text(st.characters(codec=None, exclude_categories=()))
_SCALARS: st.SearchStrategy[Scalar] = _TEXTS | st.integers() | st.booleans()
_VALUES: st.SearchStrategy[Values] = st.dictionaries(_TEXTS, _SCALARS)
_REPORTS = st.builds(
    Report,
    st.sampled_from(Outcome),
    _TEXTS,
    _TEXTS,
    st.none() | st.builds(PostCondition, _TEXTS, st.booleans(), _TEXTS),
    _VALUES,
    st.booleans(),
    _TEXTS,
)
_HEADERS = st.lists(st.tuples(_TEXTS, st.binary())).map(tuple)


@given(_VALUES)
def test_values_come_back_with_their_types(values: Values) -> None:
    back = text.values_from(text.values_to(values))
    assert back == values
    assert {name: type(value) for name, value in back.items()} == {name: type(v) for name, v in values.items()}


@given(st.none() | _REPORTS)
def test_a_report_comes_back(report: Report | None) -> None:
    assert text.report_from(text.report_to(report)) == report


@given(_HEADERS)
def test_headers_come_back(headers: tuple[tuple[str, bytes], ...]) -> None:
    assert text.headers_from(text.headers_to(headers)) == headers


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("read", [text.values_from, text.report_from, text.headers_from])
@given(damaged=st.text(min_size=1) | _JSON.map(json.dumps))
def test_a_damaged_column_raises_nothing_but_the_journals_own_failure(
    read: Callable[[str], object], damaged: str
) -> None:
    try:
        read(damaged)
    except PermanentFailure as refusal:
        raised = refusal.reason
    else:
        raised = "journal_io"
    assert raised == "journal_io"


@pytest.mark.parametrize("damaged", ['{"a": 1.5}', '{"a": null}', '{"a": {}}', "[]", "1", "{", "[" * 100_000])
def test_values_that_are_none_are_refused(damaged: str) -> None:
    with pytest.raises(PermanentFailure):
        text.values_from(damaged)


def test_an_unknown_outcome_is_refused_not_guessed() -> None:
    damaged = text.report_to(Report(Outcome.COMPLETED, "c", "m")).replace("COMPLETED", "COMPLETE")
    with pytest.raises(PermanentFailure):
        text.report_from(damaged)
