"""What a machine can do is read from its own files, and judged with a remedy for everything that is not fine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from workers.domain.machine_check import CAPABILITIES, Finding, Level, MachineFacts, capabilities_of, examine
from workers.domain.targets.container import Runtime
from workers.host.machine_facts import read_facts

FINE = MachineFacts(
    kernel="6.18.0",
    has_pidfd=True,
    user_id=0,
    capabilities=frozenset(CAPABILITIES),
    hidepid="0",
    ptrace_scope=1,
    protected_hardlinks=1,
    runtimes=(Runtime("/run/docker.sock", usable=True),),
    boot_id="b",
    sees_all_processes=True,
)
NEEDS = {"kill_process": ("KILL", "SYS_PTRACE")}


def findings(**changes: object) -> dict[str, Finding]:
    return {found.about: found for found in examine(dataclasses.replace(FINE, **changes), NEEDS)}  # type: ignore[arg-type]


def test_a_machine_that_lacks_nothing_has_only_good_findings() -> None:
    assert {found.level for found in findings().values()} == {Level.OK}


@pytest.mark.parametrize(
    ("changes", "about", "level"),
    [
        ({"has_pidfd": False}, "pidfd", Level.FAIL),
        ({"boot_id": ""}, "boot id", Level.FAIL),
        ({"sees_all_processes": False, "hidepid": "invisible"}, "/proc", Level.WARN),
        ({"sees_all_processes": False}, "/proc", Level.WARN),
        ({"capabilities": frozenset({"KILL"})}, "ptrace scope", Level.WARN),
        ({"protected_hardlinks": 0}, "hard links", Level.WARN),
        ({"runtimes": ()}, "container runtimes", Level.WARN),
        ({"runtimes": (Runtime("/x.sock", usable=False, why="user 7 listens"),)}, "container runtimes", Level.WARN),
        ({"capabilities": frozenset({"KILL"})}, "kill_process", Level.WARN),
        ({"network_fault": "it is unknown: give it more"}, "host network", Level.WARN),
    ],
)
def test_what_is_not_fine_has_a_remedy(changes: dict[str, object], about: str, level: Level) -> None:
    found = findings(**changes)[about]
    assert found.level is level
    assert found.remedy


def test_capabilities_are_read_by_their_bits() -> None:
    assert capabilities_of(1 << 5 | 1 << 19) == {"KILL", "SYS_PTRACE"}
    assert len(capabilities_of((1 << 41) - 1)) == 41
    assert capabilities_of(0) == frozenset()


def test_facts_come_from_the_files_of_the_machine(tmp_path: Path) -> None:
    for name, content in {
        "sys/kernel/osrelease": "6.1.0-13-amd64\n",
        "self/status": "Name:\tx\nCapEff:\t0000000000080020\n",
        "self/mounts": "proc /proc proc rw 0 0\nproc /proc proc rw,relatime,hidepid=2 0 0\n",
        "sys/kernel/yama/ptrace_scope": "1\n",
        "sys/fs/protected_hardlinks": "0\n",
        "sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
    }.items():
        (tmp_path / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc" / name).write_text(content)
    runtime = Runtime("/run/crio/crio.sock", usable=True)
    facts = read_facts([runtime], root=tmp_path)
    assert facts.kernel == "6.1.0-13-amd64"
    assert facts.capabilities == {"KILL", "SYS_PTRACE"}
    assert (facts.hidepid, facts.ptrace_scope, facts.protected_hardlinks) == ("2", 1, 0)
    assert facts.runtimes == (runtime,)
    assert not facts.sees_all_processes
    assert facts.boot_id.startswith("1111")


def test_a_machine_without_any_of_the_files_is_still_described(tmp_path: Path) -> None:
    facts = read_facts(root=tmp_path)
    assert (facts.kernel, facts.capabilities, facts.hidepid, facts.ptrace_scope) == ("", frozenset(), None, None)
    assert any(found.level is Level.FAIL for found in examine(facts, NEEDS))


def test_this_machine_is_described() -> None:
    facts = read_facts()
    assert facts.kernel
    assert facts.boot_id
