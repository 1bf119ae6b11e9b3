"""Claims on disk: the keys that released versions wrote are read and written as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from workers.actions import by_name
from workers.actions.base.claims import claim_of, claim_with, values_of
from workers.domain.errors import PermanentFailure
from workers.domain.outcome import Values

PROCESS: Values = {
    "pid": 4711,
    "present": True,
    "boot_id": "0f0e0d0c-0b0a-4908-8706-050403020100",
    "start_ticks": 360000,
    "serial": 77,
    "started_at": 1_783_198_004_170_000_000,
    "exe": "/tmp/xmrig",
    "name": "xmrig",
    "command_line": "/tmp/xmrig -o pool.example:3333",
    "user_id": 1000,
    "cgroup": "/user.slice",
    "container_init": False,
    "identity": "start_time",
}
GONE: Values = {"pid": 4711, "present": False, "gone": "it has ended", "seen": True}
TREE: Values = {
    **PROCESS,
    "tree": True,
    "stopped_before": False,
    "descendants": 2,
    "descendants_named_all": True,
    "descendants_named": "4712.4711.360001.78 4713.4712.360002.79T",
}
CONTAINER: Values = {
    "container_id": "4a7c0de5f1e1" * 5 + "4a7c",
    "runtime": "/var/run/docker.sock",
    "started_at": 1_783_198_004_170_000_000,
    "pid": 4711,
    "state": "running",
    "name": "web",
    "image": "nginx:1",
    "restart_policy": "always",
    "restart_maximum": 0,
    "orchestrator": "",
    "starts_again": True,
    "unserved": "",
    "unheard": False,
}
HOST_PATH: Values = {"container_id": "", "container_runtime": "", "container_started_at": 0, "container_pid": 0}
FILE: Values = {
    "path": "/tmp/xmrig",
    "device": 2049,
    "inode": -5,
    "size": 7,
    "modified_at": 1,
    "changed_at": 2,
    "identity": "reviewed",
    **HOST_PATH,
}
NETWORK: Values = {
    "scope": "container",
    "container_id": CONTAINER["container_id"],
    "name": "web",
    "runtime": "/var/run/docker.sock",
    "started_at": 1,
    "pid": 4711,
    "isolation": "0199e0f7-0000-7000-8000-000000000001",
    "namespace": 4026531840,
    "interfaces": "eth0",
    "allowed": "kafka tcp 10.0.0.7/32 9092",
}
RESTORED: Values = {
    "path": "/tmp/xmrig",
    "quarantined_file_path": "/var/lib/douse/quarantine/x",
    "sha256": "00",
    "size": 7,
    "mode": 493,
    "user_id": 0,
    "group_id": 0,
    "modified_at": 1,
    "container_id": "",
    "container_started_at": 0,
    "present": True,
}

WRITTEN: Mapping[str, tuple[Values, ...]] = {
    "kill_process": (PROCESS, GONE, TREE),
    "suspend_process": ({**PROCESS, "stopped_before": True}, GONE),
    "resume_process": ({**PROCESS, "stopped_before": False},),
    "snapshot_process": (PROCESS, GONE),
    "kill_container": (CONTAINER,),
    "stop_container": (CONTAINER,),
    "start_container": (CONTAINER,),
    "pause_container": (CONTAINER,),
    "unpause_container": (CONTAINER,),
    "get_logs": (CONTAINER,),
    "file_acquire": (FILE,),
    "file_quarantine": ({**FILE, "present": True, "mode": 493, "user_id": 0, "group_id": 0, "links": 1},),
    "file_unquarantine": (RESTORED,),
    "isolate_network": ({**NETWORK, "own": "", "found": False, "found_by": ""},),
    "release_network": ({**NETWORK, "present": True},),
}
"""What the actions of released versions have written to journals. A new action need not be added: its own keys are
held by ``test_catalogue``."""


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_journal_holds_is_read_and_written_as_it_was(name: str) -> None:
    action = by_name(name)
    assert action is not None
    for values in WRITTEN[name]:
        assert values_of(action.claim_of(values)) == values


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pause_container", {key: CONTAINER[key] for key in CONTAINER if key not in {"starts_again", "unserved"}}),
        ("suspend_process", PROCESS),
        ("file_acquire", {key: FILE[key] for key in FILE if key not in HOST_PATH}),
        ("kill_process", {key: GONE[key] for key in GONE if key != "seen"}),
    ],
)
def test_a_claim_of_an_older_version_has_the_defaults_of_what_it_lacks(name: str, values: Values) -> None:
    action = by_name(name)
    assert action is not None
    assert values_of(action.claim_of(values)).items() > values.items()


@dataclass(frozen=True, slots=True)
class Narrow:
    number: int


@dataclass(frozen=True, slots=True)
class Wide:
    number: int
    word: str
    flag: bool = False


def test_the_first_shape_whose_required_fields_are_there_is_read() -> None:
    assert claim_of((Wide, Narrow), {"number": 1, "word": "x", "of_a_newer_version": 2}) == Wide(1, "x")
    assert claim_of((Wide, Narrow), {"number": 1}) == Narrow(1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [({}, "has no number, word"), ({"number": "1", "word": "x"}, "number"), ({"number": True, "word": "x"}, "number")],
)
def test_values_that_fit_no_shape_are_a_permanent_failure(values: Values, reason: str) -> None:
    with pytest.raises(PermanentFailure, match=reason) as caught:
        claim_of((Wide,), values)
    assert caught.value.reason == "claim_unreadable"


def test_a_claim_of_another_shape_keeps_what_both_have() -> None:
    assert claim_with(Wide, Narrow(1), word="x", flag=True) == Wide(1, "x", flag=True)
    assert claim_with(Narrow, Wide(1, "x")) == Narrow(1)
