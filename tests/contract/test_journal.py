"""What the node may rely on of its journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import pytest

from tests.fakes.chance import FakeRandomness
from workers.domain.ids import ChainId, ExecutionId, LogId, NodeId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import LogPosition, OutRecord
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.trust.audit import ChainHead
from workers.store.journal import SqliteJournal
from workers.store.ports import Journal, JournalTx

NODE = NodeId("a" * 32)
POSITION = LogPosition(LogId("log-1"), "response.commands.default", 7)
REPORT = Report(
    Outcome.COMPLETED,
    "kill_process_success_killed",
    "the process is gone",
    PostCondition("process_gone", True, "poll"),
    {"pid": 4711, "identity": "start_time", "zombie": False, "name": "é\udcff\n"},
    effect_holds=True,
)


@dataclass
class Opened:
    """A journal, and the way to find it again as the next process would."""

    journal: Journal
    _reopen: Callable[[Journal], Journal]

    def reopen(self) -> Journal:
        self.journal = self._reopen(self.journal)
        return self.journal


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    def reopen(journal: Journal | None = None) -> SqliteJournal:
        if journal is not None:
            journal.close()
        return SqliteJournal(tmp_path / "node" / "journal.sqlite", node_id=NODE, randomness=FakeRandomness())

    real = Opened(reopen(), reopen)
    yield real
    real.journal.close()


@pytest.fixture
def journal(opened: Opened) -> Journal:
    return opened.journal


def entry(number: int, state: EntryState = EntryState.RECEIVED, **more: object) -> JournalEntry:
    made = JournalEntry(
        execution_id=ExecutionId(f"01890000-0000-7000-8000-{number:012x}"),
        state=state,
        command=b"\x00command %d" % number,
        command_sha256=f"{number:064x}",
        received_at_ns=1000 + number,
        expires_at_ns=10_000 + number,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def record(number: int = 0, **more: object) -> OutRecord:
    return replace(OutRecord("response.results", b"key", b"value %d" % number), **more)  # type: ignore[arg-type]


def test_everything_of_one_transaction_is_there_after_a_restart(opened: Opened) -> None:
    claimed = entry(
        1,
        EntryState.OBSERVED,
        attempt=2,
        seq=3,
        crashes=1,
        claim={"pid": 1, "boot": "x", "frozen": True},
        report=REPORT,
        late=True,
        trace=(("traceparent", b"00-\xff"), ("traceparent", b"again")),
        answer=b"\xc3\x01sealed",
    )
    full = record(1, partition=3, headers=(("a", b"\x00\xff"), ("a", b"")))
    tombstone = record(2, key=None, value=None)
    with opened.journal.begin() as tx:
        tx.put(claimed)
        tx.advance(POSITION, 5)
        tx.raise_floor(99)
        tx.publish(full)
        tx.publish(tombstone)
        assert [tx.next_record_no(), tx.next_record_no()] == [0, 1]
        head = tx.chain_head()
        tx.set_chain_head(ChainHead(head.chain_id, 1, b"h" * 32))
    incarnation = opened.journal.incarnation

    again = opened.reopen()
    assert again.incarnation == incarnation
    assert again.entry(claimed.execution_id) == claimed
    assert again.next_offset(POSITION) == 5
    assert again.positions() == {POSITION: 5}
    assert again.floor_ns() == 99
    assert [row.record for row in again.outbox()] == [full, tombstone]
    with again.begin() as tx:
        assert tx.next_record_no() == 2
        assert tx.chain_head() == ChainHead(head.chain_id, 1, b"h" * 32)


def _interrupted(tx: JournalTx) -> NoReturn:
    tx.put(entry(1))
    tx.advance(POSITION, 5)
    tx.raise_floor(99)
    tx.publish(record())
    tx.next_record_no()
    tx.set_chain_head(replace(tx.chain_head(), next_no=1))
    raise RuntimeError("on the way")


def test_nothing_of_a_transaction_that_raises_is_there(opened: Opened) -> None:
    with pytest.raises(RuntimeError, match="on the way"), opened.journal.begin() as tx:
        _interrupted(tx)
    for reopened in (False, True):
        journal = opened.reopen() if reopened else opened.journal
        assert journal.entries(*EntryState) == []
        assert journal.next_offset(POSITION) is None
        assert journal.floor_ns() == 0
        assert journal.outbox() == []
    with opened.journal.begin() as tx:
        assert tx.next_record_no() == 0
        assert tx.chain_head().next_no == 0


def test_a_transaction_sees_what_it_wrote(journal: Journal) -> None:
    with journal.begin() as tx:
        assert tx.entry(entry(1).execution_id) is None
        tx.put(entry(1))
        tx.put(entry(1, EntryState.CLAIMED, attempt=1))
        assert tx.entry(entry(1).execution_id) == entry(1, EntryState.CLAIMED, attempt=1)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b, a) for b in EntryState for a in EntryState if list(EntryState).index(a) < list(EntryState).index(b)],
)
def test_a_state_never_goes_back(journal: Journal, before: EntryState, after: EntryState) -> None:
    with journal.begin() as tx:
        tx.put(entry(1, before))
    with pytest.raises(ValueError, match="back"), journal.begin() as tx:
        tx.put(entry(1, after))
    assert journal.entry(entry(1).execution_id) == entry(1, before)


@pytest.mark.parametrize("state", list(EntryState))
def test_an_entry_may_change_within_its_state(journal: Journal, state: EntryState) -> None:
    with journal.begin() as tx:
        tx.put(entry(1, state))
    with journal.begin() as tx:
        tx.put(entry(1, state, crashes=1))
    assert journal.entry(entry(1).execution_id) == entry(1, state, crashes=1)


def test_a_journalled_command_never_changes(journal: Journal) -> None:
    with journal.begin() as tx:
        tx.put(entry(1))
    with pytest.raises(ValueError, match="another command"), journal.begin() as tx:
        tx.put(entry(1, command=b"other"))


def test_only_a_reset_takes_the_floor_back(journal: Journal) -> None:
    with journal.begin() as tx:
        tx.raise_floor(99)
    with journal.begin() as tx:
        tx.reset_floor(7)
        tx.raise_floor(5)
    assert journal.floor_ns() == 7


def test_offsets_and_the_floor_never_go_back(journal: Journal) -> None:
    other = replace(POSITION, log_id=LogId("log-2"))
    for offset, floor in ((5, 50), (3, 30)):
        with journal.begin() as tx:
            tx.advance(POSITION, offset)
            tx.raise_floor(floor)
    with journal.begin() as tx:
        tx.advance(other, 1)
        tx.advance(POSITION, 9)
        tx.advance(POSITION, 8)
    assert journal.positions() == {POSITION: 9, other: 1}
    assert journal.floor_ns() == 50


def test_a_chain_only_moves_forward(journal: Journal) -> None:
    with journal.begin() as tx:
        tx.set_chain_head(replace(tx.chain_head(), next_no=2))
    with pytest.raises(ValueError, match="chain"), journal.begin() as tx:
        tx.set_chain_head(replace(tx.chain_head(), next_no=2))
    with pytest.raises(ValueError, match="chain"), journal.begin() as tx:
        tx.set_chain_head(replace(tx.chain_head(), chain_id=ChainId("someone/else"), next_no=9))


def test_the_chain_is_named_after_node_and_incarnation(journal: Journal) -> None:
    with journal.begin() as tx:
        assert tx.chain_head().chain_id == f"node/{NODE}/{journal.incarnation}"


def test_entries_come_by_state_oldest_first(journal: Journal) -> None:
    with journal.begin() as tx:
        tx.put(entry(3, EntryState.CLAIMED))
        tx.put(entry(1))
        tx.put(entry(2, EntryState.OBSERVED))
    assert journal.entries(EntryState.RECEIVED, EntryState.CLAIMED) == [entry(1), entry(3, EntryState.CLAIMED)]
    assert journal.entries() == []


def test_the_outbox_is_read_in_order_and_in_pages(journal: Journal) -> None:
    with journal.begin() as tx:
        for number in range(5):
            tx.publish(record(number))
    first = journal.outbox(limit=2)
    rest = journal.outbox(after=first[-1].row_id)
    assert [row.record for row in (*first, *rest)] == [record(number) for number in range(5)]
    ids = [row.row_id for row in (*first, *rest)]
    assert ids == sorted(set(ids))


def test_acknowledging_twice_or_what_is_not_there_changes_nothing(journal: Journal) -> None:
    with journal.begin() as tx:
        tx.publish(record(1))
        tx.publish(record(2))
    first, second = journal.outbox()
    journal.acknowledge([first.row_id])
    journal.acknowledge([first.row_id, second.row_id + 1000])
    journal.acknowledge([])
    assert journal.outbox() == [second]


def test_a_row_number_is_never_used_again(opened: Opened) -> None:
    seen: set[int] = set()
    for _ in range(3):
        with opened.journal.begin() as tx:
            tx.publish(record())
        (row,) = opened.journal.outbox()
        assert row.row_id not in seen
        seen.add(row.row_id)
        opened.journal.acknowledge([row.row_id])
        opened.reopen()


def test_an_observed_entry_is_published_once_all_its_records_are_acknowledged(opened: Opened) -> None:
    with opened.journal.begin() as tx:
        tx.put(entry(1, EntryState.CLAIMED))
        tx.publish(record(1))
    with opened.journal.begin() as tx:
        tx.put(entry(1, EntryState.OBSERVED))
        tx.publish(record(2))
        tx.publish(record(3))
    with opened.journal.begin() as tx:
        tx.put(entry(2, EntryState.CLAIMED))
        tx.publish(record(4))
    rows = [row.row_id for row in opened.journal.outbox()]
    for row_id in rows[:2]:
        opened.journal.acknowledge([row_id])
        assert opened.reopen().entries(EntryState.OBSERVED) == [entry(1, EntryState.OBSERVED)]
    opened.journal.acknowledge([rows[2]])
    assert opened.reopen().entries(EntryState.PUBLISHED) == [entry(1, EntryState.PUBLISHED)]
    assert opened.journal.entries(EntryState.CLAIMED) == [entry(2, EntryState.CLAIMED)]


def test_acknowledgements_out_of_order_publish_nothing_too_early(journal: Journal) -> None:
    with journal.begin() as tx:
        tx.put(entry(1, EntryState.OBSERVED))
        tx.publish(record(1))
        tx.publish(record(2))
    first, second = (row.row_id for row in journal.outbox())
    journal.acknowledge([second])
    assert journal.entries(EntryState.PUBLISHED) == []
    journal.acknowledge([first])
    assert journal.entries(EntryState.PUBLISHED) == [entry(1, EntryState.PUBLISHED)]


def test_only_published_entries_past_their_expiry_are_forgotten(journal: Journal) -> None:
    with journal.begin() as tx:
        for number, state in enumerate(EntryState):
            tx.put(entry(number, state, expires_at_ns=100))
        tx.put(entry(9, EntryState.PUBLISHED, expires_at_ns=200))
    assert journal.prune(ended_before_ns=200) == 1
    left = {found.execution_id for found in journal.entries(*EntryState)}
    assert left == {entry(number).execution_id for number in (0, 1, 2, 9)}
    assert journal.entry(entry(3).execution_id) is None


def test_any_thread_may_write_and_no_number_is_given_twice(journal: Journal) -> None:
    numbers: list[int] = []

    def work(base: int) -> None:
        for step in range(20):
            with journal.begin() as tx:
                numbers.append(tx.next_record_no())
                tx.put(entry(base + step))
            assert journal.entry(entry(base + step).execution_id) is not None

    threads = [threading.Thread(target=work, args=(base,)) for base in (100, 200, 300, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(80))
    assert len(journal.entries(EntryState.RECEIVED)) == 80


def test_closing_twice_is_allowed(journal: Journal) -> None:
    journal.close()
    journal.close()


def test_what_holds_is_not_forgotten_until_it_was_undone(journal: Journal) -> None:
    held = replace(
        entry(1, EntryState.PUBLISHED, expires_at_ns=100),
        report=Report(Outcome.COMPLETED, "x", 'says "effect_holds":true', effect_holds=True),
    )
    with journal.begin() as tx:
        tx.put(held)
    assert journal.prune(ended_before_ns=200) == 0
    with journal.begin() as tx:
        tx.put(replace(held, undone_by=entry(2).execution_id))
    assert journal.prune(ended_before_ns=200) == 1
