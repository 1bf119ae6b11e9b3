"""The outbox in memory: what a transaction publishes is there as a whole or not at all."""

from __future__ import annotations

import pytest

from workers.domain.errors import TransientFailure
from workers.domain.ids import ChainId
from workers.domain.log.record import OutRecord
from workers.domain.trust.audit import ChainHead
from workers.log.memory_outbox import MemoryOutbox
from workers.log.ports import Outbox
from workers.wire.ports import RecordTx

CHAIN = ChainId("gateway/1")


def record(value: bytes) -> OutRecord:
    return OutRecord("out", None, value)


def test_it_is_both_ports() -> None:
    outbox = MemoryOutbox(CHAIN)
    ports: tuple[RecordTx, Outbox] = (outbox, outbox)
    assert ports[0].chain_head() == ChainHead(CHAIN)


def test_rows_are_kept_in_order_until_acknowledged() -> None:
    outbox = MemoryOutbox(CHAIN)
    for value in (b"1", b"2", b"3"):
        outbox.publish(record(value))
    rows = outbox.outbox()
    assert [row.record.value for row in rows] == [b"1", b"2", b"3"]
    assert [row.record.value for row in outbox.outbox(after=rows[0].row_id, limit=1)] == [b"2"]
    outbox.acknowledge([rows[0].row_id, rows[1].row_id])
    outbox.acknowledge([rows[0].row_id])
    assert [row.record.value for row in outbox.outbox()] == [b"3"]


def test_each_number_is_taken_once() -> None:
    outbox = MemoryOutbox(CHAIN)
    assert [outbox.next_record_no() for _ in range(3)] == [0, 1, 2]


def test_a_transaction_that_fails_leaves_nothing() -> None:
    outbox = MemoryOutbox(CHAIN)
    outbox.publish(record(b"before"))

    def fail() -> None:
        with outbox.begin() as tx:
            tx.publish(record(b"inside"))
            tx.next_record_no()
            tx.set_chain_head(ChainHead(CHAIN, 1, b"x" * 32))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [row.record.value for row in outbox.outbox()] == [b"before"]
    assert outbox.chain_head() == ChainHead(CHAIN)
    assert outbox.next_record_no() == 0


def test_a_transaction_that_ends_well_leaves_all() -> None:
    outbox = MemoryOutbox(CHAIN)
    with outbox.begin() as tx:
        tx.publish(record(b"1"))
        tx.set_chain_head(ChainHead(CHAIN, 1, b"x" * 32))
    assert len(outbox.outbox()) == 1
    assert outbox.chain_head().next_no == 1


def test_it_does_not_grow_without_bound() -> None:
    outbox = MemoryOutbox(CHAIN, most=2)
    outbox.publish(record(b"1"))
    outbox.publish(record(b"2"))
    with pytest.raises(TransientFailure) as caught:
        outbox.publish(record(b"3"))
    assert caught.value.reason == "outbox_full"
