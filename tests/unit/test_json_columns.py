"""What a column of the journal holds comes back exactly, and a damaged one never comes back as something else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.log.record import Headers
from workers.domain.outcome import Outcome, PostCondition, Report, Scalar, Values
from workers.wire.json_columns import JsonColumn

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


CLAIM = JsonColumn[Values](Values)
REPORT = JsonColumn[Report](Report)
HEADERS = JsonColumn[Headers](Headers)


@given(_VALUES)
def test_values_come_back_with_their_types(values: Values) -> None:
    back = CLAIM.read(CLAIM.text(values))
    assert back == values
    assert {name: type(value) for name, value in back.items()} == {name: type(v) for name, v in values.items()}


@given(_REPORTS)
def test_a_report_comes_back(report: Report) -> None:
    assert REPORT.read(REPORT.text(report)) == report


@given(_HEADERS)
def test_headers_come_back(headers: tuple[tuple[str, bytes], ...]) -> None:
    assert HEADERS.read(HEADERS.text(headers)) == headers


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("read", [CLAIM.read, REPORT.read, HEADERS.read])
@given(damaged=st.text() | _JSON.map(json.dumps))
def test_a_damaged_column_raises_nothing_but_a_value_error(read: Callable[[str], object], damaged: str) -> None:
    with contextlib.suppress(ValueError):
        read(damaged)


@pytest.mark.parametrize("damaged", ['{"a": 1.5}', '{"a": null}', '{"a": {}}', "[]", "1", "{", "[" * 100_000])
def test_values_of_another_type_are_refused(damaged: str) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        CLAIM.read(damaged)


REPORTED = REPORT.text(Report(Outcome.COMPLETED, "c", "m", PostCondition("dead", True, "")))


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ("COMPLETED", "COMPLETE"),
        ('"code":"c"', '"code":1'),
        ('"code":"c",', ""),
        ('"cause":', '"because":'),
        ('"cause":', '"more":1,"cause":'),
        ('"holds":true', '"holds":1'),
        ('"effect_holds":false', '"effect_holds":null'),
    ],
)
def test_a_damaged_report_is_refused_not_guessed(change: str, to: str) -> None:
    damaged = REPORTED.replace(change, to)
    assert damaged != REPORTED
    with pytest.raises(ValueError, match="does not hold"):
        REPORT.read(damaged)


def test_the_bytes_on_disk_are_those_of_earlier_journals() -> None:
    assert REPORTED == (
        '{"outcome":"COMPLETED","code":"c","message":"m","post_condition":{"name":"dead","holds":true,"detail":""},'
        '"outputs":{},"effect_holds":false,"cause":"action"}'
    )
    assert CLAIM.text({"pid": 1, "name": "\udcff"}) == '{"pid":1,"name":"\\udcff"}'
    assert HEADERS.text((("traceparent", b"00"),)) == '[["traceparent","MDA="]]'
