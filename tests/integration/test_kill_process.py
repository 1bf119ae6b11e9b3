"""kill_process against the real kernel: who resists, who hides, who can't be ended, and who must not be."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adversaries.programs import shapeshifter, started_in_c
from tests.adversaries.stuck_call import StuckCall
from tests.components import require as require_component
from tests.detections import Kill, falco_json, target_in, this_machine
from tests.victims import Freezer, Unit, Victims, await_state, in_a_child, state_of, victims, wait_until
from workers.actions.base import Done, Pending
from workers.domain.errors import CommandRejected, PermanentFailure
from workers.domain.outcome import Outcome, Report
from workers.host.ports import Host
from workers.host.processes.executable import executable
from workers.system.failpoints import KILLED, ArmedFailpoints

ROUNDS = 30
NOBODY = 65_534


@pytest.fixture
def started() -> Iterator[Victims]:
    with victims() as made:
        yield made


@pytest.fixture(scope="module")
def host() -> Host:
    return this_machine()


def _settle() -> None:
    """An event names processes that have lived for longer than its clock error."""
    time.sleep(0.03)


def _kill(host: Host, pid: int) -> Report:
    _settle()
    return Kill(host, target_in(falco_json(pid))).run()


def test_the_process_that_the_alert_names_is_dead_when_the_report_says_so(host: Host, started: Victims) -> None:
    pid = started.spawn()
    report = _kill(host, pid)
    assert report.outcome is Outcome.COMPLETED
    assert state_of(pid) in {"Z", ""}
    assert report.outputs["pid"] == pid
    assert report.outputs["identity"] == "pid_before_event"


def test_a_process_a_millisecond_old_is_killed_where_the_detector_tells_its_start(host: Host, started: Victims) -> None:
    pid = started.spawn()
    handle = host.processes.open(pid)
    assert handle is not None
    start_ns = handle.facts.started_at_ns + handle.facts.start_grain_ns
    handle.close()
    assert Kill(host, target_in(falco_json(pid, start_ns=start_ns))).run().outcome is Outcome.COMPLETED


def test_the_parent_is_killed_by_the_ancestor_parameter(host: Host, started: Victims) -> None:
    shell = started.python(
        "import subprocess, sys; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); sys.stdin.readline()"
    )
    child = next(int(entry) for entry in Path(f"/proc/{shell}/task/{shell}/children").read_text("ascii").split())
    _settle()
    try:
        report = Kill(host, target_in(falco_json(child, parent_pid=shell)), ancestor=1).run()
        assert report.outcome is Outcome.COMPLETED
        assert report.outputs["pid"] == shell
        assert state_of(child) == "S"
    finally:
        os.kill(child, signal.SIGKILL)


# --- whatever it does to itself, it dies ------------------------------------------------------------------------------


def test_a_target_that_executes_renames_and_rewrites_itself_all_the_time_is_killed(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    shapes = set()
    arguments = shapeshifter(tmp_path)
    for _ in range(ROUNDS):
        pid = started.spawn(arguments, stdout=subprocess.PIPE)
        started.read_line(pid)
        report = _kill(host, pid)
        assert report.outcome is Outcome.COMPLETED, report
        assert state_of(pid) in {"Z", ""}
        shapes.add((report.outputs["name"], report.outputs["exe"]))
    assert len(shapes) > 1, "it did not change its shape"


def test_a_target_that_executes_from_another_thread_all_the_time_is_killed(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    """The thread that executes takes the main thread's place in the very moment that it is looked at."""
    for _ in range(ROUNDS):
        pid = started_in_c("relay", into=tmp_path, victims=started)
        started.read_line(pid)
        assert _kill(host, pid).outcome is Outcome.COMPLETED
        assert state_of(pid) in {"Z", ""}


def test_a_stopped_target_is_killed(host: Host, started: Victims) -> None:
    pid = started.spawn()
    os.kill(pid, signal.SIGSTOP)
    await_state(pid, "T")
    assert _kill(host, pid).outcome is Outcome.COMPLETED


def test_a_target_whose_main_thread_has_ended_is_killed(host: Host, started: Victims, tmp_path: Path) -> None:
    pid = started_in_c("headless", into=tmp_path, victims=started)
    started.read_line(pid)
    await_state(pid, "Z")
    assert started.alive(pid)
    assert _kill(host, pid).outcome is Outcome.COMPLETED
    wait_until(lambda: not started.alive(pid))


