"""One effect, one owner: a second execution on what this node holds already joins the first, and holds nothing."""

from __future__ import annotations

import pytest

from tests.fakes.node import NodeBench
from tests.fakes.scripted import ScriptedClaim, ScriptedStop
from workers.actions.base import Lane
from workers.domain.command import ActionCommand
from workers.domain.outcome import Outcome
from workers.domain.result import EFFECT_LOST


class Held(ScriptedStop):
    """Ends a target for as long as it is not spawned again; a second run on what is away finds it so."""

    name = "scripted_stop"

    def holds(self, claim: ScriptedClaim) -> str:
        return str(claim.number)


@pytest.fixture
def bench() -> NodeBench:
    made = NodeBench()
    made.world.spawn(1)
    made.services.catalogue["scripted_stop"] = Held(made.world)  # type: ignore[index]
    return made


def stopped(bench: NodeBench) -> ActionCommand:
    command = bench.command("scripted_stop")
    bench.send(command)
    bench.settle()
    return command


def restarted(bench: NodeBench) -> None:
    bench.restart()
    bench.services.catalogue["scripted_stop"] = Held(bench.world)  # type: ignore[index]


@pytest.mark.parametrize("restart", [False, True])
def test_the_second_joins_the_first_and_names_it(bench: NodeBench, restart: bool) -> None:
    first = stopped(bench)
    if restart:
        restarted(bench)
    second = stopped(bench)
    ended = bench.results(second.command_id)[-1]
    assert (ended.outcome, ended.code) == (Outcome.NO_ACTION, "scripted_stop_success_already_held")
    assert (ended.outputs["held_by"], ended.effect_holds) == (first.command_id, False)
    assert first.command_id in ended.message
    assert bench.world.touched == 1


def test_undoing_the_first_gives_the_second_no_alarm(bench: NodeBench) -> None:
    first, second = stopped(bench), stopped(bench)
    undo = bench.command("scripted_start", undo_of=first.command_id, target=None)
    bench.send(undo)
    bench.settle()
    for _ in range(3):
        bench.effect_watch.step()
    bench.settle()
    assert [r.alarm for r in bench.results() if r.alarm] == []
    third = stopped(bench)
    assert bench.results(third.command_id)[-1].outcome is Outcome.COMPLETED, "the owner is gone"
    assert bench.results(second.command_id)[-1].outcome is Outcome.NO_ACTION


def test_the_second_cannot_be_undone(bench: NodeBench) -> None:
    stopped(bench)
    second = stopped(bench)
    undo = bench.command("scripted_start", undo_of=second.command_id, target=None)
    bench.send(undo)
    bench.settle()
    assert bench.results(undo.command_id)[-1].code == "scripted_start_error_nothing_to_revert"


def test_an_effect_that_was_lost_unseen_has_no_owner_to_join(bench: NodeBench) -> None:
    first = stopped(bench)
    bench.world.spawn(1)
    second = stopped(bench)
    assert [r.alarm for r in bench.results(first.command_id) if r.alarm] == [EFFECT_LOST]
    ended = bench.results(second.command_id)[-1]
    assert (ended.outcome, ended.effect_holds, bench.world.touched) == (Outcome.COMPLETED, True, 2)


def test_while_the_first_is_being_undone_the_second_waits(bench: NodeBench) -> None:
    first = stopped(bench)
    undo = bench.command("scripted_start", undo_of=first.command_id, target=None)
    bench.send(undo)
    second = bench.command("scripted_stop")
    bench.read()
    bench.send(second)
    bench.read()
    undo_task = bench.lanes.take(Lane.CONTAINMENT, bench.clock.monotonic_ns())
    assert undo_task is not None
    assert bench.turn()
    assert not bench.results(second.command_id)
    bench.lanes.done(undo_task, bench.runner.step(undo_task))
    bench.settle(patience_s=2)
    ended = bench.results(second.command_id)[-1]
    assert (ended.outcome, ended.effect_holds) == (Outcome.COMPLETED, True)
