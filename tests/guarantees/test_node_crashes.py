"""The node ends at every place where it can end, and the promises hold after the next start.

Deterministic and in one thread: a failpoint raises, the fake journal forgets what was not committed, the room is built
anew on what was, and runs until it rests. The same sweep with real processes and a real disk is in tests/integration.
"""

from __future__ import annotations

import itertools

import pytest

from tests.fakes.failpoints import Crash
from tests.fakes.node import NodeBench
from tests.guarantees.node import check_all
from workers.domain.outcome import Outcome
from workers.domain.request import Actor, ActorKind
from workers.node.services import FAILPOINTS

RULE = Actor(ActorKind.RULE, "miner")


def workload(bench: NodeBench) -> None:
    """Something of everything: plain, claimed early, protected, gone, refused, run dry, doubled, garbage, forged."""
    for number in range(1, 7):
        bench.world.spawn(number)
    bench.world.protected.add(4)
    bench.world.scripts[5] = ["transient"]
    bench.world.scripts[6] = ["hang_after"]
    first = bench.command("quick_kill", 1)
    bench.send(first)
    others = [
        bench.command("scripted_kill", 2, actor=RULE),
        bench.command("scripted_copy", 3),
        bench.command("quick_kill", 4),
        bench.command("scripted_kill", 5),
        bench.command("scripted_stop", 6),
        bench.command("scripted_kill", 9),
        bench.command("scripted_kill", 2, dry_run=True),
        bench.command("no_such_action", 2),
        bench.command("scripted_kill", 2, expires_at_ns=bench.clock.now_ns() - 1),
    ]
    for command in others:
        bench.send(command)
    bench.put(b"garbage")
    bench.send(bench.command(incarnation="another"), genuine=False)
    bench.send(first)


def run_through_crashes(bench: NodeBench, *, most: int = 50) -> int:
    """Settle, and after each crash restart and settle on; how many crashes there were."""
    for crashes in range(most):
        try:
            bench.settle(patience_s=400)
        except Crash:
            bench.restart()
        else:
            return crashes
    raise AssertionError(f"still crashing after {most} restarts")


def passes(place: str) -> int:
    """How often an undisturbed workload passes a place."""
    bench = NodeBench()
    bench.read()
    workload(bench)
    bench.settle(patience_s=400)
    return bench.failpoints.passes.count(place)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("place", FAILPOINTS)
def test_after_a_crash_at_any_pass_of_any_failpoint_every_promise_holds(place: str) -> None:
    swept = passes(place)
    assert swept, f"the workload never passes {place}"
    for nth in range(1, swept + 1):
        bench = NodeBench()
        bench.read()
        workload(bench)
        bench.failpoints.arm(place, nth=nth)
        assert run_through_crashes(bench) == 1
        observation = bench.observation()
        check_all(observation)
        assert len(observation.effects) == 5, f"{place} pass {nth}: {observation.effects}"


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FAILPOINTS, FAILPOINTS)))
def test_a_second_crash_during_the_recovery_from_the_first_changes_nothing(first: str, second: str) -> None:
    bench = NodeBench()
    bench.read()
    workload(bench)
    bench.failpoints.arm(first)
    with pytest.raises(Crash):
        bench.settle(patience_s=400)
    bench.restart()
    bench.failpoints.arm(second)
    run_through_crashes(bench)
    check_all(bench.observation())
    assert len(bench.world.effects) == 5


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_inside_the_action_itself_doubles_nothing(moment: str) -> None:
    bench = NodeBench()
    bench.world.spawn(1)
    left = [Crash("in the action"), Crash("again")]

    def die(place: str) -> None:
        if place == moment and left:
            raise left.pop()

    bench.world.during = die
    command = bench.command()
    bench.send(command)
    run_through_crashes(bench)
    check_all(bench.observation())
    assert bench.results(command.command_id)[-1].outcome is Outcome.COMPLETED
    assert len(bench.world.effects) == 1


@pytest.mark.fault("F3")
def test_a_command_that_always_kills_its_worker_gets_three_lives_and_the_others_flow() -> None:
    bench = NodeBench()
    for number in (1, 2, 3):
        bench.world.spawn(number)

    def die(place: str) -> None:
        if place == "before" and 1 in bench.world.alive and bench.world.touched % 2 == 1:
            raise Crash("poison")

    poison = bench.command(number=1)
    bench.world.during = lambda place: die(place)
    bench.send(poison)
    for _ in range(3):
        bench.world.touched = 0
        with pytest.raises(Crash):
            bench.settle()
        bench.restart()
    bench.world.during = lambda _: None
    others = [bench.command(number=number) for number in (2, 3)]
    for other in others:
        bench.send(other)
    bench.settle()
    assert bench.results(poison.command_id)[-1].code == "scripted_kill_error_poison_action"
    assert [bench.results(other.command_id)[-1].outcome for other in others] == [Outcome.COMPLETED] * 2
    check_all(bench.observation())
