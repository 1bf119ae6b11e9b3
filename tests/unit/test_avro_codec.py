"""Records survive the wire exactly; whatever else arrives ends in one MalformedMessage, never in anything worse."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.independent_reader import IndependentReader
from tests.strategies import RECORDS, commands, events, records, targets
from workers.domain.command import ActionCommand
from workers.domain.errors import MalformedMessage
from workers.domain.event import RuntimeEvent
from workers.domain.ids import KeyId
from workers.domain.log.topology import Topology
from workers.domain.request import Actor, ActorKind
from workers.domain.result import ActionResult
from workers.domain.trust.envelope import MAX_ENVELOPE_BYTES, Envelope
from workers.wire.avro import AvroCodec
from workers.wire.avro.codec import MARKER
from workers.wire.avro.mapping import RECORDS as TRAVELLING
from workers.wire.avro.schemas import load_schemas

CODEC = AvroCodec()
READER = IndependentReader()


def _reason(data: bytes, as_: type = ActionCommand) -> str:
    with pytest.raises(MalformedMessage) as caught:
        CODEC.decode(data, as_)
    return caught.value.reason


def test_every_record_that_travels_has_a_strategy() -> None:
    assert set(RECORDS) == set(TRAVELLING)


@given(records)
def test_every_record_survives_the_wire_with_its_types(record: object) -> None:
    again = CODEC.decode(CODEC.encode(record), type(record))
    assert again == record
    # == takes True for 1 and a plain str for a StrEnum; the text does not.
    assert _plain(again) == _plain(record)


@settings(max_examples=20)
@given(commands)
def test_encoding_is_the_same_each_time(command: ActionCommand) -> None:
    assert CODEC.encode(command) == CODEC.encode(command)


@settings(max_examples=40)
@given(records.filter(lambda record: not isinstance(record, Envelope)))
def test_a_reader_with_only_fastavro_and_the_schema_file_reads_it(record: Any) -> None:
    wire = _independently(CODEC.encode(record))
    assert set(wire) == {field.name for field in dataclasses.fields(record)}


@settings(max_examples=20)
@given(records.filter(lambda record: not isinstance(record, Envelope)))
def test_that_reader_also_sees_what_is_inside_an_envelope(record: Any) -> None:
    payload = CODEC.encode(record)
    read = READER.read(CODEC.encode(Envelope("type", payload, KeyId("k" * 32), bytes(64))))
    assert (read.name, read.key_id) == (TRAVELLING[type(record)], "k" * 32)


@settings(max_examples=40)
@given(targets)
def test_exactly_one_field_of_a_target_is_set_on_the_wire(target: object) -> None:
    wire = _independently(CODEC.encode(_command(target=target)))["target"]
    assert [name for name, value in wire.items() if value is not None] == [
        type(target).__name__.removesuffix("Target").lower()
    ]


def test_a_class_without_a_schema_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="int"):
        CODEC.encode(3)


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"n": 1 << 63}},
        {"parameters": {"n": "\ud800"}},
        {"parameters": {"n": 1.5}},
        {"parameters": {"n": None}},
        {"reason": "\udfff"},
        {"issued_at_ns": 1 << 63},
        {"issued_at_ns": None},
        {"approvals": ("text",)},
    ],
    ids=str,
)
def test_content_that_cannot_travel_is_refused_as_unencodable(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage) as caught:
        CODEC.encode(_command(**changes))
    assert caught.value.reason == "unencodable"


@given(st.binary(max_size=200))
def test_junk_is_undecodable(data: bytes) -> None:
    assert _reason(data) == "undecodable"


@given(st.sampled_from(list(RECORDS)), st.binary(max_size=300))
def test_junk_behind_a_genuine_prefix_never_does_worse_than_malformed(cls: type, body: bytes) -> None:
    _survive(_prefix(cls) + body, cls)


@given(records, st.data())
def test_a_damaged_record_never_does_worse_than_malformed(record: object, data: st.DataObject) -> None:
    value = bytearray(CODEC.encode(record))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    _survive(bytes(value), type(record))


@settings(max_examples=60)
@given(records, st.data())
def test_a_truncated_record_is_undecodable(record: object, data: st.DataObject) -> None:
    value = CODEC.encode(record)
    cut = data.draw(st.integers(0, len(value) - 1))
    assert _reason(value[:cut], type(record)) == "undecodable"


@settings(max_examples=40)
@given(records, st.binary(min_size=1, max_size=20))
def test_trailing_bytes_are_undecodable(record: object, more: bytes) -> None:
    assert _reason(CODEC.encode(record) + more, type(record)) == "undecodable"


def test_an_unknown_fingerprint_is_an_unknown_schema() -> None:
    assert _reason(MARKER + bytes(8) + b"\x00") == "unknown_schema"


def test_a_record_beyond_the_limit_is_oversize() -> None:
    assert _reason(_prefix(ActionCommand) + bytes(MAX_ENVELOPE_BYTES)) == "oversize"


def test_another_record_is_a_wrong_record() -> None:
    assert _reason(CODEC.encode(Topology("z", 1, 64, "t", 0))) == "wrong_record"


@pytest.mark.parametrize("length", [1 << 20, 1 << 31, (1 << 62) - 1, -1, -5, -(1 << 62)])
def test_a_length_beyond_the_bytes_that_are_there_allocates_nothing(length: int) -> None:
    # The first field of a command is a string: this one claims to be `length` long.
    assert _reason(_prefix(ActionCommand) + _zigzag(length) + b"x" * 50) == "undecodable"


@pytest.mark.parametrize("size", [10, 11, 1_000, 900_000])
def test_a_number_that_never_ends_does_no_worse_than_malformed(size: int) -> None:
    assert _reason(_prefix(ActionCommand) + b"\xff" * size) == "undecodable"
    _survive(_prefix(Topology) + b"\x00" + b"\x80" * size + b"\x00" * 4, Topology)
    _survive(_prefix(Topology) + b"\x00" + b"\xff" * size + b"\x00" * 4, Topology)


@pytest.mark.parametrize("count", [1 << 40, -(1 << 40), (1 << 62)])
def test_a_list_that_claims_to_be_endless_is_undecodable(count: int) -> None:
    head = b"".join(b"\x00" for _ in range(3))  # chain of empty strings: enough for the first fields
    assert _reason(_prefix(ActionResult) + head + _zigzag(count) * 30, ActionResult) == "undecodable"
    tags = b"\x00" * 5 + b"\x00" + b"\x00" * 2 + _zigzag(count)
    assert _reason(_prefix(RuntimeEvent) + tags, RuntimeEvent) == "undecodable"


def test_two_targets_at_once_are_undecodable() -> None:
    schema = next(schema for name, schema in load_schemas().current.items() if name.endswith("ActionCommand"))
    wire = _independently(CODEC.encode(_command(target=None)))
    container = {"container_id": "a" * 12, "observed_at_ns": 1}
    wire["target"] = {"container": container, "file": {"path": b"/x", "observed_at_ns": 1}}
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema.parsed, wire)
    assert _reason(_prefix(ActionCommand) + body.getvalue()) == "undecodable"


@settings(max_examples=20)
@given(events, st.text(max_size=8))
def test_a_word_outside_an_open_set_is_still_read(event: RuntimeEvent, priority: str) -> None:
    changed = dataclasses.replace(event, priority=priority.encode("utf-8", "ignore").decode())
    assert CODEC.decode(CODEC.encode(changed), RuntimeEvent) == changed


def _command(**changes: Any) -> ActionCommand:
    given_: dict[str, Any] = {
        "command_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "node_id": "a" * 32,
        "node_key": "b" * 32,
        "incarnation": "i",
        "action": "kill_process",
        "target": None,
        "parameters": {},
        "parameters_sha256": "",
        "issued_at_ns": 1,
        "not_before_ns": 1,
        "expires_at_ns": 2,
        "timeout_s": 60,
        "actor": Actor(ActorKind.PERSON, "ada"),
    }
    return ActionCommand(**{**given_, **changes})


def _plain(value: Any) -> str:
    """A record's text with mappings in one form, since a read-only view and a dict print differently."""
    if dataclasses.is_dataclass(value):
        inner = ", ".join(f"{f.name}={_plain(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_plain, value))})"
    if hasattr(value, "items"):
        return "{" + ", ".join(f"{key!r}: {_plain(value[key])}" for key in sorted(value)) + "}"
    return repr(value)


def _prefix(cls: type) -> bytes:
    return MARKER + load_schemas().current[TRAVELLING[cls]].fingerprint


def _zigzag(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    rest &= (1 << 64) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _survive(data: bytes, as_: type) -> None:
    """Either a record that can be written again, or MalformedMessage: anything else comes through and fails."""
    with contextlib.suppress(MalformedMessage):
        CODEC.encode(CODEC.decode(data, as_))


def _independently(value: bytes) -> dict[str, Any]:
    """What a consumer reads that has only fastavro and the directory of schemas."""
    return dict(READER.read(value).fields)
