"""How the log behaves behind its three ports: the same on the fake, the embedded broker and a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.contract.log_rigs import EmbeddedRig, FakeRig, RealRig, Rig
from tests.kafka.target import unique_topic
from workers.domain.errors import MalformedMessage, TransientFailure
from workers.domain.log.record import (
    Delivery,
    Earliest,
    Gap,
    Latest,
    LogPosition,
    Offset,
    OutRecord,
    Record,
    Since,
    Start,
)
from workers.domain.log.routing import murmur2
from workers.log.ports import Ack, GroupReader, LogReader, LogWriter

pytestmark = [pytest.mark.slow]

HOUR_NS = 3_600_000_000_000
NOON_NS = (time.time_ns() - 12 * HOUR_NS) // 1_000_000 * 1_000_000
"""In the past: a broker refuses records of the future, and removes old ones."""


@pytest.fixture(params=["fake", "embedded", "kafka"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made: Rig
    if request.param == "kafka":
        made = RealRig(request.getfixturevalue("kafka"), lambda: request.getfixturevalue("killable_kafka"))
    else:
        made = FakeRig() if request.param == "fake" else EmbeddedRig()
    yield made
    made.close()


@pytest.fixture
def needs(rig: Rig, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`needs("recreate")`: on a log that cannot, the test is expected to fail, for the rig's own reason."""

    def say(ability: str) -> None:
        if ability in rig.cannot:
            request.applymarker(pytest.mark.xfail(strict=True, reason=rig.cannot[ability]))

    return say


def write(writer: LogWriter, *records: OutRecord) -> list[Ack]:
    for token, record in enumerate(records):
        writer.send(record, token=token)
    acks: list[Ack] = []
    deadline = time.monotonic() + 60
    while len(acks) < len(records):
        assert time.monotonic() < deadline, f"{len(acks)} of {len(records)} acknowledged"
        acks += writer.acks(0.5)
    return sorted(acks, key=lambda ack: ack.token)


def numbered(topic: str, numbers: Sequence[int], *, partition: int = 0) -> list[OutRecord]:
    return [OutRecord(topic, b"key", b"%d" % number, partition=partition) for number in numbers]


def read(reader: LogReader | GroupReader, count: int, *, within_s: float = 40, limit: int = 500) -> list[Delivery]:
    """Poll until `count` deliveries are there, and once more to see that it was all."""
    found: list[Delivery] = []
    deadline = time.monotonic() + within_s
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} came: {found}"
        found += reader.poll(0.2, limit=limit)
    assert list(reader.poll(0.1)) == []
    return found


def settle(reader: GroupReader, *, within_s: float = 3) -> list[Delivery]:
    """Poll for a while: the group gives out its partitions, and nothing else may come."""
    found: list[Delivery] = []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found += reader.poll(0.2)
    return found


def values(deliveries: Sequence[Delivery]) -> list[bytes | None]:
    assert all(isinstance(delivery, Record) for delivery in deliveries), deliveries
    return [delivery.value for delivery in deliveries if isinstance(delivery, Record)]


def assigned(rig: Rig, topic: str, start: Start) -> LogReader:
    reader = rig.reader()
    reader.assign(dict.fromkeys(reader.partitions(topic), start))
    return reader


# --- LogReader -------------------------------------------------------------------------------------------------------


def test_partitions_are_named_by_one_log(rig: Rig) -> None:
    topic = rig.topic(3)
    found = rig.reader().partitions(topic)
    assert [(position.topic, position.partition) for position in found] == [(topic, 0), (topic, 1), (topic, 2)]
    assert len({position.log_id for position in found}) == 1
    assert found[0].log_id
    assert rig.reader().partitions(topic) == found


def test_an_unknown_topic_is_reported_and_not_created(rig: Rig) -> None:
    reader = rig.reader()
    name = unique_topic("never-made")
    for _ in range(2):
        with pytest.raises(TransientFailure) as caught:
            reader.partitions(name)
        assert caught.value.reason == "unknown_topic"