def test_a_target_that_waits_for_its_vforked_child_is_killed(host: Host, started: Victims, tmp_path: Path) -> None:
    """Its state says D, but this wait is one that SIGKILL ends."""
    pid = started_in_c("vforker", into=tmp_path, victims=started)
    started.read_line(pid)
    await_state(pid, "D")
    child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii"))
    try:
        assert _kill(host, pid).outcome is Outcome.COMPLETED
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    "disguise",
    [
        "prctl(15, b'sshd', 0, 0, 0)",
        "prctl(15, b'[kworker/0:1]', 0, 0, 0)",
        "prctl(15, b') R 1 1 (\\n', 0, 0, 0)",
        "prctl(4, 0, 0, 0, 0)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid()",
        "os.nice(-5) if os.geteuid() == 0 else None",
        "os.closerange(3, 64)",
    ],
    ids=[
        "named sshd",
        "named like a kernel thread",
        "name that breaks /proc",
        "not dumpable",
        "ignores",
        "nice",
        "fds",
    ],
)
def test_no_fact_that_the_target_can_write_saves_it(host: Host, started: Victims, disguise: str) -> None:
    pid = started.python(
        "import ctypes, os, signal, time; prctl = ctypes.CDLL(None).prctl\n"
        f"{disguise}\nprint(flush=True)\ntime.sleep(1000)",
        "--password=hunter2",
    )
    report = _kill(host, pid)
    assert report.outcome is Outcome.COMPLETED
    assert "hunter2" not in str(report)


@pytest.mark.parametrize("argv0", ["sshd: root@pts/0", "/usr/lib/systemd/systemd-journald", "", "x" * 100_000])
def test_no_argument_vector_saves_it(host: Host, started: Victims, argv0: str) -> None:
    assert _kill(host, started.spawn([argv0, "1000"], executable=shutil.which("sleep"))).outcome is Outcome.COMPLETED


def test_a_deleted_executable_saves_nobody(host: Host, started: Victims, tmp_path: Path) -> None:
    program = tmp_path / "miner"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    pid = started.spawn([str(program), "1000"])
    program.unlink()
    report = _kill(host, pid)
    assert report.outcome is Outcome.COMPLETED
    assert str(report.outputs["exe"]).endswith("(deleted)")


def test_an_executable_without_a_file_saves_nobody(host: Host, started: Victims) -> None:
    pid = started.python(
        "import os; fd = os.memfd_create('sshd');"
        "os.write(fd, open('/bin/sleep', 'rb').read()); print(flush=True);"
        "os.execv(f'/proc/self/fd/{fd}', ['sshd', '1000'])"
    )
    wait_until(lambda: "memfd" in str(Path(f"/proc/{pid}/exe").readlink()))
    assert _kill(host, pid).outcome is Outcome.COMPLETED


def test_a_copy_under_a_services_path_in_mounts_of_its_own_saves_nobody(
    host: Host, started: Victims, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("root", "a mount namespace of one's own")
    require("unshare", "it makes the mount namespace")
    shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "sshd")
    pid = started.spawn(
        ["unshare", "--mount", "sh", "-c", f"mount --bind {tmp_path} /usr/sbin && exec /usr/sbin/sshd 1000"]
    )
    wait_until(lambda: str(Path(f"/proc/{pid}/exe").readlink()) == "/usr/sbin/sshd")
    report = _kill(host, pid)
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["exe"] == "/usr/sbin/sshd"


def test_a_cgroup_with_a_services_name_saves_nobody(host: Host, started: Victims, require: Callable[..., None]) -> None:
    require("root", "a cgroup needs root")
    root = next((path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if path.is_dir()), None)
    assert root is not None
    unit = root / f"sshd-{os.getpid()}.service"
    unit.mkdir()
    try:
        pid = started.spawn()
        (unit / "cgroup.procs").write_text(str(pid), encoding="ascii")
        assert _kill(host, pid).outcome is Outcome.COMPLETED
        started.end(pid)
    finally:
        unit.rmdir()


# --- what has ended, and what can't end yet ---------------------------------------------------------------------------


def test_a_zombie_needs_no_killing(host: Host, started: Victims) -> None:
    pid = started.spawn()
    _settle()
    target = target_in(falco_json(pid))
    started.kill_unreaped(pid)
    report = Kill(host, target).run()
    assert (report.outcome, report.code) == (Outcome.NO_ACTION, "kill_process_success_target_gone")


def test_a_frozen_target_is_pending_until_it_is_thawed(host: Host, started: Victims) -> None:
    pid = started.spawn()
    freezer = Freezer()
    try:
        freezer.freeze(pid)
        _settle()
        kill = Kill(host, target_in(falco_json(pid)), within_s=0.3)
        report = kill.run()
        assert (report.outcome, report.code) == (Outcome.UNKNOWN, "kill_process_error_kill_pending")
        assert "frozen" in report.message
        assert isinstance(kill.probe(), Pending)
        freezer.thaw()
        wait_until(lambda: isinstance(kill.probe(), Done))
        settled = kill.probe()
        assert isinstance(settled, Done)
        assert (settled.report.outcome, settled.report.cause) == (Outcome.COMPLETED, "unproven")
    finally:
        freezer.thaw()
        started.end(pid)
        freezer.close()


