"""What a worker writes of itself: signed, numbered, chained, legible, and never more than Kafka takes."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.fakes.outbox import RecordedOutbox
from tests.strategies import node_states, results, values
from workers.domain.ids import ChainId, ExecutionId, Incarnation, LogId, NodeId
from workers.domain.log.record import LogPosition, OutRecord, Record
from workers.domain.log.topics import AUDIT, DEAD_LETTERS, NODES, RESULTS
from workers.domain.node_state import DeadLetter, NodeState
from workers.domain.outcome import Stage, Values
from workers.domain.result import ActionResult
from workers.domain.trust.audit import GENESIS, AuditRecord, link
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.wire.avro import AvroCodec
from workers.wire.recorder import KEPT_BYTES, LONGEST_TEXT, ChainRecorder
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey

CODEC = AvroCodec()
KEY = PrivateKey.generate()
TRUST = Keyset(1, 1 << 62, {KEY.key_id: PublicKey(KEY.key_id, KEY.public, KeyRole.NODE, "a" * 32)})
VERIFIER = EnvelopeVerifier(TRUST, CODEC, clock=FakeClock())
RECORDER = ChainRecorder("node", signer=EnvelopeSigner(KEY, CODEC), codec=CODEC)
TRACE = (("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),)
POSITION = LogPosition(LogId("log"), "response.commands.default", 3)


def _bytes(record: OutRecord) -> bytes:
    assert record.value is not None
    return record.value


def _audit(tx: RecordedOutbox) -> list[tuple[AuditRecord, bytes]]:
    verified = [VERIFIER.verify(_bytes(record), PayloadType.AUDIT, AuditRecord) for record in tx.on(AUDIT)]
    return [(each.record, each.payload) for each in verified]


@settings(max_examples=25)
@given(st.lists(results, min_size=1, max_size=4))
def test_results_are_signed_and_numbered_without_a_gap(steps: list[ActionResult]) -> None:
    tx = RecordedOutbox()
    for step in steps:
        RECORDER.result(tx, step, trace=TRACE)
    for number, (step, out) in enumerate(zip(steps, tx.published, strict=True)):
        verified = VERIFIER.verify(_bytes(out), PayloadType.RESULT, ActionResult)
        assert verified.record == dataclasses.replace(step, record_no=number)
        assert out.topic == RESULTS
        assert out.key == (step.node_id or step.execution_id).encode()
        assert out.headers == TRACE


@settings(max_examples=25)
@given(node_states)
def test_a_heartbeat_takes_its_number_from_the_same_count(state: NodeState) -> None:
    tx = RecordedOutbox()
    RECORDER.result(tx, _result())
    RECORDER.node_state(tx, state)
    out = tx.published[1]
    assert (out.topic, out.key) == (NODES, state.node_id.encode())
    verified = VERIFIER.verify(_bytes(out), PayloadType.NODE_STATE, NodeState)
    assert verified.record == dataclasses.replace(state, record_no=1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["intent", "outcome"]), values), min_size=1, max_size=6))
def test_audit_records_form_one_unbroken_chain(entries: list[tuple[str, Values]]) -> None:
    tx = RecordedOutbox("node/a/1")
    for kind, detail in entries:
        RECORDER.audit(tx, kind, at_ns=5, detail=detail)
    before = GENESIS
    for number, (record, payload) in enumerate(_audit(tx)):
        assert (record.chain_id, record.record_no, record.previous) == ("node/a/1", number, before)
        assert (record.kind, record.detail) == entries[number]
        before = link(payload, before)
    assert tx.chain_head().hash == before
    assert {record.key for record in tx.published} == {b"node/a/1"}


def test_an_audit_record_names_its_worker_actor_and_subject() -> None:
    tx = RecordedOutbox()
    RECORDER.audit(tx, "intent", at_ns=9, execution_id=ExecutionId("e"), actor="ada", detail={"pid": 1}, trace=TRACE)
    ((record, _),) = _audit(tx)
    assert record == AuditRecord(
        ChainId("test/1"), 0, GENESIS, 9, "node", "intent", ExecutionId("e"), "ada", {"pid": 1}
    )
    assert tx.published[0].headers == TRACE


def test_a_dead_letter_keeps_the_bytes_the_position_and_the_reason() -> None:
    tx = RecordedOutbox()
    record = Record(POSITION, 41, b"key", b"junk", (("traceparent", TRACE[0][1]), ("x", b"y")))
    RECORDER.dead_letter(tx, record, reason="bad_signature", message="no", at_ns=7)
    (out,) = tx.on(DEAD_LETTERS)
    assert (out.key, out.headers) == (b"key", TRACE)
    assert CODEC.decode(_bytes(out), DeadLetter) == DeadLetter(
        topic=POSITION.topic,
        partition=3,
        offset=41,
        log_id=LogId("log"),
        key=b"key",
        value=b"junk",
        size=4,
        sha256=hashlib.sha256(b"junk").hexdigest(),
        headers=record.headers,
        reason="bad_signature",
        message="no",
        worker="node",
        at_ns=7,
    )
    ((audit, _),) = _audit(tx)
    assert audit.kind == "dead_letter"
    assert audit.detail["reason"] == "bad_signature"
    assert audit.detail["offset"] == 41


def test_a_tombstone_differs_from_an_empty_value() -> None:
    letters = []
    for value in (None, b""):
        tx = RecordedOutbox()
        RECORDER.dead_letter(tx, Record(POSITION, 1, None, value), reason="tombstone", message="", at_ns=7)
        letters.append(CODEC.decode(_bytes(tx.on(DEAD_LETTERS)[0]), DeadLetter))
    assert [(letter.key, letter.value, letter.size) for letter in letters] == [(None, None, 0), (None, b"", 0)]


@pytest.mark.parametrize("size", [KEPT_BYTES, KEPT_BYTES + 1, 1_000_000])
def test_a_large_value_is_cut_and_its_size_and_digest_are_of_the_whole(size: int) -> None:
    tx = RecordedOutbox()
    value = b"v" * size
    RECORDER.dead_letter(tx, Record(POSITION, 1, None, value), reason="oversize", message="", at_ns=7)
    letter = CODEC.decode(_bytes(tx.on(DEAD_LETTERS)[0]), DeadLetter)
    assert letter.value == value[:KEPT_BYTES]
    assert (letter.size, letter.sha256) == (size, hashlib.sha256(value).hexdigest())


@given(
    st.none() | st.binary(max_size=3).map(lambda part: part * 300_000),
    st.none() | st.binary(max_size=3).map(lambda part: part * 300_000),
    st.lists(st.tuples(st.text(max_size=3).map(lambda t: t * 9_000), st.binary(max_size=9)), max_size=4).map(tuple),
    st.text().map(lambda text: text * 50),
)
def test_whatever_arrives_makes_a_dead_letter_that_kafka_takes(
    key: Any, value: Any, headers: Any, message: str
) -> None:
    tx = RecordedOutbox()
    RECORDER.dead_letter(tx, Record(POSITION, 1, key, value, headers), reason="r", message=message, at_ns=7)
    for out in tx.published:
        carried = sum(len(name) + len(content) for name, content in out.headers)
        assert len(out.key or b"") + len(_bytes(out)) + carried < 200_000
    CODEC.decode(_bytes(tx.on(DEAD_LETTERS)[0]), DeadLetter)


@pytest.mark.parametrize("text", ["\udcff/tmp/\ud800", "x" * 100_000, "🜄" * 5000, "plain"], ids=len)
def test_text_that_is_not_unicode_or_too_long_is_written_legibly(text: str) -> None:
    tx = RecordedOutbox()
    RECORDER.result(tx, _result(message=text, outputs={"exe": text, "big": 1 << 70, "yes": True}))
    RECORDER.audit(tx, "intent", at_ns=1, actor=text, detail={"exe": text})
    result = VERIFIER.verify(_bytes(tx.published[0]), PayloadType.RESULT, ActionResult).record
    assert len(result.message) <= LONGEST_TEXT
    assert result.outputs == {"exe": result.message, "big": str(1 << 70), "yes": True}
    assert result.outputs["yes"] is True
    assert result.message == text or text != "plain"


def _result(**changes: Any) -> ActionResult:
    plain = ActionResult(
        execution_id=ExecutionId("e"),
        producer="node",
        node_id=NodeId("a" * 32),
        incarnation=Incarnation("i"),
        record_no=0,
        attempt=1,
        seq=1,
        stage=Stage.CLAIMED,
        at_ns=1,
        action="kill_process",
    )
    return dataclasses.replace(plain, **changes)
