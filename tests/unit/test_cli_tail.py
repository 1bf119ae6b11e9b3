"""Reading the log as an audit consumer: every record is shown with whether it verified."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given

from tests import strategies
from tests.fakes.bus import FakeBus
from tests.fakes.codec import FakeCodec
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from tests.stories import Story, event, heartbeat
from workers.cli import tail
from workers.cli.tail import From, Stream
from workers.cli.tail_text import text_of
from workers.domain.log import topics
from workers.domain.log.record import Earliest, LogPosition, OutRecord, Record
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole
from workers.wire.event_reader import DetectorEvents
from workers.wiring.subscription import Listening

NODE_KEY = fake_key("a" * 32, KeyRole.NODE)
OPENER = FakeVerifier(fake_keyset(NODE_KEY))
SEALER = FakeSigner(NODE_KEY)
RESULT = Story(1).ended()


def shown(bus: FakeBus, stream: Stream, *, known: bool = True) -> list[dict[str, Any]]:
    """The rows of everything that is in the log now."""
    codec = FakeCodec()
    reader = bus.reader()
    source = Listening(reader, codec, DetectorEvents(codec, OPENER), OPENER if known else None)
    stop = threading.Event()
    rows = []
    high = sum(1 for _ in _everything(bus, stream))
    for row in tail._rows(source, stream, From.EARLIEST, stop):
        rows.append(row)
        if len(rows) == high:
            break
    return rows


def _everything(bus: FakeBus, stream: Stream) -> list[object]:
    reader = bus.reader()
    reader.assign({position: Earliest() for topic in tail._TOPICS[stream] for position in reader.partitions(topic)})
    return list(reader.poll(0.0, limit=1000))


def bus_with(topic: str, *values: bytes | None) -> FakeBus:
    bus = FakeBus({topic: 1} | {other: 1 for other in (topics.FALCO_EVENTS, topics.RUNTIME_EVENTS) if other != topic})
    for value in values:
        bus.append(OutRecord(topic, b"k", value))
    return bus


def test_a_verified_result_names_its_signer_and_shows_the_whole_record() -> None:
    value = SEALER.sign(PayloadType.RESULT, RESULT).value
    (row,) = shown(bus_with(topics.RESULTS, value), Stream.RESULTS)
    assert row["verified"] is True
    assert row["signer"] == {"key_id": NODE_KEY.key_id, "role": "node", "owner": "a" * 32}
    assert row["record"]["execution_id"] == RESULT.execution_id
    assert row["record"]["outcome"] == "COMPLETED"
    assert text_of(row).endswith("  verified")
    assert json.loads(json.dumps(row)) == row


def test_a_record_that_does_not_verify_is_shown_and_marked() -> None:
    foreign = FakeSigner(fake_key("b" * 32, KeyRole.NODE)).sign(PayloadType.RESULT, RESULT).value
    rows = shown(bus_with(topics.RESULTS, foreign, b"garbage", b"", None), Stream.RESULTS)
    assert [row["verified"] for row in rows] == [False] * 4
    for row in rows:
        assert "NOT VERIFIED" in text_of(row)
        json.dumps(row)


@pytest.mark.parametrize(
    ("stream", "topic", "kind", "record", "words"),
    [
        (Stream.AUDIT, topics.AUDIT, PayloadType.AUDIT, AuditRecord("c", 3, bytes(32), 1, "node", "intent"), "intent"),  # type: ignore[arg-type]
        (Stream.NODES, topics.NODES, PayloadType.NODE_STATE, heartbeat(1), "web-1"),
        (Stream.RESULTS, topics.RESULTS, PayloadType.RESULT, RESULT, "COMPLETED"),
    ],
)
def test_each_signed_stream_has_a_line_for_people(
    stream: Stream, topic: str, kind: PayloadType, record: object, words: str
) -> None:
    (row,) = shown(bus_with(topic, SEALER.sign(kind, record).value), stream)
    assert words in text_of(row)


def test_events_of_both_topics_are_read_and_only_signed_ones_are_called_verified() -> None:
    bus = bus_with(topics.RUNTIME_EVENTS, SEALER.sign(PayloadType.EVENT, event(1)).value)
    alert = {"rule": "R", "time": "2026-07-04T20:46:44Z", "hostname": "h"}
    bus.append(OutRecord(topics.FALCO_EVENTS, None, json.dumps(alert).encode()))
    rows = shown(bus, Stream.EVENTS)
    assert {row["record"]["rule"] for row in rows} == {"R", "Shell in container"}
    trust = {row["topic"]: text_of(row).rpartition("  ")[2] for row in rows}
    assert trust == {topics.RUNTIME_EVENTS: "verified", topics.FALCO_EVENTS: "unsigned"}


@given(strategies.results | strategies.audit_records | strategies.node_states | strategies.events)
def test_every_record_can_be_written_as_json(record: object) -> None:
    plain = tail._plain(record)
    assert isinstance(plain, Mapping)
    assert json.loads(json.dumps(plain)) == plain


def test_a_position_is_always_named() -> None:
    codec = FakeCodec()
    source = Listening(FakeBus().reader(), codec, DetectorEvents(codec, None), None)
    record = Record(LogPosition("l", topics.RESULTS, 3), 7, None, b"x")  # type: ignore[arg-type]
    row = tail._row(source, record)
    assert text_of(row).startswith("response.results/3@7  ")
