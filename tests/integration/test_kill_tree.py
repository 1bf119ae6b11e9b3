"""kill_process with ``tree`` against the real kernel: who forks meanwhile, who hides, who is spared."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.adversaries.programs import started_in_c
from tests.components import require as require_component
from tests.detections import Order, falco_json, target_in, this_machine
from tests.victims import Freezer, Victims, await_state, in_a_child, state_of, victims, wait_until
from workers.actions.base import Begun, Done, NotDone, Pending
from workers.actions.kill_process import KillProcess
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Outcome, Report
from workers.host.ports import Host
from workers.system.failpoints import KILLED, ArmedFailpoints

NOBODY = 65_534
BOMBER = 61_234
"""The first of some user ids that nobody else on this machine has."""
BOMB = 150
"""Processes that the fork bomb may have."""
BOMB_S = "40"
"""It ends by itself after so long, whatever becomes of the test."""

FAMILY = "sh -c 'sleep 1000 & sleep 1000 & echo $$ $!; wait' & sh -c 'sleep 1000 & echo $$ $!; wait' & wait"
"""A root with two children; they say their own pid and that of the last of their children: seven with the root."""

_SUBREAPER = """import ctypes, subprocess, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.Popen(["sh", "-c", "setsid sleep 1000 & echo $!"]).wait()
time.sleep(1000)"""
"""Takes in whoever of its descendants loses its parent, and says who that is."""


@dataclass(frozen=True)
class Watched:
    """Processes that the test holds, whoever's children they are: their death is told by the kernel."""

    descriptors: dict[int, int]

    def dead(self) -> set[int]:
        """Who has ended."""
        return {pid for pid, fd in self.descriptors.items() if select.select([fd], [], [], 0)[0]}

    @property
    def all_dead(self) -> bool:
        return self.dead() == set(self.descriptors)

    def close(self) -> None:
        for fd in self.descriptors.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
        self.descriptors.clear()


class Trees:
    """Starts trees, and leaves nobody behind."""

    def __init__(self, started: Victims) -> None:
        self.victims = started
        self._watched: list[Watched] = []

    def watch(self, pids: Sequence[int]) -> Watched:
        """Hold them."""
        made = Watched({pid: os.pidfd_open(pid) for pid in pids})
        self._watched.append(made)
        return made

    def family(self) -> tuple[int, Watched]:
        """A root, and everybody under it and itself."""
        root = self.victims.spawn(["sh", "-c", FAMILY], stdout=subprocess.PIPE)
        self.victims.read_line(root)
        self.victims.read_line(root)
        return root, self.watch([root, *descendants(root)])

    def close(self) -> None:
        for each in self._watched:
            each.close()


def descendants(root: int) -> list[int]:
    """As ps would find them: by everybody's own word about its parent."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def of_user(uid: int) -> list[int]:
    """Everybody who runs under a user id, zombies aside."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid and state_of(int(entry.name)) not in "Z":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture
def trees() -> Iterator[Trees]:
    with victims() as started:
        made = Trees(started)
        yield made
        made.close()


@pytest.fixture(scope="module")
def host() -> Host:
    return this_machine()


def _order(host: Host, pid: int, within_s: float = 30.0) -> Order:
    time.sleep(0.03)  # an event names processes that have lived for longer than its clock error
    return Order(host, target_in(falco_json(pid)), more={"tree": True}, within_s=within_s)


def _kill(host: Host, pid: int) -> Report:
    return _order(host, pid).run()


def test_everybody_of_the_tree_is_dead_when_the_report_says_so(host: Host, trees: Trees) -> None:
    root, watched = trees.family()
    bystander = trees.victims.spawn()
    report = _kill(host, root)
    assert report.outcome is Outcome.COMPLETED
    assert watched.all_dead
    assert (report.outputs["killed"], report.outputs["left"]) == (6, 0)
    assert trees.victims.alive(bystander)


def test_children_of_a_thread_that_is_not_the_main_one_belong_to_it(host: Host, trees: Trees) -> None:
    root = trees.victims.python(
        "import subprocess, threading, time\n"
        "def work(): subprocess.Popen(['sleep', '1000']); print(flush=True); time.sleep(1000)\n"
        "threading.Thread(target=work).start()"
    )
    watched = trees.watch([root, *descendants(root)])
    assert len(watched.descriptors) == 2
    assert _kill(host, root).outcome is Outcome.COMPLETED
    assert watched.all_dead


