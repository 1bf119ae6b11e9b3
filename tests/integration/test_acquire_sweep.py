"""A fault in every single system call of an acquisition that changes a disk: one object at most, nothing half, and the
next start ends what was begun."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drivers.acquire import KEY, AcquireRig
from tests.drivers.traced import TracedDriver, sweep
from workers.domain.outcome import Outcome
from workers.domain.targets.custody import custody_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_CALLS = ("fsync", "renameat", "rename", "renameat2", "mkdir", "unlinkat", "unlink", "linkat", "ftruncate", "pwrite64")
"""What the driver changes the disk with; which of them a Python build uses for one thing differs."""


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
    content = os.urandom(20_000)

    def once(call: str, nth: int) -> bool:
        site, where = tmp_path / f"{call}-{nth}", f"{fault} {call} {nth}"
        site.mkdir()
        path = site / "log"
        path.write_bytes(content)
        AcquireRig(site / "rig")  # its key is not part of what is swept
        reached = driver.run(str(site / "rig"), str(path), inject=f"{call}:{fault}:when={nth}").injected
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
        return reached

    with TracedDriver("tests.drivers.acquire", tmp_path) as driver:
        hit = sweep(_CALLS, once, most=60)
    print(f"\nacquire {fault}: {hit} faults in system calls, at most one object each time, 0 half, 0 overwritten")
    assert hit >= 10, "the sweep did not reach the steps"
