"""The present holder of a pid against the process that was meant: every order of start, event, end and reuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.processes import BOOT_ID, TICK_NS, FakeProcesses
from workers.domain.targets.process import ProcessFacts, ProcessIdentity
from workers.domain.targets.process_identity import (
    BTIME_GRAIN_NS,
    CLOCK_ERROR_NS,
    WINDOW_TICKS,
    Binding,
    Verdict,
    is_same,
    judge_event,
    judge_review,
)

BORN_NS = 1_900_000_000_000_000_000
WINDOW_NS = WINDOW_TICKS * TICK_NS
FINE_NS = 30_000
HOUR_NS = 3_600_000_000_000


def _holder(born_ns: int, grain_ns: int) -> ProcessFacts:
    """What the kernel shows of a process that started exactly then, cut to ``grain_ns``."""
    shown_ns = born_ns - born_ns % grain_ns
    facts = FakeProcesses().spawn().facts
    return replace(facts, started_at_ns=shown_ns, start_grain_ns=grain_ns)


grains = st.sampled_from([TICK_NS, FINE_NS])
births = st.integers(BORN_NS, BORN_NS + HOUR_NS)
spans = st.one_of(st.integers(0, 3 * TICK_NS), st.integers(0, HOUR_NS))


@given(born=births, age=spans, grain=grains, named=st.booleans(), late=spans, cut=st.booleans())
def test_the_events_own_process_is_never_called_another(
    born: int, age: int, grain: int, named: bool, late: int, cut: bool
) -> None:
    """It was born before the event; a named start time is not before its birth (or tick), and may be much later."""
    start = min(born + late, born + age) if named else None
    if start is not None and cut:
        start -= start % TICK_NS
    judged = judge_event(_holder(born, grain), observed_at_ns=born + age, named_start_ns=start, tick_ns=TICK_NS)
    assert judged.verdict in {Verdict.SAME, Verdict.UNCLEAR}
    if (named and not (cut and grain == FINE_NS)) or age >= WINDOW_NS:
        assert judged.verdict is Verdict.SAME


@given(born=births, age=spans, dead_after=spans, again=st.integers(CLOCK_ERROR_NS, HOUR_NS), named=st.booleans())
def test_with_a_fine_start_time_a_process_that_reused_the_pid_is_never_mistaken_for_it(
    born: int, age: int, dead_after: int, again: int, named: bool
) -> None:
    """Even within one tick; the named start time is exact here, as a detector that saw the birth gives it."""
    event = born + age
    reborn = event + dead_after + again
    judged = judge_event(
        _holder(reborn, FINE_NS), observed_at_ns=event, named_start_ns=born if named else None, tick_ns=TICK_NS
    )
    assert judged.verdict is not Verdict.SAME


@given(born=births, age=spans, dead_after=spans)
def test_without_a_named_start_time_a_process_that_reused_the_pid_is_not_mistaken_for_it(
    born: int, age: int, dead_after: int
) -> None:
    event = born + age
    reborn = event + dead_after
    judged = judge_event(_holder(reborn, TICK_NS), observed_at_ns=event, named_start_ns=None, tick_ns=TICK_NS)
    assert judged.verdict is not Verdict.SAME


@given(born=births, age=spans, dead_after=spans)
def test_with_ticks_alone_a_named_start_distinguishes_processes_of_a_later_tick(
    born: int, age: int, dead_after: int
) -> None:
    event = born + age
    reborn = event + dead_after
    judged = judge_event(_holder(reborn, TICK_NS), observed_at_ns=event, named_start_ns=born, tick_ns=TICK_NS)
    if reborn // TICK_NS * TICK_NS > born + CLOCK_ERROR_NS:
        assert judged.verdict is not Verdict.SAME


@given(born=births, age=spans, beyond=st.integers(WINDOW_NS + TICK_NS, HOUR_NS), grain=grains)
def test_a_holder_clearly_younger_than_the_event_means_that_the_target_is_gone(
    born: int, age: int, beyond: int, grain: int
) -> None:
    event = born + age
    judged = judge_event(_holder(event + beyond, grain), observed_at_ns=event, named_start_ns=born, tick_ns=TICK_NS)
    assert judged.verdict is Verdict.GONE


def test_a_holder_older_than_the_named_start_is_still_the_one() -> None:
    holder = _holder(BORN_NS, TICK_NS)
    event = BORN_NS + HOUR_NS
    judged = judge_event(holder, observed_at_ns=event, named_start_ns=event - TICK_NS, tick_ns=TICK_NS)
    assert judged == judge_event(holder, observed_at_ns=event, named_start_ns=None, tick_ns=TICK_NS)
    assert (judged.verdict, judged.binding) == (Verdict.SAME, Binding.PID_BEFORE_EVENT)


def test_an_event_time_cut_to_a_millisecond_does_not_lose_a_young_process() -> None:
    holder = _holder(BORN_NS + 600_000, FINE_NS)
    judged = judge_event(holder, observed_at_ns=BORN_NS, named_start_ns=BORN_NS + 700_000, tick_ns=TICK_NS)
    assert (judged.verdict, judged.binding) == (Verdict.SAME, Binding.START_TIME)


@pytest.mark.parametrize(
    ("away_ns", "verdict"),
    [
        (0, Verdict.SAME),
        (WINDOW_NS, Verdict.SAME),
        (-WINDOW_NS, Verdict.SAME),
        (WINDOW_NS + 1, Verdict.CONTRADICTED),
        (WINDOW_NS + BTIME_GRAIN_NS, Verdict.CONTRADICTED),
        (WINDOW_NS + BTIME_GRAIN_NS + 1, Verdict.GONE),
        (-WINDOW_NS - 1, Verdict.CONTRADICTED),
    ],
)
def test_a_persons_start_time_is_exact_to_two_ticks(away_ns: int, verdict: Verdict) -> None:
    holder = _holder(BORN_NS, TICK_NS)
    judged = judge_review(
        holder,
        requested_at_ns=BORN_NS + HOUR_NS,
        named_start_ns=holder.started_at_ns - away_ns,
        tick_ns=TICK_NS,
    )
    assert judged.verdict is verdict


def test_a_bare_pid_takes_a_holder_older_than_the_asking_and_no_other() -> None:
    holder = _holder(BORN_NS, TICK_NS)
    older = judge_review(holder, requested_at_ns=BORN_NS + HOUR_NS, named_start_ns=None, tick_ns=TICK_NS)
    younger = judge_review(holder, requested_at_ns=BORN_NS - HOUR_NS, named_start_ns=None, tick_ns=TICK_NS)
    anyone = judge_review(holder, requested_at_ns=0, named_start_ns=None, tick_ns=TICK_NS)
    assert [judged.verdict for judged in (older, younger, anyone)] == [Verdict.SAME, Verdict.GONE, Verdict.SAME]
    assert {judged.binding for judged in (older, younger, anyone)} == {Binding.PID_AT_INTAKE}


@pytest.mark.parametrize(
    ("boot_id", "ticks", "serial", "held_serial", "same"),
    [
        (BOOT_ID, 7, 3, 3, True),
        (BOOT_ID, 7, 3, 4, False),
        (BOOT_ID, 8, 3, 3, True),
        (BOOT_ID, 7, 0, 4, True),
        (BOOT_ID, 7, 3, 0, True),
        (BOOT_ID, 8, 0, 0, False),
        ("another", 7, 3, 3, False),
    ],
)
def test_a_bound_process_is_known_again_by_serial_or_else_by_ticks(
    boot_id: str, ticks: int, serial: int, held_serial: int, same: bool
) -> None:
    holder = FakeProcesses().spawn(start_ticks=7, serial=held_serial).facts
    assert is_same(holder.identity, ProcessIdentity(boot_id, ticks, serial)) is same
