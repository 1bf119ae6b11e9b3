"""Cursors, record numbers and digests: the values by which history is searched, checked and compared."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stories import BORN, NODE, Story
from workers.domain.history.queries import checked_limit, cursor_after, position_of
from workers.domain.history.search import HistoryDigest, short_container
from workers.domain.history.sequence import MAX_SPANS, Ranges, sender_of

NUMBERS = st.lists(st.integers(0, 60), max_size=40)


@given(st.integers(), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_cursor_gives_back_what_it_was_made_of(at_ns: int, row_id: str) -> None:
    assert position_of(cursor_after(at_ns, row_id)) == (at_ns, row_id)


@given(st.text())
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    try:
        found = position_of(text)
    except ValueError:
        return
    assert cursor_after(*found) == text


def test_a_limit_is_bounded() -> None:
    assert checked_limit(25) == 25
    for limit in (0, -5, 1001):
        with pytest.raises(ValueError, match=str(limit)):
            checked_limit(limit)


@given(NUMBERS, NUMBERS)
def test_ranges_are_the_set_of_their_numbers_in_any_order(first: list[int], second: list[int]) -> None:
    ranges = Ranges().union(first).union(second)
    assert ranges == Ranges().union(second + first)
    numbers = {number for low, high in ranges.spans for number in range(low, high + 1)}
    assert numbers == set(first + second)
    holes = {number for low, high in ranges.holes for number in range(low, high + 1)}
    assert holes == set(range(min(numbers, default=0), max(numbers, default=-1) + 1)) - numbers


@given(NUMBERS)
def test_ranges_are_written_and_read(numbers: list[int]) -> None:
    ranges = Ranges().union(numbers)
    assert Ranges.parse(ranges.text()) == ranges


def test_a_sender_full_of_holes_keeps_its_newest() -> None:
    ranges = Ranges().union(range(0, 4 * MAX_SPANS, 2))
    assert len(ranges.spans) == MAX_SPANS
    assert ranges.spans[-1] == (4 * MAX_SPANS - 2, 4 * MAX_SPANS - 2)
    assert ranges.spans[0][0] == 0


def test_a_node_counts_for_each_incarnation_and_the_dispatcher_for_itself() -> None:
    assert sender_of(Story().claimed()) == f"node/{NODE}/{BORN}"
    assert sender_of(Story().requested()) == "dispatcher"


def test_a_container_is_found_by_its_first_twelve_digits_in_any_case() -> None:
    assert short_container("0123456789ABcdef") == "0123456789ab"


@given(st.lists(st.tuples(st.text(), st.integers()), max_size=6), st.randoms())
def test_a_digest_knows_no_order_but_every_row_and_how_often_it_is_there(
    rows: list[tuple[str, int]], random: Random
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert _digest(rows) == _digest(shuffled)
    assert _digest(rows) != _digest([*rows, ("", 0)])
    assert _digest([*rows, ("a", 1)]) != _digest([*rows, ("a", 1), ("a", 1)])


def test_a_digest_distinguishes_a_number_from_its_text_and_one_field_from_two() -> None:
    digests = set()
    for row in (("a", 1), ("a", "1"), ("a1",), ("a", "", "1"), ("", "a", 1)):
        digest = HistoryDigest()
        digest.add("row", *row)
        digests.add(digest.hexdigest())
    assert len(digests) == 5


def _digest(rows: list[tuple[str, int]]) -> str:
    digest = HistoryDigest()
    for text, number in rows:
        digest.add("row", text, number)
    return digest.hexdigest()
