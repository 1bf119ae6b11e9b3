"""Threads that wait for the disk together: one sync for many commits, none too early, none after a failure."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from workers.store.sqlite.group_sync import GroupSync


class Disk:
    """A disk whose syncs last until the test lets them end."""

    def __init__(self) -> None:
        self.written = 0
        self.durable = 0
        self.syncs = 0
        self.began = Event()
        self.go_on = Event()
        self.error: OSError | None = None

    def sync(self) -> None:
        seen = self.written
        self.syncs += 1
        self.began.set()
        assert self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        self.durable = seen


def test_a_commit_during_a_sync_waits_for_the_next_one_and_all_share_it() -> None:
    disk = Disk()
    group = GroupSync(disk.sync, lambda: disk.written)
    with ThreadPoolExecutor(9) as pool:
        disk.written = 1
        first = pool.submit(group.reach, 1)
        assert disk.began.wait(10)
        disk.written = 9
        ready = Barrier(9)

        def late(number: int) -> int:
            ready.wait(10)
            group.reach(number)
            return disk.durable

        others = [pool.submit(late, number) for number in range(2, 10)]
        ready.wait(10)
        assert not first.done()
        disk.go_on.set()
        first.result(10)
        assert [other.result(10) for other in others] == [9] * 8
    assert disk.syncs == 2


def test_what_is_durable_already_costs_nothing() -> None:
    disk = Disk()
    disk.go_on.set()
    group = GroupSync(disk.sync, lambda: disk.written)
    disk.written = 5
    group.reach(3)
    for number in range(6):
        group.reach(number)
    assert disk.syncs == 1


def test_after_a_failed_sync_nothing_is_reported_durable_any_more() -> None:
    disk = Disk()
    disk.go_on.set()
    group = GroupSync(disk.sync, lambda: disk.written)
    disk.written = 1
    disk.error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        group.reach(1)
    disk.error = None
    disk.written = 2
    with pytest.raises(OSError, match="Input/output"):
        group.reach(2)
    assert disk.syncs == 1
