"""kill_process on a scripted process table: what it kills, what it leaves alone, what it reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.failpoints import Crash
from tests.fakes.processes import TICK_NS, FakeProcess
from tests.process_bench import PERSON, RULE, SECOND, World
from workers.actions.base import Done, NotDone, Pending
from workers.actions.kill_process import KillProcess
from workers.domain.errors import CommandRejected, PermanentFailure
from workers.domain.event import ProcessRef
from workers.domain.outcome import Outcome
from workers.domain.request import Actor
from workers.domain.target import ContainerTarget, ProcessTarget


@pytest.fixture
def world() -> World:
    return World(KillProcess())


def _pid(process: FakeProcess) -> int:
    return process.facts.pid


def test_the_events_process_is_killed_and_the_report_proves_it(world: World) -> None:
    miner = world.miner()
    report = world.run(world.job(world.event(_pid(miner))))
    assert not miner.alive
    assert report.outcome is Outcome.COMPLETED
    assert report.code == "kill_process_success_killed"
    assert report.post_condition is not None
    assert report.post_condition.holds
    assert report.outputs == {
        "pid": _pid(miner),
        "started_at": miner.facts.started_at_ns,
        "exe": "/tmp/xmrig",
        "name": "xmrig",
        "command_line": "/tmp/xmrig --donate-level 0",
        "user_id": 1000,
        "container_init": False,
        "identity": "pid_before_event",
        "killed": 1,
        "left": 0,
        "others": "",
    }
    assert all(handle.closed for handle in world.processes.handles)


def test_a_second_run_finds_nothing_to_do(world: World) -> None:
    target = world.event(_pid(world.miner()))
    world.run(world.job(target))
    again = world.run(world.job(target))
    assert (again.outcome, again.code) == (Outcome.NO_ACTION, "kill_process_success_target_gone")


def test_another_process_that_gets_the_pid_after_the_event_is_left_alone(world: World) -> None:
    target = world.event(_pid(world.miner()))
    world.clock.advance(1)
    innocent = world.processes.spawn(pid=target.line[0].pid)
    report = world.run(world.job(target))
    assert innocent.alive
    assert report.outcome is Outcome.NO_ACTION
    assert "belongs to a process that started at" in report.message


def test_another_process_that_gets_the_pid_between_claim_and_kill_is_left_alone(world: World) -> None:
    miner = world.miner()
    job = world.job(world.event(_pid(miner)))
    action = KillProcess()
    claim = action.bind(job, world.host)
    innocent = world.processes.spawn(pid=_pid(miner))
    assert action.execute(job, claim, world.host).outcome is Outcome.NO_ACTION
    assert innocent.alive


def test_a_process_of_another_boot_is_gone_with_it(world: World) -> None:
    miner = world.miner()
    report = world.run(world.job(world.event(_pid(miner), boot_id="another-boot")))
    assert report.outcome is Outcome.NO_ACTION
    assert miner.alive
    assert "boot" in report.message


def test_the_machine_was_restarted_between_claim_and_probe(world: World) -> None:
    miner = world.miner()
    job = world.job(world.event(_pid(miner)))
    claim = KillProcess().bind(job, world.host)
    world.processes.reboot("second-boot")
    same_ticks = world.processes.spawn(pid=_pid(miner), start_ticks=miner.facts.start_ticks, serial=miner.facts.serial)
    probe = KillProcess().probe(job, claim, world.host)
    assert isinstance(probe, Done)
    assert same_ticks.alive


def test_so_close_to_the_event_that_it_might_be_another_is_refused(world: World) -> None:
    young = world.processes.spawn()
    with pytest.raises(CommandRejected) as refusal:
        world.run(world.job(world.event(_pid(young))))
    assert refusal.value.reason == "identity_unclear"
    assert "proc.pid.ts" in refusal.value.message
    assert young.alive


def test_so_close_to_the_event_the_named_start_time_decides(world: World) -> None:
    young = world.processes.spawn()
    report = world.run(world.job(world.event(_pid(young), named_start_ns=world.clock.now_ns())))
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["identity"] == "start_time"


def test_a_start_time_that_falco_took_from_proc_is_no_reason_to_refuse(world: World) -> None:
    """For processes older than Falco, proc.pid.ts is when /proc was first looked at: long after the true start."""
    miner = world.miner()
    late = miner.facts.started_at_ns + 5 * SECOND
    assert world.run(world.job(world.event(_pid(miner), named_start_ns=late))).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("event", ["", "event-1"])
def test_a_bare_pid_of_a_person_binds_at_intake(world: World, event: str) -> None:
    miner = world.miner()
    target = ProcessTarget((ProcessRef(_pid(miner)),), observed_at_ns=world.clock.now_ns())
    report = world.run(world.job(target, actor=PERSON, event=event))
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["identity"] == ("pid_before_event" if event else "pid_at_intake")


def test_a_person_without_any_time_takes_the_holder_as_it_is(world: World) -> None:
    young = world.processes.spawn()
    report = world.run(world.job(ProcessTarget((ProcessRef(_pid(young)),), observed_at_ns=0), actor=PERSON, event=""))
    assert report.outputs["identity"] == "pid_at_intake"
    assert not young.alive


def test_a_rule_may_never_name_a_bare_pid(world: World) -> None:
    miner = world.miner()
    with pytest.raises(CommandRejected) as refusal:
        world.run(world.job(ProcessTarget((ProcessRef(_pid(miner)),), observed_at_ns=0)))
    assert refusal.value.reason == "identity_missing"
    assert miner.alive


@pytest.mark.parametrize(("actor", "event"), [(RULE, "event-1"), (PERSON, ""), (PERSON, "event-1")])
def test_a_sighting_in_the_future_proves_nothing_and_is_refused(world: World, actor: Actor, event: str) -> None:
    """A detector that computed its clock before the machine's was set back by eight hours."""
    miner = world.miner()
    target = ProcessTarget((ProcessRef(_pid(miner)),), observed_at_ns=world.clock.now_ns() + 8 * 3600 * SECOND)
    with pytest.raises(CommandRejected) as refusal:
        world.run(world.job(target, actor=actor, event=event))
    assert refusal.value.reason == "identity_unclear"
    assert "clock" in refusal.value.message
    assert miner.alive