def test_a_target_frozen_by_cgroups_version_2_is_killed_at_once(host: Host, started: Victims) -> None:
    unit = Unit("miner")
    try:
        pid = started.spawn()
        unit.take(pid)
        unit.freeze()
        assert _kill(host, pid).outcome is Outcome.COMPLETED
        wait_until(lambda: not started.alive(pid))
    finally:
        started.close()
        unit.close()


def test_a_worker_that_dies_right_after_the_signal_finds_the_effect_by_probing(host: Host, started: Victims) -> None:
    pid = started.spawn()
    _settle()
    kill = Kill(host, target_in(falco_json(pid)))
    kill.bind()
    armed = ArmedFailpoints({"kill_process.signalled": ("kill", 1)})
    dying = Kill(replace(host, failpoints=armed), kill.target, claim=kill.claim)
    assert in_a_child(lambda: print(dying.execute())) == KILLED
    wait_until(lambda: isinstance(kill.probe(), Done))
    settled = kill.probe()
    assert isinstance(settled, Done)
    assert (settled.report.outcome, settled.report.cause) == (Outcome.COMPLETED, "unproven")


def test_a_target_in_a_call_that_nothing_interrupts_is_pending_until_the_call_returns(
    host: Host, started: Victims, tmp_path: Path
) -> None:
    stuck = StuckCall(tmp_path)
    try:
        pid = started.spawn(["cat", str(stuck.path)], stderr=subprocess.DEVNULL)
        stuck.take_look_up()
        _settle()
        kill = Kill(host, target_in(falco_json(pid)), within_s=0.3)
        report = kill.run()
        assert (report.outcome, report.code) == (Outcome.UNKNOWN, "kill_process_error_kill_pending")
        assert state_of(pid) == "D"
        assert isinstance(kill.probe(), Pending)
        stuck.let_go()
        wait_until(lambda: isinstance(kill.probe(), Done))
    finally:
        stuck.let_go()
        stuck.close()


def test_a_containers_init_is_killed_from_outside_and_flagged(
    host: Host, started: Victims, require: Callable[..., None]
) -> None:
    require("root", "a pid namespace needs root")
    require("unshare", "it makes the pid namespace")
    outer = started.spawn(["unshare", "--pid", "--fork", "--kill-child", "sleep", "1000"])
    children = Path(f"/proc/{outer}/task/{outer}/children")
    wait_until(lambda: bool(children.read_text("ascii").split()))
    init = int(children.read_text("ascii").split()[0])
    wait_until(lambda: str(Path(f"/proc/{init}/exe").readlink()).endswith("sleep"))
    report = _kill(host, init)
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["container_init"] is True


def test_a_process_of_another_pid_namespace_is_killed_by_its_pid_on_this_host(
    host: Host, started: Victims, require: Callable[..., None]
) -> None:
    require("root", "a pid namespace needs root")
    require("unshare", "it makes the pid namespace")
    outer = started.spawn(
        ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "sleep 1000 & echo; wait; exec sleep 1000"],
        stdout=subprocess.PIPE,
    )
    started.read_line(outer)
    init, sleeper = (int(pid) for pid in _line_below(outer))
    handle = host.processes.open(sleeper)
    assert handle is not None
    assert handle.facts.namespace_pid not in (1, sleeper)
    handle.close()
    report = _kill(host, sleeper)
    assert (report.outcome, report.outputs["container_init"]) == (Outcome.COMPLETED, False)
    assert state_of(init) in {"R", "S", "D"}


def _line_below(pid: int) -> list[str]:
    """The only child, its only child, and so on."""
    found: list[str] = []
    while below := Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
        found += below
        pid = int(below[0])
    return found


# --- what must not be killed ------------------------------------------------------------------------------------------


def _kernel_thread() -> int:
    children = Path("/proc/2/task/2/children")
    return int(children.read_text("ascii").split()[0]) if children.exists() else 2


@pytest.mark.parametrize(
    "protected",
    [os.getpid, os.getppid, lambda: 1, lambda: 2, _kernel_thread],
    ids=["self", "parent", "1", "2", "kworker"],
)
def test_a_protected_process_is_refused(host: Host, protected: Callable[[], int]) -> None:
    pid = protected()
    with pytest.raises(CommandRejected) as refusal:
        _kill(host, pid)
    assert refusal.value.reason == "protected_target"
    assert state_of(pid)


