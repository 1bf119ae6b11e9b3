"""The broker in memory keeps the words of the ports; what it shares with real brokers is in tests/contract."""

from __future__ import annotations

import pytest

from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock
from workers.domain.errors import TransientFailure
from workers.domain.log.record import Earliest, Gap, Offset, OutRecord, Record, Since
from workers.log.ports import GroupReader, LogReader, LogWriter


def test_its_clients_are_the_ports() -> None:
    bus = FakeBus({"a": 1})
    ports: tuple[LogReader, GroupReader, LogWriter] = (bus.reader(), bus.group_reader("g"), bus.writer())
    assert len(ports) == 3


def test_a_record_sent_is_acknowledged_and_read() -> None:
    bus = FakeBus({"a": 2})
    writer, reader = bus.writer(), bus.reader()
    reader.assign(dict.fromkeys(reader.partitions("a"), Earliest()))
    writer.send(OutRecord("a", b"k", b"v", partition=1), token=7)
    assert reader.poll(0.0) == []
    (ack,) = writer.acks()
    assert (ack.token, ack.ok, ack.offset) == (7, True, 0)
    (delivery,) = reader.poll(0.0)
    assert isinstance(delivery, Record)
    assert (delivery.position.partition, delivery.offset, delivery.value) == (1, 0, b"v")


def test_nothing_is_acknowledged_while_it_is_down_and_nothing_is_lost() -> None:
    bus = FakeBus({"a": 1})
    writer, reader = bus.writer(), bus.reader()
    reader.assign(dict.fromkeys(reader.partitions("a"), Earliest()))
    bus.down()
    writer.send(OutRecord("a", None, b"v"), token=1)
    assert writer.acks() == []
    assert writer.flush(1.0) == 1
    with pytest.raises(TransientFailure):
        reader.poll(0.0)
    bus.up()
    assert [ack.token for ack in writer.acks()] == [1]
    assert len(reader.poll(0.0)) == 1


def test_a_recreated_topic_is_another_log() -> None:
    bus = FakeBus({"a": 1})
    reader = bus.reader()
    (before,) = reader.partitions("a")
    bus.append(OutRecord("a", None, b"old"))
    reader.assign({before: Offset(1)})
    bus.create_topic("a", 1)
    bus.append(OutRecord("a", None, b"new"))
    (after,) = reader.partitions("a")
    assert after.log_id != before.log_id
    gap, record = reader.poll(0.0)
    assert gap == Gap(before, 1, 0, "log_replaced")
    assert isinstance(record, Record)
    assert record.position == after


def test_a_send_can_fail_and_be_in_the_log_all_the_same() -> None:
    bus = FakeBus({"a": 1})
    writer = bus.writer()
    bus.fail_next.append(("timed_out", True))
    writer.send(OutRecord("a", None, b"v"), token=1)
    (ack,) = writer.acks()
    assert not ack.ok
    assert bus.values("a") == [b"v"]


def test_since_counts_by_the_clock_it_was_given() -> None:
    clock = FakeClock()
    bus = FakeBus({"a": 1}, clock=clock)
    bus.append(OutRecord("a", None, b"old"))
    clock.advance(60)
    bus.append(OutRecord("a", None, b"new"))
    reader = bus.reader()
    reader.assign({reader.partitions("a")[0]: Since(clock.now_ns() - 1)})
    assert [record.value for record in reader.poll(0.0) if isinstance(record, Record)] == [b"new"]


def test_members_of_a_group_share_the_partitions_and_a_late_commit_of_revoked_ones_is_ignored() -> None:
    bus = FakeBus({"a": 2})
    first, second = bus.group_reader("g"), bus.group_reader("g")
    first.subscribe(["a"], fresh=Earliest())
    for partition in (0, 1):
        bus.append(OutRecord("a", None, b"v", partition=partition))
    assert len(first.poll(0.0)) == 2
    second.subscribe(["a"], fresh=Earliest())
    first.commit()
    assert len(first.poll(0.0)) == 1
    assert len(second.poll(0.0)) == 1
