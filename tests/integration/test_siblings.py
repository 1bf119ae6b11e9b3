"""Workers beside this one are protected by who their parent is, not by what a file or a process says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.victims import Victims, victims
from workers.adapters.processes import Siblings, SystemProcesses

_SUPERVISOR = """
import pathlib, subprocess, sys
run = pathlib.Path(sys.argv[1])
worker = subprocess.Popen(["sleep", "1000"])
unnamed = subprocess.Popen(["sleep", "1000"])
(run / "dispatcher.pid").write_text(f"{worker.pid}\\n")
node = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], stdin=subprocess.DEVNULL)
(run / "node.pid").write_text(f"{node.pid}\\n")
node.wait()
for child in (worker, unnamed):
    child.kill()
    child.wait()
"""

_NODE = """
import os, pathlib, sys, time
from workers.adapters.processes import Siblings, SystemProcesses
run = pathlib.Path(sys.argv[1])
while not (run / "node.pid").exists():
    time.sleep(0.01)
named = {path.name: int(path.read_text()) for path in run.glob("*.pid")}
line = SystemProcesses(siblings=Siblings(run)).own_line()
children = [int(pid) for pid in pathlib.Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()]
unnamed = next(pid for pid in children if pid not in named.values())
print(named["dispatcher.pid"] in line, named["decoy.pid"] in line, unnamed in line, line[0] == named["node.pid"])
"""


@pytest.fixture
def started() -> Iterator[Victims]:
    with victims() as made:
        yield made


def test_only_children_of_our_supervisor_that_it_names_are_protected(started: Victims, tmp_path: Path) -> None:
    (tmp_path / "decoy.pid").write_text(str(started.spawn()), encoding="ascii")
    supervisor = [sys.executable, "-c", _SUPERVISOR, str(tmp_path), _NODE]
    answer = subprocess.run(supervisor, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.split() == ["True", "False", "False", "True"], answer.stderr


@pytest.mark.parametrize("content", ["", "-1", "1", "0", "x", "9" * 100, "4711\n4712"])
def test_a_pid_file_that_holds_no_pid_protects_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "node.pid").write_text(content, encoding="ascii")
    assert Siblings(tmp_path)() == ()


def test_without_the_directory_nobody_is_beside_us(tmp_path: Path) -> None:
    assert Siblings(tmp_path / "nowhere")() == ()
    assert SystemProcesses(siblings=Siblings(tmp_path / "nowhere")).own_line()[0] == os.getpid()
