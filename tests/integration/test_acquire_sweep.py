"""A fault in every single system call of an acquisition that changes a disk: one object at most, nothing half, and the
next start ends what was begun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drivers.acquire import KEY, AcquireRig
from workers.domain.outcome import Outcome
from workers.domain.targets.custody import custody_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_CALLS = ("fsync", "renameat", "rename", "renameat2", "mkdir", "unlinkat", "unlink", "linkat", "ftruncate", "pwrite64")
"""What the driver changes the disk with; which of them a Python build uses for one thing differs."""
_MOST = 60
"""Far above the calls of one run: a sweep that reaches it counts something else."""


def _driven(rig: Path, path: Path, *, call: str, inject: str, trace: Path) -> bool:
    """Run it with a fault; whether there was such a call."""
    command = [sys.executable, "-m", "tests.drivers.acquire", str(rig), str(path)]
    traced = ["strace", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{inject}"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*traced, *command], env=environment, capture_output=True, check=False, timeout=120)
    said = trace.read_text("utf-8", "replace")
    return "INJECTED" in said or "killed by SIGKILL" in said


def _stored(rig: AcquireRig) -> dict[str, bytes]:
    return {str(each.relative_to(rig.objects)): each.read_bytes() for each in rig.objects.rglob("*") if each.is_file()}


def _clear(rig: AcquireRig) -> None:
    """What the node's janitor does with what a crash left."""
    store = rig.host.objects
    assert store is not None
    for key in store.unfinished():
        store.give_up(key)


@pytest.mark.parametrize(
    "fault",
    [
        "signal=KILL",
        pytest.param("error=ENOSPC", marks=pytest.mark.faults),
        pytest.param("error=EIO", marks=pytest.mark.faults),
        pytest.param("error=EINTR", marks=pytest.mark.faults),
    ],
)
def test_a_fault_at_any_call_that_changes_the_disk_leaves_one_object_or_none(
    fault: str, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("strace", "it makes each system call fail")
    content, hit = os.urandom(20_000), 0
    for call in _CALLS:
        for nth in range(1, _MOST):
            site, where = tmp_path / f"{call}-{nth}", f"{fault} {call} {nth}"
            site.mkdir()
            path = site / "log"
            path.write_bytes(content)
            AcquireRig(site / "rig")  # its key is not part of what is swept
            reached = _driven(site / "rig", path, call=call, inject=f"{fault}:when={nth}", trace=site / "trace")
            rig = AcquireRig(site / "rig")
            found = _stored(rig) if rig.objects.exists() else {}
            whole = {name: data for name, data in found.items() if name in (KEY, custody_key(KEY))}
            assert whole.get(KEY, content) == content, f"{where}: half an object under its name"
            with path.open("ab") as file:
                file.write(b"one more line\n")
            answer = rig.acquire(os.fsencode(path))
            _clear(rig)
            after = _stored(rig)
            if fault == "signal=KILL" or not reached:
                assert answer.outcome in (Outcome.COMPLETED, Outcome.NO_ACTION), f"{where}: {answer}"
            if answer.outcome in (Outcome.COMPLETED, Outcome.NO_ACTION):
                assert set(after) == {KEY, custody_key(KEY)}, f"{where}: {sorted(after)}"
                assert after[KEY] in (content, content + b"one more line\n"), where
            else:
                assert KEY not in after or after[KEY] == content, where
            assert whole.items() <= after.items(), f"{where}: something was overwritten"
            assert path.read_bytes() == content + b"one more line\n", f"{where}: the file itself was touched"
            if not reached:
                break
            hit += 1
        else:
            pytest.fail(f"{call}: the sweep never came to its end")
    print(f"\nacquire {fault}: {hit} faults in system calls, at most one object each time, 0 half, 0 overwritten")
    assert hit >= 10, "the sweep did not reach the steps"
