"""A real node process without memory, with few descriptors, and with targets that resist: nothing is lost, nothing is
done twice, and nobody else is hit."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.adversaries.programs import started_in_c
from tests.cgroups import Cgroups
from tests.components import require
from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.node_process import NodeSite, Victim, embedded_broker
from tests.victims import Victims, state_of
from tests.victims import victims as processes
from workers.domain.command import ActionCommand
from workers.domain.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FEW_DESCRIPTORS = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    require("linux", "limits, cgroups and namespaces are the kernel's")
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        yield made


@pytest.fixture
def victims() -> Iterator[list[Victim]]:
    made: list[Victim] = []
    yield made
    for victim in made:
        victim.bury()


@pytest.fixture
def started() -> Iterator[Victims]:
    with processes() as made:
        yield made


def all_killed(site: NodeSite, commands: Sequence[ActionCommand], victims: Sequence[Victim]) -> None:
    """Each exactly once, and each reported so."""
    for command in commands:
        ended = site.ended(command.command_id, timeout_s=60)
        assert ended.outcome is Outcome.COMPLETED, ended
    pairs = zip(commands, victims, strict=True)
    check_all(site.observation([Effect(each.command_id, str(victim.pid)) for each, victim in pairs if victim.killed]))
    assert all(victim.killed for victim in victims)


@pytest.mark.fault("descriptors")
def test_a_node_that_may_open_64_files_kills_and_stays_alive(site: NodeSite, victims: list[Victim]) -> None:
    site.prefix = FEW_DESCRIPTORS
    process = site.start()
    site.up()
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (64, 64)
    victims += Victim.several(40)
    commands = [site.kill(victim.pid) for victim in victims]
    for command in commands:
        site.accepted[command.command_id] = command
        site.send(command)
    all_killed(site, commands, victims)
    open_files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    print(f"\n64 descriptors: {len(commands)} kills, {open_files} open at the end")
    assert process.poll() is None
    assert "Traceback" not in site.log()
    assert site.stop() == 0


@pytest.mark.fault("memory limit")
def test_a_node_that_is_refused_memory_reports_nothing_false_and_goes_on_once_there_is_some(
    site: NodeSite, victims: list[Victim]
) -> None:
    """Every allocation from the system fails for a while, wherever the worker is: RLIMIT_AS at what it has."""
    process = site.start()
    site.up()
    victims += Victim.several(30)
    commands = [site.kill(victim.pid) for victim in victims]
    used = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_AS)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (used, hard))
    try:
        for command in commands:
            site.send(command)
        time.sleep(2)
    finally:
        if process.poll() is None:
            resource.prlimit(process.pid, resource.RLIMIT_AS, (hard, hard))
    ended_by_itself = process.poll() is not None
    if ended_by_itself:
        site.start()
    all_killed(site, commands, victims)
    print(f"\nno memory for 2 s: {len(commands)} kills, the worker {'ended' if ended_by_itself else 'went on'}")


@pytest.mark.fault("memory limit")
def test_a_node_that_its_memory_cgroup_kills_again_and_again_loses_and_doubles_nothing(
    site: NodeSite, victims: list[Victim]
) -> None:
    with closing(Cgroups("memory")) as memory:
        cgroup = memory.make("node")
        limit = cgroup / ("memory.limit_in_bytes" if (cgroup / "memory.limit_in_bytes").exists() else "memory.max")
        limit.write_text(str(400 << 20))
        commands: list[ActionCommand] = []
        for _ in range(3):
            process = site.start()
            memory.put(cgroup, process.pid)
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
            site.up()
            victims += (more := Victim.several(10))
            made = [site.kill(victim.pid) for victim in more]
            commands += made
            for command in made:
                site.send(command)
            hog = subprocess.Popen([sys.executable, "-S", "-c", _HOG, str(cgroup / "cgroup.procs")])
            try:
                assert process.wait(60) == -signal.SIGKILL
            finally:
                hog.kill()
                hog.wait()
        site.start()
        all_killed(site, commands, victims)
    print(f"\nmemory cgroup: 3 workers killed by the kernel, {len(commands)} kills, 0 lost, 0 doubled")


_HOG = """
import sys, time
open(sys.argv[1], "w").write("0")
held = []
while True:
    held.append(bytearray(b"x" * (4 << 20)))
    time.sleep(0.002)
"""


@pytest.mark.fault("ptrace")
@pytest.mark.parametrize("kind", ["swallow", "hold"])
def test_a_traced_victim_dies_whatever_its_tracer_does(
    site: NodeSite, started: Victims, tmp_path: Path, kind: str
) -> None:
    traced = int(started.read_line(started_in_c("traced", kind, into=tmp_path, victims=started)))
    try:
        site.start()
        site.up()
        command = site.kill(traced)
        site.send(command)
        ended = site.ended(command.command_id, timeout_s=30)
        assert ended.outcome is Outcome.COMPLETED, ended
        assert state_of(traced) in ("", "Z")
    finally:
        if state_of(traced) not in ("", "Z"):
            os.kill(traced, signal.SIGKILL)


_CHANGES = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.unshare(0x00020000)
if len(sys.argv) < 3:
    print("changing", flush=True)
os.execv(sys.executable, [sys.executable, "-S", sys.argv[0], str(int(sys.argv[1]) + 1), "again"])
"""


@pytest.mark.fault("mount namespace")
def test_victims_that_change_mount_namespace_and_program_all_the_time_die_and_nobody_else(
    site: NodeSite, tmp_path: Path, victims: list[Victim]
) -> None:
    """Each makes a mount namespace of its own and starts another program, some hundred times a second."""
    require("root", "whoever makes mount namespaces is root")
    program = tmp_path / "changes.py"
    program.write_text(_CHANGES)
    site.start()
    site.up()
    victims += Victim.several(3)
    changing = [subprocess.Popen([sys.executable, "-S", str(program), "0"], stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for each in changing:
            assert each.stdout is not None
            each.stdout.readline()
        time.sleep(0.2)
        commands = [site.kill(each.pid) for each in changing]
        for command in commands:
            site.send(command)
        for command in commands:
            ended = site.ended(command.command_id, timeout_s=30)
            assert ended.outcome is Outcome.COMPLETED, ended
        assert [each.wait(10) for each in changing] == [-signal.SIGKILL] * len(changing)
    finally:
        for each in changing:
            each.kill()
            each.wait()
            if each.stdout is not None:
                each.stdout.close()
    assert not any(victim.killed for victim in victims)
