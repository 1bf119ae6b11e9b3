"""A fault in every single system call with which the journal changes its disk: what was reported durable is there, in
order, and nothing is there that nobody wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drivers.journal import COMMITS
from tests.drivers.traced import TracedDriver, sweep
from tests.integration.test_journal_file import commit, open_journal
from workers.domain.journal_entry import EntryState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink")
"""What SQLite changes a disk with."""


@pytest.mark.parametrize(
    "fault",
    [
        "signal=KILL",
        pytest.param("error=ENOSPC", marks=pytest.mark.faults),
        pytest.param("error=EIO", marks=pytest.mark.faults),
        pytest.param("error=EINTR", marks=pytest.mark.faults),
    ],
)
def test_a_fault_at_any_call_that_changes_the_disk_costs_nothing_that_was_reported(
    fault: str, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("strace", "it makes each system call fail")

    def once(call: str, nth: int) -> bool:
        where, path = f"{fault} {call} {nth}", tmp_path / f"{call}-{nth}" / "journal.sqlite"
        open_journal(path, reserve_bytes=0).close()
        run = driver.run(str(path), inject=f"{call}:{fault}:when={nth}")
        reported = [int(word) for word in run.output.split() if word.isdigit()]
        journal = open_journal(path, reserve_bytes=0)
        found = [entry.received_at_ns for entry in journal.entries(EntryState.CLAIMED)]
        rows = len(journal.outbox(limit=100))
        commit(journal, 99)
        journal.close()
        assert found == sorted(found), where
        assert set(reported) <= set(found) <= set(range(COMMITS)), f"{where}: {run.output}, found {found}"
        assert len(found) <= len(reported) + 1, f"{where}: {run.output}, found {found}"
        assert rows == len(found), f"{where}: half a commit"
        assert run.injected or reported == list(range(COMMITS)), f"{where}: {run.output}"
        return run.injected

    with TracedDriver("tests.drivers.journal", tmp_path) as driver:
        hit = sweep(_CALLS, once, most=80)
    print(f"\njournal {fault}: {hit} faults in system calls, reported commits lost 0, half 0")
    assert hit >= 10, "the sweep did not reach the commits"