@pytest.fixture
def for_everybody() -> Iterator[Path]:
    """A directory whose programs any user may run."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_fork_bomb_is_put_out(
    host: Host, trees: Trees, for_everybody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_component("root", "the bomb runs under a user id of its own, whose limit bounds it")
    took = []
    for user in range(BOMBER, BOMBER + 2):  # the dead of one that nobody has reaped yet count against its limit
        root = started_in_c("bomb", str(BOMB), BOMB_S, into=for_everybody, victims=trees.victims, user=user)
        try:
            trees.victims.read_line(root)
            alive = len(of_user(user))
            order = _order(host, root)
            began = time.monotonic()
            report = order.run()
            took.append(time.monotonic() - began)
            assert (report.outcome, report.outputs["left"]) == (Outcome.COMPLETED, 0), report
            _await_end_of(user)
            assert int(report.outputs["killed"]) > alive // 2 > 10
        finally:
            _end_everybody_of(user)
    with capsys.disabled():
        print(f"\nfork bomb of {BOMB} processes, claim to all dead: {', '.join(f'{each:.2f} s' for each in took)}")


def _await_end_of(user: int) -> None:
    wait_until(lambda: not of_user(user))


def _end_everybody_of(user: int) -> None:
    """Whatever became of the test; by the user itself, whom the kernel lets signal nobody else."""

    def end() -> None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)

    in_a_child(end)


def test_a_tree_of_more_than_there_are_descriptors_dies_in_rounds(host: Host, trees: Trees) -> None:
    root = trees.victims.spawn(
        ["sh", "-c", "for i in $(seq 100); do sleep 1000 & done; echo; wait"], stdout=subprocess.PIPE
    )
    trees.victims.read_line(root)
    watched = trees.watch([root, *descendants(root)])
    order = _order(host, root)
    order.bind()

    def run() -> None:
        used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 50, used + 50))
        report = order.execute()
        assert (report.outcome, report.outputs["left"]) == (Outcome.COMPLETED, 0), report
        assert int(report.outputs["killed"]) == 101

    assert in_a_child(run) == 0
    wait_until(lambda: watched.all_dead)


def test_a_daemon_that_was_handed_to_init_is_no_descendant_any_more(host: Host, trees: Trees) -> None:
    """Its parent has ended: nothing in the kernel tells whose it was. It must be killed by itself."""
    root = trees.victims.spawn(
        ["sh", "-c", "(setsid sleep 1000 & echo $!) ; sleep 1000 & wait"], stdout=subprocess.PIPE
    )
    daemon = int(trees.victims.read_line(root))
    watched = trees.watch([root, daemon])
    wait_until(lambda: daemon not in descendants(root))
    report = _kill(host, root)
    assert report.outcome is Outcome.COMPLETED
    assert watched.dead() == {root}
    assert str(daemon) not in str(report.outputs["others"])


def test_a_daemon_of_a_subreaper_is_still_a_descendant(host: Host, trees: Trees) -> None:
    root = trees.victims.spawn(
        [
            sys.executable,
            "-c",
            _SUBREAPER,
        ],
        stdout=subprocess.PIPE,
    )
    daemon = int(trees.victims.read_line(root))
    wait_until(lambda: daemon in descendants(root))
    watched = trees.watch([root, daemon])
    assert _kill(host, root).outcome is Outcome.COMPLETED
    assert watched.all_dead


@pytest.mark.parametrize(("program", "argument"), [("vforker", ""), ("traced", "swallow"), ("traced", "hold")])
def test_who_cannot_be_stopped_is_killed_all_the_same(
    host: Host, trees: Trees, tmp_path: Path, program: str, argument: str
) -> None:
    """It waits for its vforked child, or its tracer, which is of the tree as well, keeps the signal from it."""
    root = started_in_c(program, *([argument] if argument else []), into=tmp_path, victims=trees.victims)
    trees.victims.read_line(root)
    wait_until(lambda: bool(descendants(root)))
    watched = trees.watch([root, *descendants(root)])
    report = _kill(host, root)
    assert report.outcome is Outcome.COMPLETED
    assert watched.all_dead


def test_a_guardian_that_lets_them_go_on_all_the_time_saves_nobody(host: Host, trees: Trees) -> None:
    root, watched = trees.family()
    guardian = trees.victims.python(
        "import os, sys, signal; pids = [int(p) for p in sys.argv[1:]]; print(flush=True)\n"
        "while True:\n"
        "    for pid in pids:\n"
        "        try: os.kill(pid, signal.SIGCONT)\n"
        "        except ProcessLookupError: pass",
        *map(str, watched.descriptors),
    )
    report = _kill(host, root)
    assert report.outcome is Outcome.COMPLETED, report
    assert watched.all_dead
    assert trees.victims.alive(guardian)


def test_a_frozen_tree_is_pending_until_it_is_thawed(host: Host, trees: Trees) -> None:
    root, watched = trees.family()
    freezer = Freezer()
    try:
        for pid in watched.descriptors:
            freezer.freeze(pid)
        order = _order(host, root, within_s=7)
        report = order.run()
        assert (report.outcome, report.code) == (Outcome.UNKNOWN, "kill_process_error_kill_pending")
        assert "frozen" in report.message
        assert isinstance(order.probe(), Pending)
        freezer.thaw()
        wait_until(lambda: watched.all_dead)
        assert isinstance(order.probe(), Done)
    finally:
        freezer.thaw()
        trees.close()
        trees.victims.close()
        freezer.close()


# --- who is spared ----------------------------------------------------------------------------------------------------


@pytest.fixture
def service() -> Iterator[Path]:
    """A program that the host vouches for and that nobody may kill when root runs it."""
    require_component("root", "a program that is root's all the way up")
    directory = Path(f"/usr/local/lib/douse-test-{os.getpid()}")
    directory.mkdir(mode=0o755)
    shutil.copy(shutil.which("sleep") or "/bin/sleep", directory / "runc")
    try:
        yield directory / "runc"
    finally:
        shutil.rmtree(directory)


def test_one_protected_descendant_saves_all(host: Host, trees: Trees, service: Path) -> None:
    root = trees.victims.spawn(
        ["sh", "-c", f"sh -c '{service} 1000 & echo; wait' & sleep 1000 & wait"], stdout=subprocess.PIPE
    )
    trees.victims.read_line(root)
    wait_until(lambda: any(_exe(pid) == service for pid in descendants(root)))
    watched = trees.watch([root, *descendants(root)])
    with pytest.raises(CommandRejected) as refusal:
        _kill(host, root)
    assert refusal.value.reason == "protected_target"
    assert watched.dead() == set()
    assert "T" not in {state_of(pid) for pid in watched.descriptors}


def test_a_user_who_executes_a_services_program_in_his_tree_saves_nobody(
    host: Host, trees: Trees, service: Path
) -> None:
    """Else every malware would keep such a child."""
    root = trees.victims.spawn(
        ["sh", "-c", f"{service} 1000 & echo; wait"], stdout=subprocess.PIPE, user=NOBODY, cwd="/"
    )
    trees.victims.read_line(root)
    wait_until(lambda: any(_exe(pid) == service for pid in descendants(root)))
    watched = trees.watch([root, *descendants(root)])
    assert _kill(host, root).outcome is Outcome.COMPLETED
    assert watched.all_dead


def test_a_protected_one_that_is_started_after_the_claim_saves_all_and_everybody_goes_on(
    host: Host, trees: Trees, service: Path
) -> None:
    root = trees.victims.python(
        "import subprocess, sys, time; subprocess.Popen(['sleep', '1000'], stdout=2); print(flush=True)\n"
        "sys.stdin.readline(); subprocess.Popen([sys.argv[1], '1000'], stdout=2); print(flush=True); time.sleep(1000)",
        str(service),
    )
    stopped = descendants(root)[0]
    order = _order(host, root)
    assert [*order.bind().named()] == [stopped]
    trees.victims.tell(root)
    trees.victims.read_line(root)
    wait_until(lambda: any(_exe(pid) == service for pid in descendants(root)))
    watched = trees.watch([root, *descendants(root)])
    report = order.execute()
    assert (report.outcome, report.code) == (Outcome.FAILED, "kill_process_error_protected_target")
    assert watched.dead() == set()
    wait_until(lambda: {state_of(pid) for pid in watched.descriptors} == {"S"})


def _exe(pid: int) -> Path:
    try:
        return Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return Path()


def test_who_may_not_be_signalled_is_left_and_reported(host: Host, trees: Trees) -> None:
    require_component("root", "it gives root up for a moment")
    root = trees.victims.python(
        "import os, subprocess, sys, time; subprocess.Popen(['sleep', '1000'], stdout=2)\n"
        f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); subprocess.Popen(['sleep', '1000'], stdout=2)\n"
        "print(flush=True); time.sleep(1000)"
    )
    wait_until(lambda: len(descendants(root)) == 2)
    watched = trees.watch([root, *descendants(root)])
    order = _order(host, root)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        report = order.run()
    finally:
        os.setresuid(0, 0, 0)
    assert (report.outcome, report.code) == (Outcome.PARTIAL, "kill_process_error_partly_killed")
    assert (report.outputs["killed"], report.outputs["left"]) == (2, 1)
    assert len(watched.dead()) == 2
    assert "CAP_KILL" in report.message


# --- the worker dies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", KillProcess.failpoints)
def test_a_worker_that_is_killed_at_a_step_leaves_nobody_stopped_and_the_next_goes_on(
    host: Host, trees: Trees, place: str
) -> None:
    root, watched = trees.family()
    order = _order(host, root)
    order.bind()
    assert isinstance(order.probe(), NotDone)
    dying = replace(order, host=replace(host, failpoints=ArmedFailpoints({place: ("kill", 1)})))
    assert in_a_child(lambda: print(dying.execute())) == KILLED
    if place == "kill_process.signalled":
        wait_until(lambda: isinstance(order.probe(), Done))
    else:
        await_state(root, "T")
        assert isinstance(order.probe(), Begun)
        assert order.execute().outcome is Outcome.COMPLETED
    wait_until(lambda: watched.all_dead)
    settled = order.probe()
    assert isinstance(settled, Done)
    assert settled.report.outcome is Outcome.COMPLETED


def test_a_root_that_is_gone_when_the_worker_comes_to_it_saves_nobody(host: Host, trees: Trees) -> None:
    root, watched = trees.family()
    order = _order(host, root)
    order.bind()
    trees.victims.end(root)
    report = order.execute()
    assert (report.outcome, report.outputs["killed"]) == (Outcome.COMPLETED, 5)
    assert watched.all_dead
