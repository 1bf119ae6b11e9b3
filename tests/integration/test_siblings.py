"""Workers beside this one are protected by who their parent is, not by what a process says of itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.victims import victims
from workers.host.processes.system import SystemProcesses
from workers.system import parent

AS_A_WORKER = ("-m", "workers", "dispatcher")

_SUPERVISOR = """
import os, subprocess, sys
worker = subprocess.Popen(["sh", "-c", "read line", "-m", "workers", "dispatcher"], stdin=subprocess.PIPE)
other = subprocess.Popen(["sleep", "1000"])
environment = os.environ | {"DOUSE_SUPERVISOR_PID": str(os.getpid())}
arguments = [sys.executable, "-c", sys.argv[1], str(worker.pid), str(other.pid), sys.argv[2]]
node = subprocess.Popen(arguments, env=environment)
node.wait()
for child in (worker, other):
    child.kill()
    child.wait()
"""

_NODE = """
import sys
from workers.system.parent import siblings
from workers.host.processes.system import SystemProcesses
line = SystemProcesses(siblings=siblings).own_line()
print(*(int(pid) in line for pid in sys.argv[1:]))
"""


def test_our_supervisors_workers_are_protected_and_nothing_else_is() -> None:
    """Not its other children, and not a stranger with a worker's arguments."""
    with victims() as started:
        decoy = started.spawn(["sh", "-c", "read line", *AS_A_WORKER], stdin=subprocess.PIPE)
        supervisor = [sys.executable, "-c", _SUPERVISOR, _NODE, str(decoy)]
        answer = subprocess.run(supervisor, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.split() == ["True", "False", "False"], answer.stderr


def test_without_a_supervisor_of_ours_nobody_is_beside_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(parent.SUPERVISOR, raising=False)
    with victims() as started:
        child = started.spawn(["sh", "-c", "read line", *AS_A_WORKER], stdin=subprocess.PIPE)
        line = SystemProcesses(siblings=parent.siblings).own_line()
    assert line[0] == os.getpid()
    assert child not in line
