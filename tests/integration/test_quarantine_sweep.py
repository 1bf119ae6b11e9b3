"""A fault in every single system call that changes a disk, and a directory exchanged underneath: nothing is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.quarantine import NOON_NS, TAKE, Rig
from tests.drivers.traced import TracedDriver, sweep
from tests.exchanger import Exchanger, inode_of
from tests.quarantined_files import copies, file_state
from workers.actions.file_quarantine import FileQuarantine
from workers.domain.errors import WorkerError, reason_of
from workers.domain.ids import id_from_cause
from workers.domain.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_CALLS = (
    "fsync",
    "fdatasync",
    "renameat",
    "renameat2",
    "rename",
    "mkdir",
    "mkdirat",
    "unlinkat",
    "unlink",
    "rmdir",
    "linkat",
    "ftruncate",
    "pwrite64",
)
"""What the driver changes the disk with; which of them a Python build uses for one thing differs."""


@pytest.mark.parametrize("verb", ["quarantine", "restore"])
@pytest.mark.parametrize(
    "fault",
    [
        "signal=KILL",
        pytest.param("error=ENOSPC", marks=pytest.mark.faults),
        pytest.param("error=EIO", marks=pytest.mark.faults),
    ],
)
def test_a_fault_at_any_call_that_changes_the_disk_loses_nothing(
    fault: str, verb: str, tmp_path: Path, require: Callable[..., None]
) -> None:
    """Every nth call of every kind, each on files of its own."""
    require("strace", "it makes each system call of the driver fail")
    content = os.urandom(50_000)

    def once(call: str, nth: int) -> bool:
        site, where = tmp_path / f"{call}-{nth}", f"{verb} {fault} {call} {nth}"
        files, rig = site / "files", site / "rig"
        files.mkdir(parents=True)
        path = files / "mal"
        path.write_bytes(content)
        path.chmod(0o751)
        before = file_state(path)
        if verb == "restore":
            assert Rig(rig).quarantine(os.fsencode(path)).outcome is Outcome.COMPLETED
        else:
            Rig(rig)  # its key is not part of what is swept
        run = driver.run(str(rig), verb, str(path), inject=f"{call}:{fault}:when={nth}")
        _assert_held(files, rig, content, where)
        again = Rig(rig).quarantine(os.fsencode(path)) if verb == "quarantine" else Rig(rig).restore()
        _assert_held(files, rig, content, where)
        left = sorted(entry.name for entry in files.iterdir())
        if fault == "signal=KILL" or not run.injected:
            assert again.outcome is Outcome.COMPLETED, f"{where}: {again}"
            assert left == ([] if verb == "quarantine" else ["mal"]), f"{where}: left {left}"
            if verb == "restore":
                assert replace(file_state(path), atime_ns=before.atime_ns) == before, where
        else:
            assert left in ([], ["mal"]), f"{where}: left {left}"
        if not run.injected:
            assert run.status == 0, f"{where}: {run}"
        shutil.rmtree(site)
        return run.injected

    with TracedDriver("tests.drivers.quarantine", tmp_path) as driver:
        points = sweep(_CALLS, once, most=40)
    print(f"\n{verb} {fault}: {points} faults in system calls, lost 0, half done 0")
    assert points >= 10, "the sweep did not reach the steps"


def _assert_held(files: Path, rig: Path, content: bytes, where: str) -> None:
    """The original, under its name or parked, or a verified object; never half a file."""
    held = copies(files, rig / "vault", content)
    assert held, f"{where}: the content is nowhere"
    for path in (files / "mal", *files.glob(".douse*/file")):
        assert not path.exists() or path.read_bytes() == content, f"{where}: {path} is half a file"
    if held == ["object"]:
        vault = Rig(rig).vault
        manifest = vault.manifest(TAKE)
        assert manifest is not None, where
        file = vault.hold_for_quarantine(manifest, None)
        assert file is not None, where
        file.verify(manifest, deadline_ns=1 << 62)
        file.close()


@pytest.mark.fault("F21")
@pytest.mark.parametrize("rounds", [2000])
def test_a_directory_exchanged_underneath_never_costs_another_file(rounds: int, tmp_path: Path) -> None:
    """An attacker who owns both directories exchanges, as fast as possible, the one that holds the claimed file with
    one that holds, under the same name, a file that must not be touched. Every round begins with a bound claim, so the
    identity check decides each."""
    shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        counts, naive = _race(Path(directory), rounds)
    print(f"\n{rounds} rounds, protected file touched 0: {dict(counts)}; by path alone {naive} would have touched it")
    assert counts.total() == rounds
    assert counts["target_changed"]
    assert naive, "the race was never on"


def _race(top: Path, rounds: int) -> tuple[Counter[str], int]:
    one, other = top / "one", top / "other"
    for directory in (one, other):
        directory.mkdir()
    (other / "mal").write_bytes(b"precious")
    inode = inode_of(other / "mal")
    rig, action = Rig(top / "rig"), FileQuarantine()
    counts: Counter[str] = Counter()
    naive = 0
    with Exchanger(one, other) as exchanger:
        for number in range(rounds):
            exchanger.pause()
            evil = one if inode_of(one / "mal") != inode else other
            for directory in (one, other):
                for parked in directory.glob(".douse-*"):  # of a round whose directory was elsewhere at its end
                    shutil.rmtree(parked)
            target = evil / "mal"
            target.write_bytes(b"evil")
            job = rig.quarantine_job(os.fsencode(target), id_from_cause(NOON_NS, "race", str(number)))
            claim = action.bind(job, rig.host)
            exchanger.resume()
            naive += inode_of(target) == inode
            try:
                outcome = action.execute(job, claim, rig.host).code.rpartition("_error_")[2]
            except WorkerError as error:
                outcome = reason_of(error)
            exchanger.pause()
            left = [path for path in (one / "mal", other / "mal") if inode_of(path) == inode]
            assert len(left) == 1, f"round {number}: {outcome}: the protected file lost its name"
            assert left[0].read_bytes() == b"precious", f"round {number}: {outcome}"
            counts["taken" if outcome.startswith("file_quarantine_success") else outcome] += 1
    return counts, naive