@pytest.mark.parametrize("ticks_off", [-2, -1, 0, 1, 2])
def test_a_persons_start_time_is_right_to_two_ticks(world: World, ticks_off: int) -> None:
    miner = world.miner()
    named = miner.facts.started_at_ns + ticks_off * TICK_NS
    target = world.event(_pid(miner), named_start_ns=named)
    report = world.run(world.job(target, actor=PERSON, event=""))
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["identity"] == "start_time"


def test_a_command_that_names_an_earlier_start_finds_the_target_gone(world: World) -> None:
    miner = world.miner()
    target = world.event(_pid(miner), named_start_ns=miner.facts.started_at_ns - 2 * SECOND)
    assert world.run(world.job(target, actor=PERSON, event="")).outcome is Outcome.NO_ACTION
    assert miner.alive


@pytest.mark.parametrize("away_ns", [SECOND, -SECOND // 2])
def test_a_command_that_names_another_start_is_refused_with_the_true_one(world: World, away_ns: int) -> None:
    """A later one; or one cut to a second, as ps and psutil compute it: calling that target gone would be a lie."""
    miner = world.miner()
    target = world.event(_pid(miner), named_start_ns=miner.facts.started_at_ns + away_ns)
    with pytest.raises(CommandRejected) as refusal:
        world.run(world.job(target, actor=PERSON, event=""))
    assert refusal.value.reason == "start_time_mismatch"
    assert str(miner.facts.started_at_ns) in refusal.value.message
    assert miner.alive


def test_an_ancestor_is_killed_and_its_child_is_not(world: World) -> None:
    shell = world.miner(exe="/bin/dash", name="sh")
    child = world.miner(parent_pid=_pid(shell))
    report = world.run(world.job(world.event(_pid(child), _pid(shell)), ancestor=1))
    assert report.outputs["pid"] == _pid(shell)
    assert (shell.alive, child.alive) == (False, True)


def test_an_unknown_ancestor_is_refused_with_advice(world: World) -> None:
    miner = world.miner()
    with pytest.raises(CommandRejected) as refusal:
        world.run(world.job(world.event(_pid(miner)), ancestor=1))
    assert refusal.value.reason == "ancestor_unknown"
    assert "append_output" in refusal.value.message
    assert miner.alive


@pytest.mark.parametrize("target", [ContainerTarget("0" * 64, 1), ProcessTarget((), 1), None])
def test_a_target_that_is_no_process_is_refused(world: World, target: Any) -> None:
    job = world.job(target)
    assert KillProcess().serial_key(job)
    with pytest.raises(CommandRejected) as refusal:
        KillProcess().admit(job, world.host)
    assert refusal.value.reason == "invalid_target"


def test_two_events_about_one_process_run_one_after_the_other(world: World) -> None:
    child, shell = 5001, 5000
    by_child = world.job(world.event(child, shell), ancestor=1)
    by_itself = world.job(world.event(shell))
    assert KillProcess().serial_key(by_child) == KillProcess().serial_key(by_itself)


def test_a_protected_process_is_refused_before_anything_is_touched(world: World) -> None:
    worker = world.miner(pid=900)
    with pytest.raises(CommandRejected) as refusal:
        world.run(world.job(world.event(_pid(worker))))
    assert refusal.value.reason == "protected_target"
    assert worker.signals == []


@pytest.mark.parametrize(
    "disguise",
    [
        {"name": "sshd", "command_line": "sshd: root@pts/0"},
        {"exe": "/usr/sbin/sshd"},
        {"exe": "", "name": "", "command_line": ""},
        {"exe": "/tmp/x (deleted)"},
        {"name": "a) S 1 (b\n", "command_line": "\\n" * 400},
        {"cgroup": "/system.slice/douse.service"},
        {"state": "T"},
        {"state": "Z", "exe": ""},
        {"uid": 0},
        {"parent_pid": 900},
    ],
)
def test_nothing_that_the_target_can_write_about_itself_saves_it(world: World, disguise: dict[str, Any]) -> None:
    miner = world.miner()
    job = world.job(world.event(_pid(miner)))
    action = KillProcess()
    action.admit(job, world.host)
    claim = action.bind(job, world.host)
    miner.facts = replace(miner.facts, **disguise)
    assert action.execute(job, claim, world.host).outcome is Outcome.COMPLETED
    assert not miner.alive
    disguised = world.miner(**disguise)
    assert world.run(world.job(world.event(_pid(disguised)))).outcome is Outcome.COMPLETED


def test_executing_another_program_before_the_kill_changes_nothing(world: World) -> None:
    miner = world.miner()
    target = world.event(_pid(miner))
    miner.exec("/usr/bin/sleep", command_line="sleep 1", trusted=True)
    assert world.run(world.job(target)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("hold", ["freeze", "stick"])
def test_a_kill_that_has_to_wait_is_unknown_until_it_is_taken(world: World, hold: str) -> None:
    miner = world.miner()
    job = world.job(world.event(_pid(miner)))
    getattr(miner, hold)()
    action = KillProcess()
    claim = action.bind(job, world.host)
    report = action.execute(job, claim, world.host)
    assert (report.outcome, report.code) == (Outcome.UNKNOWN, "kill_process_error_kill_pending")
    assert report.post_condition is not None
    assert not report.post_condition.holds
    assert isinstance(action.probe(job, claim, world.host), Pending)
    miner.thaw() if hold == "freeze" else miner.unstick()
    probe = action.probe(job, claim, world.host)
    assert isinstance(probe, Done)
    assert probe.report.outcome is Outcome.COMPLETED
    assert probe.report.cause == "unproven"


def test_the_wait_ends_with_the_jobs_deadline(world: World) -> None:
    miner = world.miner()
    miner.freeze()
    job = replace(world.job(world.event(_pid(miner))), deadline_ns=world.clock.now_ns() + SECOND)
    assert world.run(job).outcome is Outcome.UNKNOWN
    assert world.clock.slept == [1.0]


def test_a_crash_after_the_signal_is_settled_by_the_probe_and_nothing_is_killed_twice(world: World) -> None:
    miner = world.miner()
    job = world.job(world.event(_pid(miner)))
    action = KillProcess()
    claim = action.bind(job, world.host)
    world.failpoints.arm("kill_process.signalled")
    with pytest.raises(Crash):
        action.execute(job, claim, world.host)
    innocent = world.processes.spawn(pid=_pid(miner))
    probe = action.probe(job, claim, world.host)
    assert isinstance(probe, Done)
    assert (probe.report.outcome, probe.report.cause) == (Outcome.COMPLETED, "unproven")
    assert innocent.alive


def test_a_crash_before_the_signal_is_settled_by_killing_again(world: World) -> None:
    miner = world.miner()
    job = world.job(world.event(_pid(miner)))
    action = KillProcess()
    claim = action.bind(job, world.host)
    assert isinstance(action.probe(job, claim, world.host), NotDone)
    miner.freeze()
    assert isinstance(action.probe(job, claim, world.host), NotDone), "frozen, but no SIGKILL waits yet"
    miner.thaw()
    assert action.execute(job, claim, world.host).outcome is Outcome.COMPLETED


def test_a_set_clock_between_claim_and_probe_changes_nothing(world: World) -> None:
    miner = world.miner(serial=0)
    job = world.job(world.event(_pid(miner)))
    claim = KillProcess().bind(job, world.host)
    miner.facts = replace(miner.facts, started_at_ns=miner.facts.started_at_ns + 90 * SECOND)
    assert isinstance(KillProcess().probe(job, claim, world.host), NotDone)


def test_what_was_gone_at_the_claim_stays_gone(world: World) -> None:
    target = world.event(4999)
    job = world.job(target)
    claim = KillProcess().bind(job, world.host)
    probe = KillProcess().probe(job, claim, world.host)
    assert isinstance(probe, Done)
    assert probe.report.outcome is Outcome.NO_ACTION
    assert probe.report.outputs == {"pid": 4999}


def test_without_permission_it_fails_with_the_reason(world: World) -> None:
    miner = world.miner()
    miner.permitted = False
    with pytest.raises(PermanentFailure) as failure:
        world.run(world.job(world.event(_pid(miner))))
    assert failure.value.reason == "permission"
    assert all(handle.closed for handle in world.processes.handles)


def test_a_containers_init_is_flagged_because_it_may_come_back(world: World) -> None:
    init = world.miner(namespace_pid=1, cgroup="/system.slice/docker-" + "a" * 64 + ".scope")
    report = world.run(world.job(world.event(_pid(init))))
    assert report.outputs["container_init"] is True
    assert "restart policy" in report.message


def test_a_dry_run_reports_what_would_die_and_touches_nothing(world: World) -> None:
    miner = world.miner()
    job = world.job(world.event(_pid(miner)))
    report = KillProcess().dry_run_report(job, KillProcess().bind(job, world.host), world.host)
    assert report.outcome is Outcome.DRY_RUN
    assert "would kill process" in report.message
    gone = world.job(world.event(4999))
    assert (
        "would do nothing"
        in KillProcess().dry_run_report(gone, KillProcess().bind(gone, world.host), world.host).message
    )
    assert world.processes.effects == 0


def test_long_texts_are_cut_to_what_the_api_carries(world: World) -> None:
    miner = world.miner(command_line="x" * 10_000)
    report = world.run(world.job(world.event(_pid(miner))))
    assert len(str(report.outputs["command_line"])) == 512
