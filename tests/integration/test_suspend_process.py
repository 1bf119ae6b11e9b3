"""suspend_process and resume_process against the real kernel: who resists, who can't stop yet, who is left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adversaries.programs import shapeshifter, started_in_c
from tests.adversaries.stuck_call import StuckCall
from tests.detections import Order, falco_json, target_in, this_machine
from tests.victims import Freezer, Unit, Victims, await_state, in_a_child, state_of, victims, wait_until
from workers.actions.base import Done, Effect, NotDone
from workers.actions.suspend_process import ResumeProcess, SuspendProcess
from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome, Report
from workers.host.ports import Host
from workers.system.failpoints import KILLED, ArmedFailpoints

ROUNDS = 10
NOBODY = 65_534
LOOK_S = 0.1
"""How long something is watched that must not move."""


@pytest.fixture
def started() -> Iterator[Victims]:
    with victims() as made:
        yield made


@pytest.fixture(scope="module")
def host() -> Host:
    return this_machine()


def _order(host: Host, pid: int) -> Order:
    time.sleep(0.03)  # an event names processes that have lived for longer than its clock error
    return Order(host, target_in(falco_json(pid)), action=SuspendProcess())


def _undo(order: Order, report: Report) -> Order:
    return Order(order.host, order.target, action=ResumeProcess(), undoes=Effect(order.claim, report.outputs))


def _lost(order: Order, report: Report) -> str:
    return SuspendProcess().lost(Effect(order.claim, report.outputs), order.host)


def _threads(pid: int) -> set[str]:
    """The states of all its threads."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.add(task.joinpath("stat").read_bytes().rpartition(b")")[2].split()[0].decode("ascii"))
    return found


