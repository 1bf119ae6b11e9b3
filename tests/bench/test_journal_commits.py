"""How fast the journal's file commits: one command a commit, and many."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fakes.chance import FakeRandomness
from workers.domain.ids import ExecutionId, LogId, NodeId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import LogPosition, OutRecord
from workers.store.journal import SqliteJournal

POSITION = LogPosition(LogId("log"), "response.commands.default", 0)


@pytest.mark.parametrize(("commits", "grouped"), [(3000, 1), (300, 20), (60, 200)])
def test_commits_per_second(tmp_path: Path, commits: int, grouped: int) -> None:
    """One commit is one CLAIMED intent as the node writes it: the entry, the offset, a result and an audit record."""
    journal = SqliteJournal(tmp_path / "journal.sqlite", node_id=NodeId("a" * 32), randomness=FakeRandomness())
    taken: list[float] = []
    began = time.perf_counter()
    for commit in range(commits):
        start = time.perf_counter()
        with journal.begin() as tx:
            for number in range(commit * grouped, (commit + 1) * grouped):
                execution_id = ExecutionId(f"01890000-0000-7000-8000-{number:012x}")
                tx.put(JournalEntry(execution_id, EntryState.CLAIMED, bytes(700), "0" * 64, number, number))
                tx.advance(POSITION, number + 1)
                for _ in range(2):
                    tx.next_record_no()
                    tx.publish(OutRecord("response.results", b"key", bytes(600), (("traceparent", bytes(55)),)))
        taken.append(time.perf_counter() - start)
        if commit % 10 == 9:
            journal.acknowledge([row.row_id for row in journal.outbox(limit=10_000)])
    total = time.perf_counter() - began
    taken.sort()
    print(
        f"\n{grouped} a commit: {commits / total:.0f} commits/s, {commits * grouped / total:.0f} commands/s, "
        f"p50 {taken[len(taken) // 2] * 1e3:.2f} ms, p99 {taken[len(taken) * 99 // 100] * 1e3:.2f} ms a commit"
    )
    assert len(journal.entries(EntryState.CLAIMED)) == commits * grouped
    journal.close()
