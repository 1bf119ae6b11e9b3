"""The journal's file on a real disk: killed at any instant, full, damaged, shared, exposed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.fakes.chance import FakeRandomness
from workers.domain.errors import ConfigError, InUse, LimitExceeded, PermanentFailure
from workers.domain.ids import ExecutionId, NodeId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import OutRecord
from workers.store.journal import SqliteJournal
from workers.store.ledger import SqliteLedger

NODE = NodeId("a" * 32)


def open_journal(path: Path, *, reserve_bytes: int = 1 << 20) -> SqliteJournal:
    return SqliteJournal(path, node_id=NODE, randomness=FakeRandomness(), reserve_bytes=reserve_bytes)


def commit(journal: SqliteJournal, number: int, *, size: int = 1000) -> None:
    """One command taken in, with the records that go with it."""
    execution_id = ExecutionId(f"01890000-0000-7000-8000-{number:012x}")
    with journal.begin() as tx:
        tx.put(JournalEntry(execution_id, EntryState.CLAIMED, bytes(size), "0" * 64, number, number))
        tx.publish(OutRecord("response.results", b"key", bytes(size)))


def commit_until_killed(path: Path) -> None:
    """The child's part of the kill test: prints each number only after its commit returned."""
    journal = open_journal(path)
    for number in count(len(journal.entries(EntryState.CLAIMED))):
        commit(journal, number)
        print(number, flush=True)


@pytest.mark.parametrize("round_", range(3))
def test_everything_reported_committed_survives_kill_9(tmp_path: Path, round_: int) -> None:
    path = tmp_path / "node" / "journal.sqlite"
    reported = -1
    for life in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import *; commit_until_killed(Path({str(path)!r}))"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        for _ in range(37 + 61 * round_ + life):
            reported = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        printed, _ = child.communicate()
        reported = max([reported, *(int(line) for line in printed.splitlines(keepends=True) if line.endswith("\n"))])
    journal = open_journal(path)
    found = [entry.received_at_ns for entry in journal.entries(EntryState.CLAIMED)]
    assert found == list(range(len(found)))
    assert len(found) - 1 in (reported, reported + 1)
    assert len(journal.outbox(limit=100_000)) == len(found)
    journal.close()


def test_the_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "made" / "node" / "journal.sqlite"
    old = os.umask(0)
    try:
        journal = open_journal(path)
        commit(journal, 1)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        names = ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-mark")
        assert modes == dict.fromkeys(names, 0o600)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        journal.close()
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(old)


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "node"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod go-w"):
        open_journal(open_to_all / "journal.sqlite")


def test_a_link_instead_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "journal.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be used"):
        open_journal(tmp_path / "journal.sqlite")


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "journal.sqlite"
    other.write_bytes(b"certainly no database" * 100)
    other.chmod(0o600)
    with pytest.raises(ConfigError, match="is not a database"):
        open_journal(other)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", randomness=FakeRandomness())
    ledger.close()
    with pytest.raises(ConfigError, match="another kind of file"):
        open_journal(tmp_path / "ledger.sqlite")


def test_a_file_of_a_newer_version_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    open_journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ConfigError, match="newer version"):
        open_journal(path)


def test_a_damaged_file_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = open_journal(path, reserve_bytes=0)
    for number in range(200):
        commit(journal, number)
    journal.close()
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(os.urandom(40 * 4096))
    with pytest.raises(ConfigError, match=r"journal.sqlite: is damaged: .*move it, its -wal and its -mark away"):
        open_journal(path)


def test_a_second_opening_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    first = open_journal(path)
    with pytest.raises(InUse, match="in use") as caught:
        open_journal(path)
    assert caught.value.reason == "in_use"
    commit(first, 1)
    first.close()
    open_journal(path).close()


