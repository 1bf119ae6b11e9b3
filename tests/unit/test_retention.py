"""Retention among fakes: when it comes, what it says, and that no replay brings back what it took."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.failpoints import Crash
from tests.projecting import World
from tests.stories import BORN, NODE, SECOND, Story, event, heartbeat
from workers.domain.history.retention import DAY_NS, Cutoffs, Retention
from workers.domain.ids import EventId
from workers.domain.log import topics
from workers.domain.outcome import Outcome
from workers.projector.pruner import AFTER_FORGETTING, BEFORE_FORGETTING, EVERY_NS, Pruner

MONTH = Retention(events=30, executions=30, audit=30, nodes=30)
DAYS = 86_400


def full(world: World) -> None:
    """A log with a little of everything."""
    for number in range(4):
        world.tell(*Story(number).whole())
    world.audit(f"node/{NODE}/{BORN}", 3)
    world.beat(heartbeat(1))
    world.detect(event(1), event(2))


def forget(forgetting: Pruner) -> int:
    """One whole pass."""
    total = 0
    while gone := forgetting.step():
        total += gone
    return total


def test_what_came_of_age_goes_and_is_audited_and_counted_once() -> None:
    world = World()
    full(world)
    world.run()
    world.clock.advance(31 * DAYS)
    world.beat(replace(heartbeat(99), at_ns=world.clock.now_ns()))
    world.run()
    forgetting = world.forgetting(MONTH)

    assert forget(forgetting) == 4 + 3 + 2

    assert world.store.health().executions == 0
    assert world.kinds() == ["forgotten"]
    output = world.output()[-1].detail
    assert (output["executions"], output["audit"], output["events"], output["nodes"]) == (4, 3, 2, 0)
    assert output["events_before_ns"] == world.clock.now_ns() - 30 * DAY_NS
    assert world.telemetry.counts["history.forgotten"] == 9


def test_a_pass_comes_every_ten_minutes_and_reports_nothing_when_nothing_was_forgotten() -> None:
    world = World()
    full(world)
    world.run()
    forgetting = world.forgetting(Retention(events=1))
    assert forget(forgetting) == 0
    world.clock.advance(2 * DAYS)
    world.beat(replace(heartbeat(99), at_ns=world.clock.now_ns()))
    world.run()
    assert forget(forgetting) == 2
    world.detect(event(3))
    world.run()
    assert forget(forgetting) == 0
    world.clock.advance(EVERY_NS / 1e9)
    assert forget(forgetting) == 1
    assert world.kinds() == ["forgotten", "forgotten"]


def test_without_retention_everything_stays() -> None:
    world = World()
    full(world)
    world.run()
    world.clock.advance(4000 * DAYS)
    world.beat(replace(heartbeat(99), at_ns=world.clock.now_ns()))
    world.run()
    assert forget(world.forgetting(Retention())) == 0


def test_a_clock_that_runs_ahead_forgets_nothing_that_is_young() -> None:
    world = World()
    full(world)
    world.run()
    world.clock.advance(100 * 365 * DAYS)
    assert forget(world.forgetting(MONTH)) == 0


def test_a_node_whose_clock_runs_ahead_forgets_nothing_either() -> None:
    world = World()
    full(world)
    world.beat(replace(heartbeat(99), at_ns=heartbeat(1).at_ns + 1000 * DAY_NS))
    world.run()
    assert forget(world.forgetting(MONTH)) == 0


@pytest.mark.parametrize("place", [BEFORE_FORGETTING, AFTER_FORGETTING])
def test_killed_in_the_middle_of_a_pass_the_next_one_finishes_it(place: str) -> None:
    world = World()
    full(world)
    world.run()
    world.clock.advance(31 * DAYS)
    world.beat(replace(heartbeat(99), at_ns=world.clock.now_ns()))
    world.run()
    world.failpoints.arm(place)
    with pytest.raises(Crash):
        world.forgetting(MONTH).step()
    forget(world.forgetting(MONTH))
    assert (world.store.health().executions, world.store.audit()) == (0, [])


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_a_replayed_step_of_a_forgotten_execution_makes_no_execution_that_never_ends(part: int) -> None:
    world = World()
    reported = world.tell(*Story(1).whole())
    world.run()
    world.clock.advance(31 * DAYS)
    world.beat(replace(heartbeat(99), at_ns=world.clock.now_ns()))
    projector = world.run()
    forget(world.forgetting(MONTH))
    for _ in range(3):
        world.log.duplicate(reported[part])
    world.run(projector)
    assert world.store.health().executions == 0
    assert world.kinds() == ["forgotten"]


def test_an_old_step_that_never_arrived_before_is_folded_however_late_it_comes() -> None:
    world = World()
    world.tell(*Story(1).whole())
    world.run()
    world.clock.advance(31 * DAYS)
    world.beat(replace(heartbeat(99), at_ns=world.clock.now_ns()))
    projector = world.run()
    forget(world.forgetting(MONTH))
    held = Story(2).whole(effect_holds=True)
    world.tell(*held)
    world.run(projector)
    assert [row.execution_id for row in world.store.contained()] == [Story(2).id]


def test_a_replay_of_an_old_execution_that_is_still_there_changes_nothing() -> None:
    world = World()
    reported = world.tell(*Story(1).whole(effect_holds=True))
    world.run()
    world.clock.advance(31 * DAYS)
    world.beat(replace(heartbeat(99), at_ns=world.clock.now_ns()))
    projector = world.run()
    forget(world.forgetting(MONTH))
    before = world.store.digest()
    for record in reported:
        world.log.duplicate(record)
    world.run(projector)
    assert world.store.digest() == before


def test_cutoffs_only_ever_move_on() -> None:
    one, other = Cutoffs(events=5, audit=9), Cutoffs(events=3, executions=4, audit=10)
    assert one.with_later(other) == Cutoffs(events=5, executions=4, audit=10)
    assert Retention(events=1).cutoffs(3 * DAY_NS) == Cutoffs(events=2 * DAY_NS)
    assert Retention(events=4000).cutoffs(3 * DAY_NS) == Cutoffs()


_OUTCOMES = st.sampled_from([Outcome.COMPLETED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.REJECTED])
_TALES = st.lists(
    st.tuples(_OUTCOMES, st.booleans(), st.integers(1, 4), st.integers(-1, 11)),
    min_size=1,
    max_size=12,
)
"""Of each execution: how it ended, whether it holds, how much of it was told, and which one it undoes."""


@settings(max_examples=40)
@given(_TALES, st.randoms(use_true_random=False), st.lists(st.floats(0, 1), max_size=4))
def test_forgetting_and_folding_may_come_in_any_order(
    tales: list[tuple[Outcome, bool, int, int]], randomness: random.Random, moments: list[float]
) -> None:
    """Whatever is replayed, and however often retention comes in between, as long as what is new comes in before it is
    of age, the store is what it would be if everything had been folded first and forgotten once."""
    reported = []
    stories: list[Story] = []
    for number, (outcome, holds, parts, undoes) in enumerate(tales):
        undone = stories[undoes].id if 0 <= undoes < number else Story().undo_of
        stories.append(Story(number * 3, undo_of=undone, event_id=EventId(f"event-{number * 3}")))
        reported += stories[-1].whole(outcome, effect_holds=holds)[:parts]
    reported.sort(key=lambda result: result.at_ns)

    at_once, by_and_by = World(), World()
    for world in (at_once, by_and_by):
        world.detect(*(event(number * 3) for number in range(len(tales))))
    at_once.tell(*reported)
    at_once.run()

    projector = by_and_by.projector()
    projector.start()
    done, furthest_ns = 0, reported[-1].at_ns - SECOND
    for moment in sorted(moments):
        upto = round(moment * len(reported))
        by_and_by.tell(*reported[done:upto])
        done = max(done, upto)
        for record in by_and_by.log.records(topics.RESULTS):
            if randomness.random() < 0.3:
                by_and_by.log.duplicate(record)
        by_and_by.run(projector)
        before_ns = reported[done].at_ns if done < len(reported) else reported[-1].at_ns + 1
        forget_all(by_and_by, before_ns)
        furthest_ns = max(furthest_ns, before_ns)
    by_and_by.tell(*reported[done:])
    by_and_by.run(projector)

    for world in (at_once, by_and_by):
        forget_all(world, furthest_ns)
    assert by_and_by.store.digest() == at_once.store.digest()


def forget_all(world: World, before_ns: int) -> None:
    while True:
        with world.store.begin() as tx:
            if not tx.forget(Cutoffs(before_ns, before_ns, before_ns, before_ns), limit=2).total:
                return
