"""What the dispatcher may rely on of its ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.chance import FakeRandomness
from workers.domain.ids import LogId
from workers.domain.log.record import LogPosition, OutRecord
from workers.store.ledger import SqliteLedger
from workers.store.ports import Ledger, LedgerTx

POSITION = LogPosition(LogId("log-1"), "response.requests.people", 0)
RECORD = OutRecord("response.commands.default", b"node", b"command", (("traceparent", b"00"),), 12)


@dataclass
class Opened:
    """A ledger, and the way to find it again as the next process would."""

    ledger: Ledger
    _reopen: Callable[[Ledger], Ledger]

    def reopen(self) -> Ledger:
        self.ledger = self._reopen(self.ledger)
        return self.ledger


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    def reopen(ledger: Ledger | None = None) -> SqliteLedger:
        if ledger is not None:
            ledger.close()
        return SqliteLedger(tmp_path / "dispatcher" / "ledger.sqlite", randomness=FakeRandomness())

    real = Opened(reopen(), reopen)
    yield real
    real.ledger.close()


@pytest.fixture
def ledger(opened: Opened) -> Ledger:
    return opened.ledger


def test_everything_of_one_transaction_is_there_after_a_restart(opened: Opened) -> None:
    with opened.ledger.begin() as tx:
        tx.put("execution", "1", b"\x00row", due_ns=5)
        tx.advance(POSITION, 7)
        tx.publish(RECORD)
        assert tx.next_record_no() == 0
        tx.set_chain_head(replace(tx.chain_head(), next_no=1, hash=b"h" * 32))
        head = tx.chain_head()
    again = opened.reopen()
    assert again.next_offset(POSITION) == 7
    assert [row.record for row in again.outbox()] == [RECORD]
    with again.begin() as tx:
        assert tx.get("execution", "1") == b"\x00row"
        assert tx.due("execution", 5) == [("1", b"\x00row")]
        assert tx.chain_head() == head
        assert tx.next_record_no() == 1


def _interrupted(tx: LedgerTx) -> NoReturn:
    tx.put("execution", "1", b"row", due_ns=5)
    tx.delete("execution", "old")
    tx.advance(POSITION, 7)
    tx.publish(RECORD)
    raise RuntimeError("on the way")


def test_nothing_of_a_transaction_that_raises_is_there(opened: Opened) -> None:
    with opened.ledger.begin() as tx:
        tx.put("execution", "old", b"kept", due_ns=1)
    with pytest.raises(RuntimeError, match="on the way"), opened.ledger.begin() as tx:
        _interrupted(tx)
    for reopened in (False, True):
        ledger = opened.reopen() if reopened else opened.ledger
        assert ledger.next_offset(POSITION) is None
        assert ledger.outbox() == []
        with ledger.begin() as tx:
            assert tx.scan("execution") == [("old", b"kept")]
            assert tx.due("execution", 1) == [("old", b"kept")]


def test_a_transaction_sees_what_it_wrote(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.get("node", "a") is None
        tx.put("node", "a", b"1")
        tx.put("node", "a", b"2")
        assert tx.get("node", "a") == b"2"
        tx.delete("node", "a")
        tx.delete("node", "a")
        assert tx.get("node", "a") is None


def test_kinds_are_independent(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.put("node", "a", b"n", due_ns=1)
        tx.put("host", "a", b"h", due_ns=1)
        tx.delete("host", "a")
        assert tx.scan("node") == [("a", b"n")]
        assert tx.due("node", 1) == [("a", b"n")]
        assert tx.due("host", 1) == []


def test_timers_come_earliest_first_and_only_when_due(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for key, due_ns in (("c", 30), ("a", 20), ("b", 10), ("never", 0)):
            tx.put("timer", key, key.encode(), due_ns=due_ns)
        assert tx.due("timer", 9) == []
        assert [key for key, _ in tx.due("timer", 20)] == ["b", "a"]
        assert [key for key, _ in tx.due("timer", 99, limit=2)] == ["b", "a"]
        tx.put("timer", "b", b"b")
        assert [key for key, _ in tx.due("timer", 99)] == ["a", "c"]


def test_offsets_never_go_back(ledger: Ledger) -> None:
    for offset in (5, 3):
        with ledger.begin() as tx:
            tx.advance(POSITION, offset)
    assert ledger.next_offset(POSITION) == 5
    assert ledger.next_offset(replace(POSITION, partition=1)) is None
    assert ledger.next_offset(replace(POSITION, log_id=LogId("another"))) is None


def test_the_chain_is_named_after_the_ledger_and_only_moves_forward(opened: Opened) -> None:
    with opened.ledger.begin() as tx:
        born = tx.chain_head().chain_id
    assert born.startswith("dispatcher/")
    with opened.reopen().begin() as tx:
        assert tx.chain_head().chain_id == born
        tx.set_chain_head(replace(tx.chain_head(), next_no=2))
    with pytest.raises(ValueError, match="chain"), opened.ledger.begin() as tx:
        tx.set_chain_head(replace(tx.chain_head(), next_no=1))


def test_acknowledged_records_are_gone_and_their_numbers_with_them(opened: Opened) -> None:
    with opened.ledger.begin() as tx:
        tx.publish(RECORD)
        tx.publish(RECORD)
    first, second = opened.ledger.outbox()
    opened.ledger.acknowledge([first.row_id, 10_000])
    assert opened.reopen().outbox() == [second]
    opened.ledger.acknowledge([second.row_id])
    with opened.reopen().begin() as tx:
        tx.publish(RECORD)
    (third,) = opened.ledger.outbox()
    assert third.row_id > second.row_id
    assert opened.ledger.outbox(after=third.row_id) == []


_KEYS = st.text(alphabet="ab/%_*é\uffff", max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(keys=st.sets(_KEYS), prefix=_KEYS)
def test_a_scan_finds_exactly_the_keys_with_the_prefix_in_order(opened: Opened, keys: set[str], prefix: str) -> None:
    with opened.ledger.begin() as tx:
        for key, _ in tx.scan("kind"):
            tx.delete("kind", key)
        for key in keys:
            tx.put("kind", key, key.encode())
        found = tx.scan("kind", prefix)
    assert list(found) == [(key, key.encode()) for key in sorted(keys) if key.startswith(prefix)]


def test_closing_twice_is_allowed(ledger: Ledger) -> None:
    ledger.close()
    ledger.close()
