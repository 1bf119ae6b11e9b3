"""The effect watch: every effect that can be undone is watched, a loss is reported once, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from tests.fakes.failpoints import Crash
from tests.fakes.node import NodeBench
from tests.fakes.scripted import ScriptedClaim, ScriptedParameters, ScriptedStart, ScriptedStop
from tests.guarantees.node import check_all
from workers.actions.base import Effect, Job, NoParameters
from workers.domain.command import ActionCommand
from workers.domain.errors import TransientFailure
from workers.domain.outcome import Outcome, Report
from workers.domain.result import EFFECT_LOST, EFFECT_WEAKENED
from workers.host.ports import Host


@dataclass(frozen=True, slots=True)
class RuntimeClaim(ScriptedClaim):
    """With the runtime that has it."""

    runtime: str = ""


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


def test_an_undo_that_finds_nothing_to_do_reports_the_loss_before_the_next_look(bench: NodeBench) -> None:
    class Idle(ScriptedStart):
        """Finds that another program has started it."""

        name = "scripted_start"

        def execute(self, job: Job[NoParameters], claim: ScriptedClaim, host: Host) -> Report:
            return self.report(Outcome.NO_ACTION, "already_running", "it runs already")

    bench.services.catalogue["scripted_start"] = Idle(bench.world)  # type: ignore[index]
    command = stopped(bench)
    bench.world.spawn(1)
    undo = bench.command("scripted_start", undo_of=command.command_id, target=None)
    bench.send(undo)
    bench.settle()
    bench.effect_watch.step()
    assert alarms(bench) == [EFFECT_LOST]
    (alarm,) = [result for result in bench.results(command.command_id) if result.alarm]
    assert undo.command_id in alarm.message
    assert "it runs already" in alarm.message
    again = bench.command("scripted_start", undo_of=command.command_id, target=None)
    bench.send(again)
    bench.settle()
    assert bench.results(again.command_id)[-1].code == "scripted_start_error_nothing_to_revert"
    check_all(bench.observation())


def test_an_effect_that_cannot_be_checked_is_reported_once_and_hides_no_other(bench: NodeBench) -> None:
    bench.world.spawn(2)
    unreadable, other = stopped(bench), bench.command("scripted_stop", 2)
    bench.send(other)
    bench.settle()
    with bench.journal.begin() as tx:
        entry = tx.entry(unreadable.command_id)
        assert entry is not None
        tx.put(replace(entry, claim={"of_another_version": 1}))
    bench.world.spawn(2)
    for _ in range(3):
        bench.effect_watch.step()
    assert alarms(bench) == [EFFECT_LOST]
    lines = [fields for _, event, fields in bench.telemetry.lines if event == "effect_unchecked"]
    assert [(line["execution_id"], line["reason"]) for line in lines] == [(unreadable.command_id, "claim_unreadable")]
    (audited,) = bench.audit("effect_unchecked")
    assert (audited.execution_id, audited.detail["reason"]) == (unreadable.command_id, "claim_unreadable")


def test_an_action_that_this_version_lacks_is_reported(bench: NodeBench) -> None:
    command = stopped(bench)
    del bench.services.catalogue["scripted_stop"]  # type: ignore[attr-defined]
    bench.effect_watch.step()
    bench.settle()
    (audited,) = bench.audit("effect_unchecked")
    assert (audited.execution_id, audited.detail["reason"]) == (command.command_id, "unsupported")


def test_a_runtime_that_does_not_answer_is_asked_once_in_a_look_and_hides_no_other(bench: NodeBench) -> None:
    class OfRuntime(ScriptedStop):
        """Each target is in a runtime: the odd ones in one that hangs."""

        name = "scripted_stop"
        claims = (RuntimeClaim,)
        asked: ClassVar[list[int]] = []

        def bind(self, job: Job[ScriptedParameters], host: Host) -> ScriptedClaim:
            claim = super().bind(job, host)
            return RuntimeClaim(claim.number, claim.incarnation, ("docker", "hung")[claim.number % 2])

        def lost(self, effect: Effect[ScriptedClaim], host: Host) -> str:
            self.asked.append(effect.claim.number)
            if effect.claim.number % 2:
                raise TransientFailure("no answer within 10 s")
            return ""

    bench.services.catalogue["scripted_stop"] = OfRuntime(bench.world)  # type: ignore[index]
    for number in range(1, 7):
        bench.world.spawn(number)
        bench.send(bench.command("scripted_stop", number))
    bench.settle()
    tried = set()
    for _ in range(6):
        OfRuntime.asked.clear()
        bench.effect_watch.step()
        (hung,) = [number for number in OfRuntime.asked if number % 2]
        assert sorted({*OfRuntime.asked} - {hung}) == [2, 4, 6]
        tried.add(hung)
    assert tried == {1, 3, 5}
    assert bench.audit("effect_unchecked") == []


def test_only_actions_that_can_lose_their_effect_are_watched(bench: NodeBench) -> None:
    assert bench.results(stopped(bench, "scripted_kill").command_id)[-1].outcome is Outcome.COMPLETED
    bench.world.spawn(1)
    bench.effect_watch.step()
    assert (bench.world.looked, alarms(bench)) == (0, [])