def test_a_suspended_process_stands_still_and_goes_on_where_it_stood(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    pid = started.python(
        "import sys, time\nn = 0\nprint(flush=True)\n"
        "while True:\n    n += 1\n    open(sys.argv[1], 'w').write(str(n)); time.sleep(0.001)",
        str(counter),
    )
    order = _order(host, pid)
    report = order.run()
    assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
    assert state_of(pid) == "T"
    stood = counter.read_text("ascii")
    time.sleep(LOOK_S)
    assert counter.read_text("ascii") == stood
    assert _lost(order, report) == ""
    undone = _undo(order, report).run()
    assert (undone.outcome, undone.code) == (Outcome.COMPLETED, "resume_process_success_resumed")
    wait_until(lambda: int(counter.read_text("ascii") or 0) > int(stood or 0))
    assert "was continued" in _lost(order, report)


def test_all_threads_are_stopped(host: Host, started: Victims) -> None:
    pid = started.python(
        "import threading, time\n"
        "for _ in range(20): threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()\n"
        "print(flush=True); time.sleep(1000)"
    )
    report = _order(host, pid).run()
    assert report.outcome is Outcome.COMPLETED
    assert _threads(pid) == {"T"}
    assert "threads in state T: 21" in report.message


# --- whatever it does to itself, it stops -----------------------------------------------------------------------------


def test_a_target_that_executes_renames_and_rewrites_itself_all_the_time_is_suspended(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    arguments, names = shapeshifter(tmp_path), set()
    for _ in range(ROUNDS):
        pid = started.spawn(arguments, stdout=subprocess.PIPE)
        started.read_line(pid)
        report = _order(host, pid).run()
        assert report.outcome is Outcome.COMPLETED, report
        before = Path(f"/proc/{pid}/comm").read_bytes()
        time.sleep(0.01)
        assert (state_of(pid), Path(f"/proc/{pid}/comm").read_bytes()) == ("T", before)
        names.add(report.outputs["name"])
    assert len(names) > 1, "it did not change its shape"


def test_a_target_that_executes_from_another_thread_all_the_time_is_suspended(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    """The thread that executes takes the main thread's place in the very moment that it is looked at."""
    for _ in range(ROUNDS):
        pid = started_in_c("relay", into=tmp_path, victims=started)
        started.read_line(pid)
        order = _order(host, pid)
        report = order.run()
        assert report.outcome is Outcome.COMPLETED, report
        assert _threads(pid) <= {"T", "D"}
        assert _lost(order, report) == ""


def test_a_main_thread_that_waits_for_its_vforked_child_is_no_shield_for_the_others(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    """A stop signal to the process would wait for the main thread for ever, while the other one works."""
    counter = tmp_path / "counter"
    pid = started_in_c("shielded", str(counter), into=tmp_path, victims=started)
    started.read_line(pid)
    await_state(pid, "D")
    try:
        order = _order(host, pid)
        report = order.run()
        assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
        assert "held in a call that nothing interrupts" in report.message
        stood = counter.read_bytes()
        time.sleep(LOOK_S)
        assert counter.read_bytes() == stood
        assert _lost(order, report) == ""
        assert _undo(order, report).run().outcome is Outcome.COMPLETED
        wait_until(lambda: counter.read_bytes() != stood)
    finally:
        os.killpg(pid, signal.SIGKILL)


def test_a_target_whose_main_thread_has_ended_is_suspended(host: Host, started: Victims, tmp_path: Path) -> None:
    pid = started_in_c("headless", into=tmp_path, victims=started)
    started.read_line(pid)
    await_state(pid, "Z")
    order = _order(host, pid)
    report = order.run()
    assert report.outcome is Outcome.COMPLETED
    assert _threads(pid) == {"Z", "T"}
    assert _undo(order, report).run().outcome is Outcome.COMPLETED
    wait_until(lambda: _threads(pid) == {"Z", "S"})


@pytest.mark.parametrize(
    "disguise",
    ["prctl(15, b'sshd', 0, 0, 0)", "prctl(15, b') T 1 1 (', 0, 0, 0)", "prctl(4, 0, 0, 0, 0)", "os.setsid()"],
    ids=["named sshd", "name that breaks /proc", "not dumpable", "a session of its own"],
)
def test_no_fact_that_the_target_can_write_saves_it(host: Host, started: Victims, disguise: str) -> None:
    pid = started.python(
        "import ctypes, os, signal, time; prctl = ctypes.CDLL(None).prctl\n"
        f"[signal.signal(n, signal.SIG_IGN) for n in (18, 20, 21, 22)]\n{disguise}\nprint(flush=True)\ntime.sleep(1000)"
    )
    assert _order(host, pid).run().outcome is Outcome.COMPLETED
    assert state_of(pid) == "T"


# --- tracers, frozen cgroups, calls that nothing interrupts -----------------------------------------------------------


@pytest.mark.fault("ptrace")
def test_a_tracer_that_keeps_the_signal_from_it_is_named_as_the_reason(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    tracer = started_in_c("traced", "swallow", into=tmp_path, victims=started)
    pid = int(started.read_line(tracer))
    try:
        order = _order(host, pid)
        with pytest.raises(TransientFailure) as failure:
            order.run()
        assert failure.value.reason == "runs_on"
        assert "tracer" in failure.value.message
        assert isinstance(order.probe(), NotDone)
    finally:
        os.killpg(tracer, signal.SIGKILL)


@pytest.mark.fault("ptrace")
def test_a_process_that_its_tracer_holds_is_reported_as_held_by_its_tracer(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    tracer = started_in_c("traced", "hold", into=tmp_path, victims=started)
    pid = int(started.read_line(tracer))
    try:
        order = _order(host, pid)
        report = order.run()
        assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
        assert "state t" in report.message
        assert state_of(pid) == "t"
        assert _lost(order, report) == ""
    finally:
        os.killpg(tracer, signal.SIGKILL)


def test_a_frozen_target_is_stopped_when_it_is_thawed(host: Host, started: Victims) -> None:
    pid = started.spawn()
    freezer = Freezer()
    try:
        freezer.freeze(pid)
        order = _order(host, pid)
        report = order.run()
        assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
        assert "frozen cgroup" in report.message
        assert _lost(order, report) == ""
        freezer.thaw()
        await_state(pid, "T")
        assert _lost(order, report) == ""
    finally:
        freezer.thaw()
        started.end(pid)
        freezer.close()


def test_a_target_frozen_by_cgroups_version_2_is_suspended_and_stays_so_when_it_is_thawed(
    host: Host, started: Victims
) -> None:
    unit = Unit("miner")
    try:
        pid = started.spawn()
        unit.take(pid)
        unit.freeze()
        order = _order(host, pid)
        report = order.run()
        assert report.outcome is Outcome.COMPLETED
        unit.thaw()
        await_state(pid, "T")
        assert _lost(order, report) == ""
    finally:
        started.close()
        unit.close()


def test_a_target_in_a_call_that_nothing_interrupts_stops_when_the_call_returns(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    stuck = StuckCall(tmp_path)
    try:
        pid = started.spawn(["cat", str(stuck.path)], stderr=subprocess.DEVNULL)
        stuck.take_look_up()
        order = _order(host, pid)
        report = order.run()
        assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
        assert "state D" in report.message
        assert state_of(pid) == "D"
        stuck.let_go()
        await_state(pid, "T")
        assert _lost(order, report) == ""
    finally:
        stuck.let_go()
        stuck.close()


def test_a_process_of_another_pid_namespace_is_suspended_by_its_pid_on_this_host(
    host: Host, started: Victims, require: Callable[..., None]
) -> None:
    require("root", "a pid namespace needs root")
    require("unshare", "it makes the pid namespace")
    outer = started.spawn(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "sleep 1000 & wait"])
    children = Path(f"/proc/{outer}/task/{outer}/children")
    wait_until(lambda: bool(children.read_text("ascii").split()))
    init = int(children.read_text("ascii").split()[0])
    inner = Path(f"/proc/{init}/task/{init}/children")
    wait_until(lambda: bool(inner.read_text("ascii").split()))
    sleeper = int(inner.read_text("ascii").split()[0])
    for pid, is_init in ((sleeper, False), (init, True)):
        report = _order(host, pid).run()
        assert report.outcome is Outcome.COMPLETED
        assert report.outputs["container_init"] is is_init
        assert state_of(pid) == "T"


# --- what is not ours, and what has ended -----------------------------------------------------------------------------


def test_what_stopped_itself_for_the_moment_of_our_look_is_not_lost_sight_of(host: Host, started: Victims) -> None:
    pid = started.spawn()
    os.kill(pid, signal.SIGSTOP)
    await_state(pid, "T")
    order = _order(host, pid)
    report = order.run()
    assert (report.outcome, report.code) == (Outcome.NO_ACTION, "suspend_process_success_already_suspended")
    assert report.effect_holds
    assert state_of(pid) == "T"
    assert _lost(order, report) == ""
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: state_of(pid) == "S")
    assert "was continued" in _lost(order, report)


def test_whoever_lets_it_go_on_is_noticed(host: Host, started: Victims) -> None:
    pid = started.spawn()
    order = _order(host, pid)
    report = order.run()
    assert _lost(order, report) == ""
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: state_of(pid) == "S")
    assert "was continued" in _lost(order, report)
    started.kill_unreaped(pid)
    assert "has ended" in _lost(order, report)


def test_an_undo_never_lets_another_holder_of_the_pid_go_on(
    host: Host, started: Victims, require: Callable[..., None]
) -> None:
    require("root", "only root may choose the next pid (ns_last_pid)")
    pid = started.spawn()
    order = _order(host, pid)
    report = order.run()
    started.end(pid)
    assert started.reuse(pid) == pid
    os.kill(pid, signal.SIGSTOP)
    await_state(pid, "T")
    with pytest.raises(CommandRejected) as refusal:
        _undo(order, report).run()
    assert refusal.value.reason == "nothing_to_revert"
    assert state_of(pid) == "T"
    assert "has ended" in _lost(order, report)


def test_a_process_that_ended_needs_no_stopping(host: Host, started: Victims) -> None:
    pid = started.spawn()
    order = _order(host, pid)
    started.kill_unreaped(pid)
    report = order.run()
    assert (report.outcome, report.code) == (Outcome.NO_ACTION, "suspend_process_success_target_gone")


@pytest.mark.parametrize("protected", [os.getpid, os.getppid, lambda: 1, lambda: 2], ids=["self", "parent", "1", "2"])
def test_a_protected_process_is_refused(host: Host, protected: Callable[[], int]) -> None:
    with pytest.raises(CommandRejected) as refusal:
        _order(host, protected()).run()
    assert refusal.value.reason == "protected_target"
    assert state_of(protected()) != "T"


def test_a_copy_of_a_services_program_is_suspended(host: Host, started: Victims, tmp_path: Path) -> None:
    shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "sshd")
    assert _order(host, started.spawn([str(tmp_path / "sshd"), "1000"])).run().outcome is Outcome.COMPLETED


def test_without_the_right_to_signal_it_fails_and_says_what_to_do(
    host: Host, started: Victims, require: Callable[..., None]
) -> None:
    require("root", "it gives root up for a moment")
    pid = started.spawn()
    order = _order(host, pid)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        with pytest.raises(PermanentFailure) as failure:
            order.run()
    finally:
        os.setresuid(0, 0, 0)
    assert failure.value.reason == "permission"
    assert state_of(pid) == "S"


@pytest.mark.parametrize("place", ["suspend_process.signalled", "resume_process.signalled"])
def test_a_worker_that_dies_right_after_the_signal_finds_the_effect_by_probing(
    host: Host, started: Victims, place: str
) -> None:
    pid = started.spawn()
    order = _order(host, pid)
    order.bind()
    if place.startswith("resume"):
        order = _undo(order, order.execute())
        order.bind()
    dying = replace(order, host=replace(host, failpoints=ArmedFailpoints({place: ("kill", 1)})))
    assert isinstance(order.probe(), NotDone)
    assert in_a_child(lambda: print(dying.execute())) == KILLED
    wait_until(lambda: isinstance(order.probe(), Done))
    settled = order.probe()
    assert isinstance(settled, Done)
    assert (settled.report.outcome, settled.report.cause) == (Outcome.COMPLETED, "unproven")
    await_state(pid, "T" if place.startswith("suspend") else "S")
