"""The vigil: an effect that is lost is told once, and nothing else is."""

from __future__ import annotations

import pytest

from tests.fakes.failpoints import Crash
from tests.fakes.node import NodeBench
from tests.guarantees.node import check_all
from workers.domain.command import ActionCommand
from workers.domain.outcome import Outcome
from workers.domain.result import EFFECT_LOST, EFFECT_WEAKENED


@pytest.fixture
def bench() -> NodeBench:
    made = NodeBench()
    made.world.spawn(1)
    return made


def stopped(bench: NodeBench, action: str = "scripted_stop") -> ActionCommand:
    """Something that holds."""
    command = bench.command(action)
    bench.send(command)
    bench.settle()
    return command


def alarms(bench: NodeBench) -> list[str]:
    bench.settle()
    return [result.alarm for result in bench.results() if result.alarm]


def test_an_effect_in_place_is_checked_and_nothing_is_reported(bench: NodeBench) -> None:
    stopped(bench)
    bench.effect_watch.step()
    bench.effect_watch.step()
    assert (bench.world.looked, alarms(bench)) == (2, [])


def test_a_lost_effect_is_reported_once_and_there_is_nothing_to_undo_any_more(bench: NodeBench) -> None:
    command = stopped(bench)
    bench.world.spawn(1)
    for _ in range(3):
        bench.effect_watch.step()
    assert alarms(bench) == [EFFECT_LOST]
    (alarm,) = [result for result in bench.results(command.command_id) if result.alarm]
    assert alarm.message == "it runs again"
    assert len(bench.audit("alarm")) == 1
    undo = bench.command("scripted_start", undo_of=command.command_id, target=None)
    bench.send(undo)
    bench.settle()
    assert bench.results(undo.command_id)[-1].code == "scripted_start_error_nothing_to_revert"
    check_all(bench.observation())


def test_a_changed_effect_is_reported_once_and_can_be_undone_as_before(bench: NodeBench) -> None:
    command = stopped(bench)
    bench.world.meddled = "somebody was at it"
    for _ in range(3):
        bench.effect_watch.step()
    assert alarms(bench) == [EFFECT_WEAKENED]
    (alarm,) = [result for result in bench.results(command.command_id) if result.alarm]
    assert alarm.message == "somebody was at it"
    bench.world.meddled = "somebody was at it again"
    bench.effect_watch.step()
    assert alarms(bench) == [EFFECT_WEAKENED] * 2
    undo = bench.command("scripted_start", undo_of=command.command_id, target=None)
    bench.send(undo)
    bench.settle()
    assert bench.results(undo.command_id)[-1].outcome is Outcome.COMPLETED
    check_all(bench.observation())


def test_a_restart_remembers_what_is_in_place_and_what_was_reported(bench: NodeBench) -> None:
    stopped(bench)
    bench.start()
    bench.world.spawn(1)
    bench.effect_watch.step()
    bench.start()
    bench.effect_watch.step()
    assert alarms(bench) == [EFFECT_LOST]


def test_what_was_undone_is_not_lost(bench: NodeBench) -> None:
    command = stopped(bench)
    bench.send(bench.command("scripted_start", undo_of=command.command_id, target=None))
    bench.settle()
    bench.effect_watch.step()
    bench.start()
    bench.effect_watch.step()
    assert alarms(bench) == []


def test_what_is_being_undone_is_not_lost(bench: NodeBench) -> None:
    command = stopped(bench)
    undo = bench.command("scripted_start", undo_of=command.command_id, target=None)
    bench.failpoints.arm("node.execute.after")
    bench.send(undo)
    with pytest.raises(Crash):
        bench.settle()
    bench.effect_watch.step()
    assert alarms(bench) == []


def test_what_is_not_known_now_is_checked_again(bench: NodeBench) -> None:
    stopped(bench)
    bench.world.spawn(1)
    bench.world.silent = True
    bench.effect_watch.step()
    assert alarms(bench) == []
    bench.world.silent = False
    bench.effect_watch.step()
    assert alarms(bench) == [EFFECT_LOST]


def test_only_actions_that_can_lose_their_effect_are_watched(bench: NodeBench) -> None:
    assert bench.results(stopped(bench, "scripted_kill").command_id)[-1].outcome is Outcome.COMPLETED
    bench.world.spawn(1)
    bench.effect_watch.step()
    assert (bench.world.looked, alarms(bench)) == (0, [])
