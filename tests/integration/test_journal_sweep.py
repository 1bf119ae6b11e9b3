"""A fault in every single system call with which the journal changes its disk: what was reported durable is there, in
order, and nothing is there that nobody wrote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_journal_file import commit, open_journal
from workers.domain.errors import WorkerError
from workers.domain.journal_entry import EntryState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink")
"""What SQLite changes a disk with."""
_COMMITS = 4
_MOST = 80
"""Far above the calls of one run: a sweep that reaches it counts something else."""


def commits(path: Path) -> None:
    """The child's part: says each number only after its commit returned, and goes on past what fails."""
    journal = open_journal(path, reserve_bytes=0)
    for number in range(_COMMITS):
        try:
            commit(journal, number)
        except WorkerError as error:
            print(error.reason, flush=True)
        else:
            print(number, flush=True)
    journal.close()


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
    hit = 0
    for call in _CALLS:
        for nth in range(1, _MOST):
            where = f"{fault} {call} {nth}"
            path, trace = tmp_path / f"{call}-{nth}" / "journal.sqlite", tmp_path / f"{call}-{nth}.trace"
            open_journal(path, reserve_bytes=0).close()
            child = [sys.executable, "-c", f"from {__name__} import *; commits(Path({str(path)!r}))"]
            inject = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={nth}"]
            traced = ["strace", "-qq", "-o", str(trace), *inject, *child]
            said = subprocess.run(traced, capture_output=True, text=True, check=False, timeout=60).stdout.split()
            reported = [int(word) for word in said if word.isdigit()]
            journal = open_journal(path, reserve_bytes=0)
            found = [entry.received_at_ns for entry in journal.entries(EntryState.CLAIMED)]
            rows = len(journal.outbox(limit=100))
            commit(journal, 99)
            journal.close()
            assert found == sorted(found), where
            assert set(reported) <= set(found) <= set(range(_COMMITS)), f"{where}: said {said}, found {found}"
            assert len(found) <= len(reported) + 1, f"{where}: said {said}, found {found}"
            assert rows == len(found), f"{where}: half a commit"
            told = trace.read_text("utf-8", "replace")
            if "INJECTED" not in told and "killed by SIGKILL" not in told:
                assert reported == list(range(_COMMITS)), f"{where}: said {said}"
                break
            hit += 1
        else:
            pytest.fail(f"{call}: the sweep never came to its end")
    print(f"\njournal {fault}: {hit} faults in system calls, reported commits lost 0, half 0")
    assert hit >= 10, "the sweep did not reach the commits"
