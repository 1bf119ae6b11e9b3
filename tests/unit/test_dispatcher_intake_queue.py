"""In which order what was read is taken in."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from workers.dispatcher.intake_queue import AT_ONCE, MOST, IntakeQueue
from workers.domain.ids import LogId
from workers.domain.log import topics
from workers.domain.log.record import Delivery, LogPosition, Record

TOPICS = (topics.REQUESTS_PEOPLE, topics.REQUESTS_RULES, topics.RESULTS, topics.NODES)


def records(topic: str, count: int, *, first: int = 0) -> list[Delivery]:
    position = LogPosition(LogId("log"), topic, 0)
    return [Record(position, offset, b"", b"") for offset in range(first, first + count)]


def taken_in(waiting: IntakeQueue) -> list[Delivery]:
    found = waiting.next()
    waiting.taken(found)
    return list(found)


def test_a_person_waits_for_one_commit_of_a_storm_and_no_more() -> None:
    waiting = IntakeQueue()
    waiting.add(records(topics.REQUESTS_RULES, 10 * AT_ONCE))
    begun = waiting.next()
    waiting.add(records(topics.REQUESTS_PEOPLE, 1))
    waiting.taken(begun)
    assert taken_in(waiting)[0].position.topic == topics.REQUESTS_PEOPLE


def test_what_was_not_taken_comes_again() -> None:
    waiting = IntakeQueue()
    waiting.add(records(topics.RESULTS, 3))
    assert waiting.next() == waiting.next()
    assert len(waiting) == 3


def test_it_holds_no_more_than_its_capacity() -> None:
    waiting = IntakeQueue()
    waiting.add(records(topics.REQUESTS_RULES, MOST - 1))
    assert waiting.capacity == 1
    waiting.add(records(topics.REQUESTS_PEOPLE, 5))
    assert waiting.capacity == 0
    waiting.clear()
    assert (len(waiting), waiting.capacity) == (0, MOST)


@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(1, 150)), max_size=8))
def test_everything_comes_once_and_nothing_overtakes_within_its_topic(reads: list[tuple[str, int]]) -> None:
    waiting, ends, came = IntakeQueue(), defaultdict[str, int](int), defaultdict[str, list[int]](list)
    for topic, count in reads:
        waiting.add(records(topic, count, first=ends[topic]))
        ends[topic] += count
        for record in taken_in(waiting):
            assert isinstance(record, Record)
            came[record.position.topic].append(record.offset)
    while waiting:
        for record in taken_in(waiting):
            assert isinstance(record, Record)
            came[record.position.topic].append(record.offset)
    assert came == {topic: list(range(end)) for topic, end in ends.items()}