def test_the_node_id_is_the_one_it_was_created_with(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    open_journal(path).close()
    again = SqliteJournal(path, node_id=NodeId("b" * 32), randomness=FakeRandomness(5))
    assert again.node_id == NODE
    again.close()


def test_transactions_do_not_nest(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal.sqlite")
    with journal.begin() as tx:
        tx.raise_floor(1)
        with pytest.raises(RuntimeError, match="do not nest"), journal.begin():
            pass
    assert journal.floor_ns() == 1
    journal.close()


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[..., None]) -> Iterator[Path]:
    """A file system of 4 MiB."""
    require("root", "mounting a small tmpfs")
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def commit_until_full(journal: SqliteJournal, first: int) -> int:
    for number in range(first, first + 10_000):
        try:
            commit(journal, number)
        except LimitExceeded:
            return number
    pytest.fail("the disk never got full")


def test_a_full_disk_does_not_stop_the_journal_while_its_reserve_lasts(small_disk: Path) -> None:
    path = small_disk / "node" / "journal.sqlite"
    journal = open_journal(path, reserve_bytes=1 << 20)
    commit(journal, 0)
    filler = fill(small_disk)
    done = commit_until_full(journal, 1)
    # 1 MiB of reserve at 4 KiB to 8 KiB a command: the least that "never a kill" has to mean here.
    assert done >= 128
    for _ in range(3):  # full, and still neither broken nor wrong
        with pytest.raises(LimitExceeded) as full:
            commit(journal, 9_999)
        assert full.value.reason == "journal_full"
    assert len(journal.entries(EntryState.CLAIMED)) == done
    filler.unlink()
    commit(journal, done)
    assert len(journal.entries(EntryState.CLAIMED)) == done + 1
    journal.close()


def test_a_full_disk_does_not_stop_a_restart(small_disk: Path) -> None:
    path = small_disk / "node" / "journal.sqlite"
    journal = open_journal(path, reserve_bytes=1 << 20)
    commit(journal, 0)
    journal.close()
    fill(small_disk)
    again = open_journal(path, reserve_bytes=1 << 20)
    assert commit_until_full(again, 1) >= 100
    again.close()


def test_without_a_reserve_a_full_disk_loses_nothing_and_mends_itself(small_disk: Path) -> None:
    path = small_disk / "node" / "journal.sqlite"
    journal = open_journal(path, reserve_bytes=0)
    filler = fill(small_disk)
    done = commit_until_full(journal, 0)
    filler.unlink()
    commit(journal, done)
    journal.close()
    again = open_journal(path, reserve_bytes=0)
    assert len(again.entries(EntryState.CLAIMED)) == done + 1
    again.close()


def commit_past_a_failing_disk(path: Path) -> None:
    """The child's part of the next test: continues where a careless caller would, and prints each answer."""
    journal = open_journal(path, reserve_bytes=0)
    print("opened", flush=True)
    for number in range(12):
        try:
            commit(journal, number)
        except PermanentFailure as failure:
            print(failure.reason, flush=True)
        else:
            print(number, flush=True)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_after_an_io_error_nothing_is_written_any_more(tmp_path: Path, call: str, require: Callable[..., None]) -> None:
    require("strace", "it makes a disk fail at will")
    path = tmp_path / "journal.sqlite"
    open_journal(path, reserve_bytes=0).close()
    child = [sys.executable, "-c", f"from {__name__} import *; commit_past_a_failing_disk(Path({str(path)!r}))"]
    inject = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"inject={call}:error=EIO:when=9"]
    printed = subprocess.run([*inject, *child], capture_output=True, text=True, check=True).stdout.split()
    assert printed[0] == "opened"
    reported = [int(word) for word in printed[1:] if word.isdigit()]
    failed = printed[1 + len(reported) :]
    assert failed, "the disk never failed"
    assert failed == ["journal_io"] * len(failed)
    assert len(reported) + len(failed) == 12
    again = open_journal(path, reserve_bytes=0)
    found = [entry.received_at_ns for entry in again.entries(EntryState.CLAIMED)]
    # The one commit that failed may be there or not: its caller may assume nothing.
    assert found in (reported, [*reported, len(reported)])
    again.close()
