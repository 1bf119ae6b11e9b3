"""When a worker's cgroup is its own, so that everything in it is protected, and when it only shares one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.victims import Unit, Victims, victims
from workers.host.processes.system import SystemProcesses

_WORKER = """
import sys
from workers.host.processes.system import SystemProcesses
print("ready", flush=True)
sys.stdin.readline()
print(repr(SystemProcesses().own_cgroup()), flush=True)
sys.stdin.readline()
"""

_SUPERVISOR = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {_WORKER!r}])
"""


@pytest.fixture
def unit() -> Iterator[Unit]:
    made = Unit("douse")
    yield made
    made.close()


@pytest.fixture
def started(unit: Unit) -> Iterator[Victims]:
    """Ended before the unit they live in is removed."""
    with victims() as made:
        yield made


def _in_unit(unit: Unit, started: Victims, arguments: list[str]) -> str:
    """What a worker started so says of its cgroup; all that was started is moved into the unit first."""
    pid = started.spawn(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.read_line(pid) == b"ready\n"
    line = [pid, *_descendants(pid)]
    for member in line:
        unit.take(member)
    started.tell(pid)
    reported = started.read_line(pid).decode().strip()
    started.tell(pid)
    return reported


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return [found for child in children for found in (child, *_descendants(child))]


def test_a_unit_that_runs_the_worker_and_nothing_else_is_its_own(unit: Unit, started: Victims) -> None:
    assert _in_unit(unit, started, [sys.executable, "-c", _WORKER]) == repr(unit.path)


def test_a_unit_that_runs_the_workers_supervisor_is_its_own(unit: Unit, started: Victims) -> None:
    assert _in_unit(unit, started, [sys.executable, "-c", _SUPERVISOR]) == repr(unit.path)


def test_a_unit_in_which_a_shell_started_the_worker_is_shared(unit: Unit, started: Victims) -> None:
    """As under an sshd or a cron without sessions: what else that shell started may be the malware."""
    assert _in_unit(unit, started, ["sh", "-c", f"{sys.executable} -c '{_WORKER}'; :"]) == repr("")


def test_the_tests_own_cgroup_is_shared() -> None:
    assert SystemProcesses().own_cgroup() == ""
    assert os.getpid() in SystemProcesses().own_line()