def test_a_record_comes_back_as_it_was_written(rig: Rig) -> None:
    topic = rig.topic(2)
    headers = (("traceparent", b"00-1"), ("traceparent", b"00-2"), ("empty", b""))
    write(rig.writer(), OutRecord(topic, b"\x00key", b"\xffvalue", headers, partition=1))
    (record,) = read(assigned(rig, topic, Earliest()), 1)
    assert isinstance(record, Record)
    assert (record.position.topic, record.position.partition, record.offset) == (topic, 1, 0)
    assert (record.key, record.value, record.headers) == (b"\x00key", b"\xffvalue", headers)


def test_a_tombstone_is_none_and_an_empty_value_is_empty(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), OutRecord(topic, b"k", None), OutRecord(topic, b"k", b""), OutRecord(topic, None, b"v"))
    found = read(assigned(rig, topic, Earliest()), 3)
    assert values(found) == [None, b"", b"v"]
    assert [record.key for record in found if isinstance(record, Record)] == [b"k", b"k", None]


def test_offsets_count_up_and_order_is_kept(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(3_000)))
    found = read(assigned(rig, topic, Earliest()), 3_000)
    assert values(found) == [b"%d" % number for number in range(3_000)]
    assert [record.offset for record in found if isinstance(record, Record)] == list(range(3_000))


def test_a_limit_is_kept_and_costs_nothing(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(25)))
    reader = assigned(rig, topic, Earliest())
    found: list[Delivery] = []
    deadline = time.monotonic() + 20
    while len(found) < 25 and time.monotonic() < deadline:
        some = reader.poll(0.2, limit=7)
        assert len(some) <= 7
        found += some
    assert values(found) == [b"%d" % number for number in range(25)]


def test_only_what_is_assigned_is_read(rig: Rig) -> None:
    topic = rig.topic(3)
    write(rig.writer(), *(OutRecord(topic, None, b"%d" % number, partition=number) for number in range(3)))
    reader = rig.reader()
    reader.assign({reader.partitions(topic)[1]: Earliest()})
    assert values(read(reader, 1)) == [b"1"]


def test_another_assignment_replaces_the_first(rig: Rig) -> None:
    topic, other = rig.topic(), rig.topic()
    write(rig.writer(), *numbered(topic, range(3)), *numbered(other, range(10, 12)))
    reader = assigned(rig, topic, Earliest())
    read(reader, 3)
    reader.assign(dict.fromkeys(reader.partitions(other), Earliest()))
    assert values(read(reader, 2)) == [b"10", b"11"]
    reader.assign(dict.fromkeys(reader.partitions(topic), Offset(1)))
    assert values(read(reader, 2)) == [b"1", b"2"]


def test_reading_starts_exactly_at_an_offset(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(10)))
    assert values(read(assigned(rig, topic, Offset(7)), 3)) == [b"7", b"8", b"9"]


def test_an_offset_right_behind_the_newest_record_is_no_gap(rig: Rig) -> None:
    topic = rig.topic()
    writer = rig.writer()
    write(writer, *numbered(topic, range(2)))
    reader = assigned(rig, topic, Offset(2))
    assert list(reader.poll(0.3)) == []
    write(writer, *numbered(topic, [2]))
    assert values(read(reader, 1)) == [b"2"]


def test_latest_means_from_the_assignment_on(rig: Rig) -> None:
    topic = rig.topic()
    writer = rig.writer()
    write(writer, *numbered(topic, range(2)))
    reader = assigned(rig, topic, Latest())
    write(writer, *numbered(topic, [2]))
    assert values(read(reader, 1)) == [b"2"]


def test_since_finds_the_first_record_that_is_not_older(rig: Rig, needs: Callable[[str], None]) -> None:
    needs("find_by_time")
    topic = rig.topic()
    for hour in range(4):
        rig.append_at(topic, b"%d" % hour, NOON_NS + hour * HOUR_NS)
    assert values(read(assigned(rig, topic, Since(NOON_NS + HOUR_NS)), 3)) == [b"1", b"2", b"3"]
    assert values(read(assigned(rig, topic, Since(NOON_NS + HOUR_NS + 1)), 2)) == [b"2", b"3"]


