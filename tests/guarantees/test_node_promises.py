"""The promises on their own: each holds where it should, and each can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.node import NodeBench, response_actions
from tests.guarantees.node import (
    ALWAYS,
    AtMostOneEffectPerTargetIncarnation,
    ContainmentNeverWaitsForGathering,
    EveryAcceptedCommandEndsInExactlyOneOutcome,
    Guarantee,
    NodeRunsOnlyItsOwnSignedFreshCommands,
    NoEffectWithoutPriorIntent,
    RejectedMeansUntouched,
    TheNodeWins,
)
from tests.guarantees.observation import Effect, Observation
from workers.actions.base import Lane
from workers.domain.ids import ExecutionId
from workers.domain.outcome import Outcome

ALIEN = ExecutionId("01890000-0000-7000-8000-0000000000ee")


@pytest.fixture
def good() -> Observation:
    bench = NodeBench()
    bench.world.spawn(1)
    bench.send(bench.command())
    bench.settle()
    return bench.observation()


def broken_in(good: Observation, guarantee: type) -> Observation:
    """An observation that breaks exactly this promise."""
    (effect,) = good.effects
    (command,) = good.accepted.values()
    ended = good.results[-1]
    changes: dict[type, dict[str, object]] = {
        EveryAcceptedCommandEndsInExactlyOneOutcome: {"results": good.results[:-1]},
        AtMostOneEffectPerTargetIncarnation: {"effects": [effect, effect]},
        NoEffectWithoutPriorIntent: {"effects": [replace(effect, intended=False)]},
        NodeRunsOnlyItsOwnSignedFreshCommands: {"effects": [replace(effect, at_ns=command.expires_at_ns * 2)]},
        RejectedMeansUntouched: {"results": [*good.results[:-1], replace(ended, outcome=Outcome.REJECTED)]},
        TheNodeWins: {"switched_off": frozenset({command.action})},
    }
    return replace(good, **changes[guarantee])  # type: ignore[arg-type]


@pytest.mark.parametrize("guarantee", ALWAYS, ids=lambda g: type(g).__name__)
def test_a_promise_holds_where_it_was_kept_and_complains_where_it_was_broken(
    guarantee: Guarantee, good: Observation
) -> None:
    guarantee.check(good)
    broken = broken_in(good, type(guarantee))
    with pytest.raises(AssertionError):
        guarantee.check(broken)


def test_two_different_ends_of_one_execution_are_noticed(good: Observation) -> None:
    ended = good.results[-1]
    twice = replace(good, results=[*good.results, replace(ended, seq=ended.seq + 1, outcome=Outcome.FAILED)])
    with pytest.raises(AssertionError, match="ended 2 times"):
        EveryAcceptedCommandEndsInExactlyOneOutcome().check(twice)


def test_an_effect_without_any_command_is_noticed(good: Observation) -> None:
    with pytest.raises(AssertionError, match="no command of ours"):
        NodeRunsOnlyItsOwnSignedFreshCommands().check(replace(good, effects=[Effect(ALIEN, "9/9")]))


def test_containment_ends_while_every_gathering_thread_is_busy_for_ever() -> None:
    bench = NodeBench()
    for number in range(1, 9):
        bench.world.spawn(number)
    copies = [bench.command("scripted_copy", number) for number in (1, 2, 3, 4)]
    for copy in copies:
        bench.send(copy)
    bench.read()
    held = [bench.lanes.take(Lane.GATHERING, 0), bench.lanes.take(Lane.GATHERING, 0)]
    assert all(held), "two gathering threads hold a task and never return"
    for number in (5, 6, 7, 8):
        bench.send(bench.command("scripted_kill", number))
    bench.read()
    while bench.turn(Lane.CONTAINMENT) or bench.relay():
        pass
    stuck = frozenset(copy.command_id for copy in copies)
    ContainmentNeverWaitsForGathering().check(bench.observation(gathering_stuck=2, stuck=stuck))
    with pytest.raises(AssertionError):
        ContainmentNeverWaitsForGathering().check(replace(bench.observation(), gathering_stuck=2, results=[]))


def test_the_nodes_own_settings_beat_every_signature() -> None:
    bench = NodeBench(settings=response_actions(enabled=False, scripted_kill={"trigger": "ALL"}))
    bench.world.spawn(1)
    for name in bench.services.catalogue:
        bench.send(bench.command(name))
    bench.settle()
    assert {result.outcome for result in bench.results()} == {Outcome.REJECTED}
    assert bench.world.touched == 0
    for guarantee in ALWAYS:
        guarantee.check(bench.observation())
