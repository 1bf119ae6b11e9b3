"""Snapshots of real processes: what they do is in them, what they hide stays out, and none is too hostile for one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.acquire import GATHER, KEY, AcquireRig
from tests.victims import Freezer, Victims, victims, wait_until
from workers.actions.snapshot_process import SnapshotProcess
from workers.domain.outcome import Outcome, Report
from workers.domain.targets.custody import custody_key
from workers.system.failpoints import KILLED, VARIABLE

pytestmark = pytest.mark.slow

CANARY = "c4n4ry-7Q1x-snap"


@pytest.fixture
def started() -> Iterator[Victims]:
    with victims() as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> AcquireRig:
    return AcquireRig(tmp_path / "rig")


def kept(rig: AcquireRig) -> dict[str, Any]:
    return dict(json.loads((rig.objects / KEY).read_bytes()))


def taken(rig: AcquireRig, pid: int) -> dict[str, Any]:
    report = rig.snapshot(pid)
    assert report.outcome is Outcome.COMPLETED, report
    content = (rig.objects / KEY).read_bytes()
    assert report.outputs["sha256"] == hashlib.sha256(content).hexdigest()
    assert report.outputs["size"] == len(content)
    return kept(rig)


BUSY = """
import os, socket, sys, threading, time
file = open(sys.argv[1], "rb"); file.seek(7)
listener = socket.create_server(("127.0.0.1", 0))
peer = socket.create_connection(listener.getsockname())
unix = socket.socket(socket.AF_UNIX); unix.bind(sys.argv[2]); unix.listen()
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
child = os.fork()
if child == 0:
    time.sleep(1000)
print(listener.getsockname()[1], child, flush=True)
sys.stdin.readline()
os.kill(child, 9)
"""


def test_what_a_process_does_is_in_it(rig: AcquireRig, started: Victims, tmp_path: Path) -> None:
    (tmp_path / "open").write_bytes(b"0123456789")
    path = str(tmp_path / "s")
    pid = started.spawn(
        [sys.executable, "-c", BUSY, str(tmp_path / "open"), path],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        cwd=tmp_path,
    )
    port, child = map(int, started.read_line(pid).split())
    document = taken(rig, pid)
    started.tell(pid)
    assert document["missing"] == {}
    assert document["process"]["pid"] == int(document["status"]["Pid"]) == pid
    assert document["working_directory"] == str(tmp_path)
    assert {"target": str(tmp_path / "open"), "position": 7}.items() <= _one(
        document["files"], lambda row: row["target"].endswith("/open")
    ).items()
    assert _one(document["sockets"], lambda row: row["state"] == "LISTEN" and row["local"] == f"127.0.0.1:{port}")
    assert _one(document["sockets"], lambda row: row["remote"] == f"127.0.0.1:{port}")["state"] == "ESTABLISHED"
    assert _one(document["sockets"], lambda row: row["local"] == path)["protocol"] == "unix stream"
    assert len(document["threads"]["items"]) == 2
    assert [row["pid"] for row in document["children"]["items"]] == [child]
    executable = Path(sys.executable).resolve()
    assert document["executable"]["sha256"] == hashlib.sha256(executable.read_bytes()).hexdigest()
    assert _one(document["maps"], lambda row: row["path"] == str(executable) and "x" in row["permissions"])
    assert document["namespaces"]["net"] == str(Path(f"/proc/{os.getpid()}/ns/net").readlink())
    assert {"Max open files"} <= {row["name"] for row in document["limits"]}


def _one(listed: dict[str, Any], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    found = [row for row in listed["items"] if wanted(row)]
    assert found, listed
    return dict(found[0])


def test_the_sockets_are_those_of_its_own_network_namespace(
    rig: AcquireRig, started: Victims, require: Callable[..., None]
) -> None:
    require("root", "a network namespace is made")
    require("unshare", "a network namespace is made")
    code = "import socket,time;s=socket.create_server(('0.0.0.0', 4444));print(flush=True);time.sleep(1000)"
    with socket.create_server(("127.0.0.1", 0)):
        pid = started.spawn(["unshare", "-n", sys.executable, "-c", code], stdout=subprocess.PIPE)
        started.read_line(pid)
        document = taken(rig, pid)
    (row,) = document["sockets"]["items"]
    assert (row["protocol"], row["local"], row["state"]) == ("tcp", "0.0.0.0:4444", "LISTEN")


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_planted_secrets_are_nowhere_in_the_object_nor_in_what_is_reported_of_it(
    rig: AcquireRig, started: Victims, tmp_path: Path
) -> None:
    secret = tmp_path / f"x?token={CANARY}"
    secret.write_bytes(b"")
    code = "import sys,time;f=open(sys.argv[2]);print(flush=True);time.sleep(1000)"
    pid = started.spawn(
        [sys.executable, "-c", code, f"--password={CANARY}", str(secret)],
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin", "DB_PASSWORD": CANARY, "INNOCENT": CANARY, "LD_PRELOAD": f"/x?api_key={CANARY}"},
    )
    started.read_line(pid)
    document = taken(rig, pid)
    everything = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()]
    assert len(everything) >= 5, "object, custody, claim, what the spool remembers"
    assert not [content for content in everything if CANARY.encode() in content]
    shown = {row["name"]: row["value"] for row in document["environment"]["items"]}
    assert shown["PATH"] == "/usr/bin"
    assert shown["DB_PASSWORD"] is shown["INNOCENT"] is None
    assert "***" in document["process"]["command_line"]


def test_an_environment_that_a_process_wrote_over_gives_nothing_away(rig: AcquireRig, started: Victims) -> None:
    code = """