def test_since_a_moment_after_all_records_begins_behind_them(rig: Rig, needs: Callable[[str], None]) -> None:
    needs("find_by_time")
    topic = rig.topic()
    rig.append_at(topic, b"old", NOON_NS)
    reader = assigned(rig, topic, Since(NOON_NS + HOUR_NS))
    assert list(reader.poll(0.3)) == []
    write(rig.writer(), *numbered(topic, [1]))
    assert values(read(reader, 1)) == [b"1"]


def test_since_never_leaves_out_a_record_that_is_young_enough(rig: Rig) -> None:
    topic = rig.topic()
    rig.append_at(topic, b"young", NOON_NS)
    assert values(read(assigned(rig, topic, Since(NOON_NS - HOUR_NS)), 1)) == [b"young"]


def test_since_in_an_empty_partition_waits_for_the_first_record(rig: Rig) -> None:
    topic = rig.topic()
    reader = assigned(rig, topic, Since(NOON_NS))
    write(rig.writer(), *numbered(topic, [1]))
    assert values(read(reader, 1)) == [b"1"]


def test_records_that_retention_took_are_a_gap(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(5)))
    rig.expire(topic, below=3)
    gap, first, *_ = read_some(assigned(rig, topic, Offset(1)), 2)
    assert isinstance(gap, Gap)
    assert (gap.position.topic, gap.expected, gap.reason) == (topic, 1, "log_expired")
    assert gap.resumed_at >= 3
    assert isinstance(first, Record)
    assert first.offset == gap.resumed_at


def test_a_reader_that_falls_behind_retention_gets_a_gap(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(5)))
    reader = assigned(rig, topic, Earliest())
    assert len(read(reader, 5)) == 5
    reader.assign({reader.partitions(topic)[0]: Offset(2)})
    read(reader, 3)
    rig.expire(topic, below=5)
    reader.assign({reader.partitions(topic)[0]: Offset(4)})
    assert isinstance(read_some(reader, 1)[0], Gap)


def test_an_offset_the_log_does_not_have_yet_is_a_gap_and_everything_is_read(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(3)))
    gap, *records = read(assigned(rig, topic, Offset(100)), 4)
    assert isinstance(gap, Gap)
    assert (gap.expected, gap.resumed_at, gap.reason) == (100, 0, "log_shorter")
    assert values(records) == [b"0", b"1", b"2"]


def test_a_gap_of_one_partition_costs_the_others_nothing(rig: Rig) -> None:
    topic = rig.topic(2)
    write(rig.writer(), *numbered(topic, range(50)), *numbered(topic, range(50, 100), partition=1))
    reader = rig.reader()
    lost, whole = reader.partitions(topic)
    reader.assign({lost: Offset(500), whole: Earliest()})
    found = read(reader, 101)
    assert [delivery.position for delivery in found if isinstance(delivery, Gap)] == [lost]
    records = [delivery for delivery in found if isinstance(delivery, Record)]
    assert values([record for record in records if record.position == lost]) == [b"%d" % n for n in range(50)]
    assert values([record for record in records if record.position == whole]) == [b"%d" % n for n in range(50, 100)]


def test_a_gap_found_while_the_log_becomes_unreachable_is_reported_when_it_is_back(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(3)))
    reader = assigned(rig, topic, Offset(100))
    rig.down()
    until_failure(lambda: no_record(reader.poll(0.2)))
    rig.up()
    gap, *records = read_through_failures(reader, 4)
    assert isinstance(gap, Gap)
    assert (gap.expected, gap.resumed_at) == (100, 0)
    assert values(records) == [b"0", b"1", b"2"]


