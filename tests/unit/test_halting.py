"""Whether anything of a process can run, judged by the states of its threads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.targets.halting import Halt, ThreadFacts, all_stopped, halt_of, none_stopped


def threads(*states: str) -> list[ThreadFacts]:
    """``T``, ``S`` …; a stop waits for those that are followed by ``+``."""
    return [ThreadFacts(number, state[0], state.endswith("+")) for number, state in enumerate(states)]


@pytest.mark.parametrize(
    ("states", "frozen", "halt"),
    [
        (["T"], False, Halt.STOPPED),
        (["T", "T"], True, Halt.STOPPED),
        (["Z", "T"], False, Halt.STOPPED),
        (["S"], False, Halt.RUNNING),
        (["T", "R"], False, Halt.RUNNING),
        (["S+"], False, Halt.RUNNING),
        (["D"], False, Halt.RUNNING),
        (["D+"], False, Halt.ARRIVING),
        (["D", "T"], False, Halt.ARRIVING),
        (["D+", "R+"], False, Halt.RUNNING),
        (["S"], True, Halt.RUNNING),
        (["S+"], True, Halt.ARRIVING),
        (["t"], False, Halt.TRACED),
        (["t", "T"], False, Halt.TRACED),
        (["t", "S"], False, Halt.RUNNING),
        (["Z"], False, Halt.RUNNING),
        ([], False, Halt.RUNNING),
    ],
)
def test_how_still_it_is(states: list[str], frozen: bool, halt: Halt) -> None:
    assert halt_of(threads(*states), frozen=frozen) is halt


some_threads = st.lists(st.builds(ThreadFacts, st.integers(1, 9), st.sampled_from("RSDTtZXI"), st.booleans()))


@given(some_threads, st.booleans())
def test_what_can_run_is_never_called_stopped(threads: list[ThreadFacts], frozen: bool) -> None:
    if any(thread.state in "RSI" for thread in threads) and not frozen:
        assert halt_of(threads, frozen=frozen) is Halt.RUNNING


@given(some_threads)
def test_nothing_is_both_stopped_and_not(threads: list[ThreadFacts]) -> None:
    assert not (all_stopped(threads) and none_stopped(threads))


@pytest.mark.parametrize(("states", "none"), [(["S"], True), (["T", "S"], False), (["D+"], False), (["Z+", "R"], True)])
def test_one_that_goes_on_has_no_thread_stopped_and_no_stop_waiting(states: list[str], none: bool) -> None:
    assert none_stopped(threads(*states)) is none
