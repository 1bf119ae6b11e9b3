"""No thread leaves a transaction, or returns what it read, before it is on the disk; threads share its syncs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from workers.domain.errors import PermanentFailure
from workers.store.sqlite.database import Database, Schema

SCHEMA = Schema(application_id=0x446F7574, migrations=(("CREATE TABLE words (word TEXT)",),))


def opened(tmp_path: Path, sync: Callable[[int], None]) -> Database:
    return Database(tmp_path / "data" / "words.sqlite", SCHEMA, reserve_bytes=0, sync=sync)


def write(database: Database, word: str, *, durable: bool = True) -> None:
    with database.transaction(durable=durable) as connection:
        connection.execute("INSERT INTO words VALUES (?)", (word,))


def words(database: Database) -> list[str]:
    with database.reading() as connection:
        return [row[0] for row in connection.execute("SELECT word FROM words")]


class SlowDisk:
    """Counts its syncs; from ``hold`` on they end only when they may."""

    def __init__(self) -> None:
        self.ended = 0
        self.began = Event()
        self.go_on = Event()
        self.go_on.set()

    def sync(self, _: int) -> None:
        self.began.set()
        assert self.go_on.wait(10)
        self.ended += 1

    def hold(self) -> int:
        """How many ended until now."""
        self.began.clear()
        self.go_on.clear()
        return self.ended


def test_a_reader_of_a_commit_that_is_on_its_way_to_the_disk_waits_with_it(tmp_path: Path) -> None:
    disk = SlowDisk()
    database = opened(tmp_path, disk.sync)
    before = disk.hold()
    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(write, database, "killed")
        assert disk.began.wait(10)
        reader = pool.submit(lambda: (words(database), disk.ended))
        time.sleep(0.05)
        assert not writer.done()
        assert not reader.done()
        disk.go_on.set()
        found, syncs = reader.result(10)
        writer.result(10)
    assert found == ["killed"]
    assert syncs > before
    database.close()


def test_reading_what_is_durable_does_not_touch_the_disk(tmp_path: Path) -> None:
    disk = SlowDisk()
    database = opened(tmp_path, disk.sync)
    write(database, "killed")
    write(database, "acknowledged", durable=False)
    before = disk.ended
    assert words(database) == ["killed", "acknowledged"]
    assert disk.ended == before
    database.close()


def test_eight_threads_share_the_syncs_of_their_commits(tmp_path: Path) -> None:
    count = 0

    def sync(_: int) -> None:
        nonlocal count
        count += 1
        time.sleep(0.02)  # long beside a commit, also on a busy machine

    database = opened(tmp_path, sync)
    first = count
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(write, database, str(number)) for number in range(200)]:
            each.result(30)
    assert len(words(database)) == 200
    assert count - first <= 100
    database.close()


def test_a_sync_that_fails_once_ends_every_promise(tmp_path: Path) -> None:
    broken = False

    def sync(descriptor: int) -> None:
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)

    database = opened(tmp_path, sync)
    write(database, "killed")
    broken = True
    for _ in range(2):
        with pytest.raises(PermanentFailure) as caught:
            write(database, "lost")
        assert caught.value.reason == "journal_io"
        broken = False
    database.close()
