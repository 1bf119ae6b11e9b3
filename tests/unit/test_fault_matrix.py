"""Every fault of the matrix has a test by name, and every name that a test gives is in the matrix."""

from __future__ import annotations

from tests.fault_matrix import FAULTS, OPEN, held


def test_every_fault_of_the_matrix_is_listed() -> None:
    assert [name for name in FAULTS if name.startswith("F") and name[1:].isdigit()] == [f"F{n}" for n in range(1, 33)]


def test_every_fault_has_a_test_that_is_marked_with_it() -> None:
    assert [name for name in FAULTS if name not in held()] == list(OPEN)


def test_every_marker_names_a_listed_fault() -> None:
    assert sorted(held().keys() - FAULTS.keys()) == []


def test_a_fault_that_only_long_runs_inject_is_known() -> None:
    """What `make test` does not inject at all, not even in a small variant."""
    only_long = [name for name, tests in held().items() if all(each.long for each in tests)]
    assert sorted(only_long) == ["F26"]