@pytest.fixture
def service(started: Victims) -> Iterator[tuple[Path, Unit]]:
    """A program that the host vouches for, under a service's name, and the unit it runs in."""
    require_component("root", "a program that is root's all the way up, and a cgroup")
    directory = Path(f"/usr/local/lib/douse-test-{os.getpid()}")
    directory.mkdir(mode=0o755)
    unit = Unit("sshd")
    try:
        shutil.copy(shutil.which("sleep") or "/bin/sleep", directory / "sshd")
        yield directory / "sshd", unit
    finally:
        started.close()
        unit.close()
        shutil.rmtree(directory)


def test_a_real_service_is_refused_whatever_it_calls_itself(
    host: Host, started: Victims, service: tuple[Path, Unit]
) -> None:
    program, unit = service
    pid = started.spawn(["kworker/0:1", "1000"], executable=str(program))
    unit.take(pid)
    with pytest.raises(CommandRejected) as refusal:
        _kill(host, pid)
    assert refusal.value.reason == "protected_target"
    assert "lets administrators in" in refusal.value.message
    assert started.alive(pid)
    program.unlink()
    with pytest.raises(CommandRejected):
        _kill(host, pid)


def test_what_the_service_started_is_killed_though_it_executes_the_same_program(
    host: Host, started: Victims, service: tuple[Path, Unit]
) -> None:
    program, unit = service
    unit.take(started.spawn([str(program), "1000"]))
    _settle()
    later = started.spawn([str(program), "1000"])
    unit.take(later)
    assert _kill(host, later).outcome is Outcome.COMPLETED


def test_a_user_who_executes_the_services_program_is_killed(
    host: Host, started: Victims, service: tuple[Path, Unit]
) -> None:
    program, _ = service
    assert _kill(host, started.spawn([str(program), "1000"], user=NOBODY)).outcome is Outcome.COMPLETED
    assert _kill(host, started.spawn([str(program), "1000"])).outcome is Outcome.COMPLETED, "nor is root outside a unit"


def test_whoever_shares_our_shell_but_is_not_our_ancestor_is_killed(host: Host, started: Victims) -> None:
    """The demo's malware lives in the shell's cgroup and session, beside the workers."""
    pid = started.spawn()
    assert Path(f"/proc/{pid}/cgroup").read_bytes() == Path("/proc/self/cgroup").read_bytes()
    assert _kill(host, pid).outcome is Outcome.COMPLETED


def test_without_the_right_to_signal_it_fails_and_says_what_to_do(
    host: Host, started: Victims, require: Callable[..., None]
) -> None:
    require("root", "it gives root up for a moment")
    pid = started.spawn()
    _settle()
    kill = Kill(host, target_in(falco_json(pid)))
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        with pytest.raises(PermanentFailure) as failure:
            kill.run()
    finally:
        os.setresuid(0, 0, 0)
    assert failure.value.reason == "permission"
    assert "CAP_KILL" in failure.value.message
    assert started.alive(pid)


def test_a_proc_that_hides_others_is_reported(started: Victims, require: Callable[..., None]) -> None:
    require("root", "a /proc of one's own")
    pid = started.spawn()
    assert in_a_child(lambda: _look_through_hidepid(pid)) == 0


def _look_through_hidepid(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x0002_0000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x4_4000, None) == 0  # MS_REC | MS_PRIVATE
    assert libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2") == 0
    host = this_machine()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)  # group 0 is exempt
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with pytest.raises(PermanentFailure) as failure:
        host.processes.open(pid)
    assert failure.value.reason == "facts_hidden"
    assert "hidepid" in failure.value.message


# --- whose word about an executable counts ----------------------------------------------------------------------------


def test_the_hosts_own_program_is_trusted_and_a_copy_is_not(started: Victims, tmp_path: Path) -> None:
    copy = tmp_path / "sleep"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", copy)
    own, copied = executable(started.spawn()), executable(started.spawn([str(copy), "1000"]))
    assert own.trusted
    assert not copied.trusted
    assert own.inode == (Path("/") / own.path).stat().st_ino


@pytest.mark.parametrize("where", ["file", "directory"])
def test_a_program_that_others_may_write_is_not_trusted(
    started: Victims, require: Callable[..., None], where: str
) -> None:
    require("root", "a directory that is root's all the way up")
    directory = Path(f"/usr/local/lib/douse-test-{os.getpid()}")
    directory.mkdir(mode=0o755)
    try:
        program = directory / "sleep"
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        assert executable(started.spawn([str(program), "1000"])).trusted
        loose = program if where == "file" else directory
        pid = started.spawn([str(program), "1000"])
        loose.chmod(loose.stat().st_mode | stat.S_IWGRP)
        assert not executable(pid).trusted
    finally:
        started.close()
        shutil.rmtree(directory)