def test_a_recreated_topic_is_another_log_and_a_gap(rig: Rig, needs: Callable[[str], None]) -> None:
    needs("recreate")
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(3)))
    reader = assigned(rig, topic, Earliest())
    read(reader, 3)
    (before,) = reader.partitions(topic)
    rig.recreate(topic)
    write(rig.writer(), *numbered(topic, range(10, 12)))
    (after,) = reader.partitions(topic)
    assert after.log_id != before.log_id
    gap, *records = read(reader, 3)
    assert gap == Gap(before, 3, 0, "log_replaced")
    assert values(records) == [b"10", b"11"]
    assert {record.position for record in records} == {after}


def test_every_partition_of_a_recreated_topic_is_another_log_whatever_it_holds_by_then(
    rig: Rig, needs: Callable[[str], None]
) -> None:
    """One ends where the old one was read to, one grows past that, one was read and stays empty, one never held any."""
    needs("recreate")
    topic = rig.topic(4)
    old = [record for partition in range(3) for record in numbered(topic, range(3), partition=partition)]
    write(rig.writer(), *old)
    reader = assigned(rig, topic, Earliest())
    assert len(read(reader, 9)) == 9
    before = set(reader.partitions(topic))
    rig.recreate(topic, 4)
    write(rig.writer(), *numbered(topic, range(20, 23)), *numbered(topic, range(10, 16), partition=1))
    wanted = {b"%d" % number for number in (*range(10, 16), *range(20, 23))}
    gaps: set[LogPosition] = set()
    came: set[bytes | None] = set()
    deadline = time.monotonic() + 60
    while came != wanted or gaps != before:
        assert time.monotonic() < deadline, (came, gaps)
        for found in reader.poll(0.2):
            if isinstance(found, Gap):
                gaps.add(found.position)
            elif found.position not in before:  # what outgrew the old one may come under its name first, and again
                came.add(found.value)


def test_an_unreachable_log_is_reported_and_reading_continues_by_itself(rig: Rig) -> None:
    topic = rig.topic()
    writer = rig.writer()
    write(writer, *numbered(topic, range(2)))
    reader = assigned(rig, topic, Earliest())
    assert len(read(reader, 2)) == 2
    rig.down()
    until_failure(lambda: reader.poll(0.2))
    rig.up()
    write(writer, *numbered(topic, range(2, 4)))
    assert values(read_through_failures(reader, 2)) == [b"2", b"3"]


def test_an_unreachable_log_does_not_flood_the_log_lines(rig: Rig) -> None:
    topic = rig.topic()
    reader = assigned(rig, topic, Earliest())
    reader.poll(0.2)
    rig.down()
    for _ in range(15):
        until_failure(lambda: reader.poll(0.2))
    rig.up()
    assert len(rig.telemetry.lines) <= 12, rig.telemetry.lines


def test_questions_to_an_unreachable_log_fail_as_transient(rig: Rig) -> None:
    topic = rig.topic()
    reader = rig.reader()
    positions = reader.partitions(topic)
    rig.down()
    with pytest.raises(TransientFailure):
        reader.partitions(topic)
    with pytest.raises(TransientFailure):
        reader.assign(dict.fromkeys(positions, Earliest()))
    rig.up()


def test_a_reader_can_be_closed_twice(rig: Rig) -> None:
    reader = assigned(rig, rig.topic(), Earliest())
    reader.poll(0.0)
    reader.close()
    reader.close()


# --- LogWriter -------------------------------------------------------------------------------------------------------


def test_an_ack_holds_the_position_of_the_record(rig: Rig) -> None:
    topic = rig.topic(3)
    acks = write(rig.writer(), *numbered(topic, [1, 2], partition=2))
    assert all(ack.ok for ack in acks)
    assert [ack.offset for ack in acks] == [0, 1]
    assert [(ack.position.topic, ack.position.partition) for ack in acks if ack.position] == [(topic, 2)] * 2


def test_a_key_decides_the_partition_as_in_every_other_kafka_client(rig: Rig) -> None:
    topic = rig.topic(5)
    keys = [b"%032x" % number for number in range(20)]
    acks = write(rig.writer(), *(OutRecord(topic, key, b"v") for key in keys))
    found = [ack.position.partition for ack in acks if ack.position]
    assert found == [(murmur2(key) & 0x7FFFFFFF) % 5 for key in keys]


