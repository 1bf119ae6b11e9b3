"""A fault in every single system call that changes a disk, and a directory exchanged underneath: nothing is lost."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.quarantine import NOON_NS, TAKE, Rig
from tests.drivers.traced import TracedDriver, sweep
from tests.quarantining import copies, seen
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
_RENAME_EXCHANGE = 2


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
        before = seen(path)
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
                assert replace(seen(path), atime_ns=before.atime_ns) == before, where
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


class _Swapper:
    """Exchanges two directories as fast as it can while it is let."""

    def __init__(self, one: Path, other: Path) -> None:
        self._names = (os.fsencode(one), os.fsencode(other))
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._go, self._idle, self._over = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._swap, daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        self._idle.clear()
        self._go.set()

    def __exit__(self, *_: object) -> None:
        self._go.clear()
        self._idle.wait()

    def close(self) -> None:
        self._over = True
        self._go.set()
        self._thread.join()

    def _swap(self) -> None:
        while not self._over:
            while self._go.is_set() and not self._over:
                at = ctypes.c_int(-100)
                self._libc.renameat2(at, self._names[0], at, self._names[1], ctypes.c_uint(_RENAME_EXCHANGE))
            self._idle.set()
            self._go.wait()


@pytest.mark.parametrize("rounds", [2000])
def test_a_directory_exchanged_underneath_never_costs_another_file(rounds: int, tmp_path: Path) -> None:
    """An attacker who owns the directories swaps, as fast as he can, the one that holds the claimed file with one that
    holds, under the same name, a file that must not be touched."""
    shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        counts = _race(Path(directory), rounds)
    print(f"\n{rounds} rounds that came to the file, protected file touched 0: {dict(counts)}")
    assert counts["target_changed"] + counts["kept"], "the race was never on"


def _race(top: Path, rounds: int) -> Counter[str]:
    one, other = top / "one", top / "other"
    for directory in (one, other):
        directory.mkdir()
    precious = other / "mal"
    precious.write_bytes(b"precious")
    inode = precious.stat().st_ino
    rig, action = Rig(top / "rig"), FileQuarantine()
    counts: Counter[str] = Counter()
    swapper = _Swapper(one, other)
    number = 0
    try:
        while counts.total() < rounds:
            number += 1
            assert number < rounds * 50, f"the rounds do not come to the file: {counts}"
            evil = one if not (one / "mal").exists() or (one / "mal").stat().st_ino != inode else other
            target = evil / "mal"
            target.write_bytes(b"evil")
            job = rig.quarantine_job(os.fsencode(target), id_from_cause(NOON_NS, "race", str(number)))
            claim = action.bind(job, rig.host)
            with swapper:
                try:
                    said = action.execute(job, claim, rig.host).code.rpartition("_error_")[2]
                except WorkerError as error:
                    said = reason_of(error)
            left = [place / "mal" for place in (one, other) if (place / "mal").exists()]
            kept = [path for path in left if path.stat().st_ino == inode]
            assert len(kept) == 1, f"round {number}: {said}: the protected file lost its name"
            assert kept[0].read_bytes() == b"precious", f"round {number}: {said}"
            counts["kept" if said.startswith("file_quarantine_success") else said] += 1
            for path in top.glob("*/.douse-*"):  # a file whose directory was elsewhere when it was to be removed
                shutil.rmtree(path)
    finally:
        swapper.close()
    return counts