import ctypes, re, sys, time
start = int(open("/proc/self/stat").read().rpartition(")")[2].split()[47])
text = sys.argv[1].encode() * 3
ctypes.memmove(start, text, len(text))
print(flush=True); time.sleep(1000)
"""
    pid = started.spawn(
        [sys.executable, "-c", code, CANARY], stdout=subprocess.PIPE, env={"A": "x" * 500, "PATH": "/usr/bin"}
    )
    started.read_line(pid)
    assert Path(f"/proc/{pid}/environ").read_bytes().startswith(CANARY.encode())
    document = taken(rig, pid)
    assert document["environment"]["items"][0] == {"name": "***", "value": None}
    assert CANARY not in json.dumps(document["environment"])


# --- hostile and dying ones ------------------------------------------------------------------------------------------


def test_a_process_with_more_of_everything_than_is_kept(rig: AcquireRig, started: Victims) -> None:
    code = """
import mmap, os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (6000, 6000))
files = [os.open("/dev/null", os.O_RDONLY) for _ in range(5000)]
maps = [mmap.mmap(-1, 4096, prot=mmap.PROT_READ if n % 2 else mmap.PROT_READ | mmap.PROT_WRITE) for n in range(6000)]
print(flush=True); time.sleep(1000)
"""
    pid = started.spawn(
        [sys.executable, "-c", code, "x" * 100_000],
        stdout=subprocess.PIPE,
        env={f"V{n}": "v" * 20 for n in range(5000)},
    )
    started.read_line(pid)
    document = taken(rig, pid)
    for name in ("files", "maps", "environment"):
        assert len(document[name]["items"]) == 4096, name
        assert document[name]["truncated"], name
    assert len(document["process"]["command_line"]) <= 4096


def test_one_whose_executable_was_deleted_still_has_its_digest(
    rig: AcquireRig, started: Victims, tmp_path: Path
) -> None:
    path = tmp_path / "mal"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
    pid = started.spawn([str(path), "1000"])
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    document = taken(rig, pid)
    assert document["executable"]["path"].endswith("(deleted)")
    assert document["executable"]["sha256"] == wanted


def test_a_frozen_process_can_be_looked_at(rig: AcquireRig, started: Victims) -> None:
    freezer = Freezer()
    pid = started.spawn()
    freezer.freeze(pid)
    try:
        assert taken(rig, pid)["process"]["frozen"] is True
    finally:
        freezer.thaw()
        started.end(pid)
        freezer.close()


def test_a_kernel_thread_has_no_files_and_that_is_no_failure(rig: AcquireRig, require: Callable[..., None]) -> None:
    require("root", "others' processes are looked at")
    document = taken(rig, 2)
    assert document["process"]["kernel_thread"] is True
    assert document["executable"] is None


def test_one_that_has_ended_is_no_action_and_nothing_is_stored(rig: AcquireRig, started: Victims) -> None:
    pid = started.spawn()
    started.end(pid)
    report = rig.snapshot(pid)
    assert (report.outcome, report.code) == (Outcome.NO_ACTION, "snapshot_process_error_target_never_seen")
    started.reuse(pid)
    assert rig.snapshot(pid).outcome is Outcome.NO_ACTION, "the claim was of nobody, and stays so"
    assert not (rig.objects / KEY).exists()


def test_processes_that_end_meanwhile_are_never_mixed_up(rig: AcquireRig, started: Victims) -> None:
    """Held by a pidfd and read through its directory: what is told is its own, or nothing is."""
    for _ in range(30):
        pid = started.spawn([sys.executable, "-c", "print(flush=True)"], stdout=subprocess.PIPE)
        handle = rig.host.processes.open(pid)
        if handle is None:
            continue
        taken = handle.snapshot(timeout_s=10)
        handle.close()
        if taken is not None:
            assert taken.status.get("Pid", str(pid)) == str(pid)
            assert taken.stat.get("start_ticks", taken.process.start_ticks) == taken.process.start_ticks


def test_time_that_is_over_leaves_parts_out_and_says_so(rig: AcquireRig, started: Victims) -> None:
    handle = rig.host.processes.open(started.spawn())
    assert handle is not None
    taken = handle.snapshot(timeout_s=-1)
    handle.close()
    assert taken is not None
    assert set(taken.missing.values()) == {"the time for the snapshot was over"}
    assert taken.process.pid > 0


def test_the_reserve_of_the_disk_is_not_for_evidence(started: Victims, tmp_path: Path) -> None:
    rig = AcquireRig(tmp_path / "rig", reserve=1 << 60)
    report = rig.snapshot(started.spawn())
    assert (report.outcome, report.code) == (Outcome.FAILED, "failed_enospc"), report
    assert rig.spool.kept() == []
    assert not rig.objects.exists() or not [each for each in rig.objects.rglob("*") if each.is_file()]


def test_a_copy_that_was_changed_on_the_spool_is_never_stored(started: Victims, tmp_path: Path) -> None:
    pid = started.spawn()
    killed = _driven(tmp_path / "rig", pid, "snapshot_process.a1")
    assert killed.returncode == KILLED, killed
    (copy,) = (tmp_path / "rig" / "spool").glob("*.data")
    copy.write_bytes(copy.read_bytes().replace(b'"pid"', b'"PID"'))
    rig = AcquireRig(tmp_path / "rig")
    report = rig.snapshot(pid)
    assert (report.outcome, report.code) == (Outcome.FAILED, "spool_damaged"), report
    assert _stored(rig) == {}
    assert rig.spool.kept() == []


# --- a crash anywhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", SnapshotProcess.failpoints)
def test_killed_at_any_step_it_is_gone_on_with_and_leaves_one_object(
    place: str, started: Victims, tmp_path: Path
) -> None:
    pid = started.spawn()
    killed = _driven(tmp_path / "rig", pid, place)
    assert killed.returncode == KILLED, killed
    rig = AcquireRig(tmp_path / "rig")
    before = _stored(rig)
    report: Report = rig.snapshot(pid)
    assert report.outcome is Outcome.COMPLETED, report
    after = _stored(rig)
    assert set(after) == {KEY, custody_key(KEY)}
    assert before.items() <= after.items(), "nothing was overwritten"
    assert after[KEY] == report.outputs["sha256"]
    custody = rig.spool.custody(GATHER)
    assert custody is not None
    assert f"process {pid} of boot" in custody.source


def _driven(directory: Path, pid: int, place: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, which ends at a failpoint."""
    return subprocess.run(
        [sys.executable, "-m", "tests.drivers.acquire", str(directory), str(pid)],
        env={**os.environ, VARIABLE: f"{place}=kill"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _stored(rig: AcquireRig) -> dict[str, str]:
    found = (each for each in rig.objects.rglob("*") if each.is_file())
    return {str(each.relative_to(rig.objects)): hashlib.sha256(each.read_bytes()).hexdigest() for each in found}


def test_descriptors_do_not_leak(rig: AcquireRig, started: Victims) -> None:
    handle = rig.host.processes.open(started.spawn())
    assert handle is not None
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        assert handle.snapshot(timeout_s=10) is not None
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) == before)
    handle.close()