def test_a_record_of_nearly_the_limit_travels_and_a_larger_one_is_refused_at_once(rig: Rig) -> None:
    topic = rig.topic()
    writer = rig.writer()
    large = bytes(rig.max_bytes - 200)
    assert write(writer, OutRecord(topic, b"k", large))[0].ok
    with pytest.raises(MalformedMessage) as caught:
        writer.send(OutRecord(topic, b"k", bytes(rig.max_bytes + 1)), token=2)
    assert caught.value.reason == "oversize"
    write(writer, OutRecord(topic, b"k", b"small"))
    assert values(read(assigned(rig, topic, Earliest()), 2)) == [large, b"small"]


def test_flush_waits_until_all_is_acknowledged(rig: Rig) -> None:
    topic = rig.topic()
    writer = rig.writer()
    for token, record in enumerate(numbered(topic, range(500))):
        writer.send(record, token=token)
    assert writer.flush(30) == 0
    assert sorted(ack.token for ack in writer.acks()) == list(range(500))
    assert list(writer.acks(0.1)) == []


def test_records_sent_while_the_log_is_unreachable_arrive_once_and_in_order(rig: Rig) -> None:
    topic = rig.topic()
    writer = rig.writer()
    write(writer, *numbered(topic, range(2)))
    rig.down()
    for token, record in enumerate(numbered(topic, range(2, 100))):
        writer.send(record, token=token)
    assert list(writer.acks(0.3)) == []
    assert writer.flush(0.1) == 98
    rig.up()
    assert writer.flush(40) == 0
    assert all(ack.ok for ack in writer.acks())
    assert values(read(assigned(rig, topic, Earliest()), 100)) == [b"%d" % number for number in range(100)]


def test_a_record_for_an_unknown_topic_fails_with_its_reason(rig: Rig, needs: Callable[[str], None]) -> None:
    needs("refuse_unknown_topics")
    (ack,) = write(rig.writer(), OutRecord(unique_topic("never-made"), b"k", b"v"))
    assert not ack.ok
    assert ack.error == "unknown_topic"


def test_a_writer_can_be_closed_twice(rig: Rig) -> None:
    writer = rig.writer()
    writer.close()
    writer.close()


# --- GroupReader -----------------------------------------------------------------------------------------------------


def test_a_new_group_starts_at_the_given_start(rig: Rig) -> None:
    topic = rig.topic(2)
    write(rig.writer(), *numbered(topic, range(3)))
    reader = rig.group_reader(unique_topic("group"))
    reader.subscribe([topic], fresh=Earliest())
    assert values(read(reader, 3)) == [b"0", b"1", b"2"]


def test_a_new_group_can_start_with_what_is_new(rig: Rig) -> None:
    topic = rig.topic()
    writer = rig.writer()
    write(writer, *numbered(topic, range(3)))
    reader = rig.group_reader(unique_topic("group"))
    reader.subscribe([topic], fresh=Latest())
    assert settle(reader, within_s=5) == []
    write(writer, *numbered(topic, [3]))
    assert values(read(reader, 1)) == [b"3"]


def test_a_group_continues_from_what_it_committed(rig: Rig) -> None:
    topic = rig.topic()
    group = unique_topic("group")
    write(rig.writer(), *numbered(topic, range(6)))
    first = rig.group_reader(group)
    first.subscribe([topic], fresh=Earliest())
    deadline = time.monotonic() + 30
    polled: list[Delivery] = []
    while len(polled) < 4:
        assert time.monotonic() < deadline
        polled += first.poll(0.2, limit=4 - len(polled))
    first.commit()
    first.commit()
    assert values(read(first, 2)) == [b"4", b"5"]
    first.close()
    second = rig.group_reader(group)
    second.subscribe([topic], fresh=Latest())
    assert values(read(second, 2)) == [b"4", b"5"]


def test_two_members_share_the_partitions_and_the_last_one_left_has_all(rig: Rig) -> None:
    topic = rig.topic(4)
    group = unique_topic("group")
    writer = rig.writer()
    first, second = rig.group_reader(group), rig.group_reader(group)
    first.subscribe([topic], fresh=Earliest())
    settle(first)
    second.subscribe([topic], fresh=Earliest())
    deadline = time.monotonic() + 60
    shares: dict[GroupReader, set[LogPosition]] = {first: set(), second: set()}
    number = 0
    while not (shares[first] and shares[second] and not shares[first] & shares[second]):
        assert time.monotonic() < deadline, shares
        write(writer, *(OutRecord(topic, None, b"%d" % number, partition=partition) for partition in range(4)))
        number += 1
        for reader in (first, second):
            got = {delivery.position for delivery in reader.poll(0.2)}
            shares[reader] = got or shares[reader]
            commit_if_it_can(reader)
    second.close()
    seen: set[LogPosition] = set()
    while len(seen) < 4:
        assert time.monotonic() < deadline + 60, seen
        write(writer, *(OutRecord(topic, None, b"last", partition=partition) for partition in range(4)))
        seen |= {delivery.position for delivery in first.poll(0.2)}


def test_a_committed_offset_that_retention_took_is_a_gap(rig: Rig) -> None:
    topic = rig.topic()
    group = unique_topic("group")
    write(rig.writer(), *numbered(topic, range(5)))
    first = rig.group_reader(group)
    first.subscribe([topic], fresh=Earliest())
    polled: list[Delivery] = []
    while not polled:
        polled += first.poll(0.2, limit=1)
    first.commit()
    first.close()
    rig.expire(topic, below=4)
    second = rig.group_reader(group)
    second.subscribe([topic], fresh=Latest())
    gap, record, *_ = read_some(second, 2)
    assert isinstance(gap, Gap)
    assert (gap.expected, gap.reason) == (1, "log_expired")
    assert isinstance(record, Record)
    assert record.offset == gap.resumed_at


def test_committing_to_an_unreachable_log_fails_and_can_be_repeated(rig: Rig) -> None:
    topic = rig.topic()
    write(rig.writer(), *numbered(topic, range(2)))
    reader = rig.group_reader(unique_topic("group"))
    reader.subscribe([topic], fresh=Earliest())
    read(reader, 2)
    rig.down()
    with pytest.raises(TransientFailure):
        reader.commit()
    rig.up()
    deadline = time.monotonic() + 40
    while not commit_if_it_can(reader):
        assert time.monotonic() < deadline
        until_quiet(reader)


def test_a_member_can_be_closed_twice(rig: Rig) -> None:
    reader = rig.group_reader(unique_topic("group"))
    reader.subscribe([rig.topic()], fresh=Earliest())
    reader.poll(0.1)
    reader.close()
    reader.close()


# --- patience --------------------------------------------------------------------------------------------------------


def read_some(reader: LogReader | GroupReader, count: int, *, within_s: float = 40) -> list[Delivery]:
    """Poll until at least `count` deliveries are there."""
    found: list[Delivery] = []
    deadline = time.monotonic() + within_s
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} came"
        found += reader.poll(0.2)
    return found


def read_through_failures(reader: LogReader, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    deadline = time.monotonic() + 40
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} came"
        try:
            found += reader.poll(0.2)
        except TransientFailure:
            continue
    return found


def no_record(deliveries: Sequence[Delivery]) -> None:
    assert list(deliveries) == []


def until_failure(action: Callable[[], object]) -> None:
    deadline = time.monotonic() + 40
    while True:
        assert time.monotonic() < deadline, "it never failed"
        try:
            action()
        except TransientFailure:
            return


def until_quiet(reader: GroupReader) -> None:
    try:
        reader.poll(0.2)
    except TransientFailure:
        return


def commit_if_it_can(reader: GroupReader) -> bool:
    try:
        reader.commit()
    except TransientFailure:
        return False
    return True
