"""What every history store does, on SQLite and on PostgreSQL: the behaviour suite of `HistoryStore` and `HistoryTx`."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.fakes.clock import START_NS
from tests.fakes.codec import FakeCodec
from tests.postgresql import Cluster, NewUrl
from tests.stories import BORN, NODE, OTHER_NODE, REBORN, SECOND, Story, event, heartbeat, step_of
from workers.domain.errors import PermanentFailure
from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import FoldedStep, fold, why_not_undoable
from workers.domain.history.queries import EventQuery, ExecutionQuery
from workers.domain.history.sequence import Ranges
from workers.domain.ids import ChainId, EventId, ExecutionId, LogId
from workers.domain.log.record import LogPosition
from workers.domain.node_state import NodeState
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import EFFECT_LOST, ActionResult
from workers.domain.target import ContainerTarget
from workers.domain.trust.audit import AuditRecord, ChainHead, advance
from workers.store.history.ports import HistoryStore, HistoryTx
from workers.store.history.store import open_history

Make: TypeAlias = Callable[[], HistoryStore]
CODEC = FakeCodec()
RESULTS = LogPosition(LogId("log"), "response.results", 0)
LONG_ID = "0123456789ab" + "c" * 52


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Opens an empty store at each call. Another database joins the suite by another parameter."""
    opened: list[HistoryStore] = []
    server: Cluster | None = request.getfixturevalue("postgresql") if request.param == "postgresql" else None

    def open_one() -> HistoryStore:
        url = server.url() if server is not None else f"sqlite:///{tmp_path}/history-{len(opened)}.sqlite"
        store = open_history(url, CODEC)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(make: Make) -> HistoryStore:
    return make()


def put(store: HistoryStore, *results: ActionResult) -> None:
    with store.begin() as tx:
        put_in(tx, *(step_of(result) for result in results))


def put_in(tx: HistoryTx, *steps: FoldedStep) -> None:
    tx.put_steps(steps)
    for execution_id, known in tx.steps({step.result.execution_id for step in steps}).items():
        tx.put_execution(fold(execution_id, known))


def put_events(store: HistoryStore, *events: RuntimeEvent) -> None:
    with store.begin() as tx:
        for each in events:
            tx.put_event(each, payload=CODEC.encode(each))


def put_node(store: HistoryStore, state: NodeState, *, folded_at_ns: int = 7) -> None:
    with store.begin() as tx:
        tx.put_node(state, payload=CODEC.encode(state), verified=True, folded_at_ns=folded_at_ns)


def found(store: HistoryStore, query: ExecutionQuery) -> list[ExecutionId]:
    return [execution.execution_id for execution in store.executions(query).rows]


def test_an_execution_is_read_back_with_its_steps_and_their_signed_bytes(store: HistoryStore) -> None:
    results = Story().whole()
    put(store, *results)

    read = store.execution(Story().id)

    assert read == fold(Story().id, map(step_of, results))
    assert [(step.payload, step.signed) for step in read.steps] == [
        (step.payload, step.signed) for step in fold(Story().id, map(step_of, results)).steps
    ]


def test_an_unknown_execution_is_none(store: HistoryStore) -> None:
    assert store.execution(Story().id) is None


def test_steps_of_two_transactions_make_one_execution(store: HistoryStore) -> None:
    for result in Story().whole():
        put(store, result)

    read = store.execution(Story().id)

    assert read is not None
    assert (read.stage, read.outcome, len(read.steps)) == (Stage.ENDED, Outcome.COMPLETED, 4)


def test_a_transaction_sees_its_own_steps(store: HistoryStore) -> None:
    with store.begin() as tx:
        tx.put_steps([step_of(Story().requested())])
        assert tx.steps([Story().id, Story(1).id]).keys() == {Story().id}


def test_a_page_leaves_the_steps_out(store: HistoryStore) -> None:
    put(store, *Story().whole())

    assert store.executions(ExecutionQuery()).rows == (
        replace(fold(Story().id, map(step_of, Story().whole())), steps=()),
    )


def test_a_transaction_that_fails_leaves_nothing(store: HistoryStore) -> None:
    def fail_half_way() -> None:
        with store.begin() as tx:
            put_in(tx, step_of(Story().requested()))
            tx.advance(RESULTS, expected=None, next_offset=5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()

    assert (store.execution(Story().id), store.next_offset(RESULTS)) == (None, None)
    assert store.health().executions == 0


def test_an_offset_moves_on_only_from_where_it_was_expected(store: HistoryStore) -> None:
    with store.begin() as tx:
        tx.advance(RESULTS, expected=None, next_offset=5)
    with store.begin() as tx:
        tx.advance(RESULTS, expected=5, next_offset=9)
    assert store.next_offset(RESULTS) == 9


@pytest.mark.parametrize("expected", [None, 4])
def test_a_second_owner_is_fenced_off_with_all_it_wrote(store: HistoryStore, expected: int | None) -> None:
    with store.begin() as tx:
        tx.advance(RESULTS, expected=None, next_offset=5)

    def second_owner() -> None:
        with store.begin() as tx:
            put_in(tx, step_of(Story().requested()))
            tx.advance(RESULTS, expected=expected, next_offset=8)

    with pytest.raises(PermanentFailure) as refused:
        second_owner()

    assert refused.value.reason == "second_owner"
    assert (store.next_offset(RESULTS), store.execution(Story().id)) == (5, None)


def test_offsets_belong_to_a_log(store: HistoryStore) -> None:
    with store.begin() as tx:
        tx.advance(RESULTS, expected=None, next_offset=5)
    assert store.next_offset(replace(RESULTS, log_id=LogId("another"))) is None
    assert store.health().next_offsets == {"response.results/0": 5}


def test_pages_are_cut_by_time_and_id_newest_first_without_a_hole_or_a_double(store: HistoryStore) -> None:
    stories = [Story(number // 2, node_id=NODE if number % 2 else OTHER_NODE) for number in range(9)]
    for story in stories:
        put(store, *story.whole())
    seen: list[ExecutionId] = []
    query = ExecutionQuery(limit=2)
    for _ in range(9):
        page = store.executions(query)
        seen += [row.execution_id for row in page.rows]
        if not page.next_cursor:
            break
        query = replace(query, cursor=page.next_cursor)

    expected = sorted(stories, key=lambda story: (story.at_ns, story.id), reverse=True)
    assert seen == [story.id for story in expected]


def test_a_page_that_ends_with_the_last_row_has_no_cursor(store: HistoryStore) -> None:
    put(store, *Story(1).whole(), *Story(2).whole())
    assert store.executions(ExecutionQuery(limit=2)).next_cursor == ""


@pytest.mark.parametrize("cursor", ["x", "!!", "MTIz", "MTIzIGE=", "\x00", "9" * 5000, "é"])
def test_a_malformed_cursor_is_refused(store: HistoryStore, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        store.executions(ExecutionQuery(cursor=cursor))
    with pytest.raises(ValueError, match="cursor"):
        store.events(EventQuery(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_at_least_one_row_and_at_most_a_thousand(store: HistoryStore, limit: int) -> None:
    with pytest.raises(ValueError, match="1000"):
        store.executions(ExecutionQuery(limit=limit))
    with pytest.raises(ValueError, match="1000"):
        store.events(EventQuery(limit=limit))


FIRST = Story(1, host="web-1", actor="alice", caller_id="ticket-7")
SECOND_STORY = Story(
    2,
    node_id=OTHER_NODE,
    host=OTHER_NODE,
    rule="Put out shells",
    action="kill_container",
    target=ContainerTarget(LONG_ID, START_NS),
    event_id=EventId("event-5"),
)
UNDO = Story(3, action="start_container", target=None, undo_of=SECOND_STORY.id)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (ExecutionQuery(), [3, 2, 1]),
        (ExecutionQuery(host=NODE), [3, 1]),
        (ExecutionQuery(host="web-1"), [3, 1]),
        (ExecutionQuery(host="db-1"), [2]),
        (ExecutionQuery(host="nobody"), []),
        (ExecutionQuery(container=LONG_ID), [2]),
        (ExecutionQuery(container=LONG_ID[:12]), [2]),
        (ExecutionQuery(container="ffffffffffff"), []),
        (ExecutionQuery(workload="shop"), [2]),
        (ExecutionQuery(cluster="north"), [2]),
        (ExecutionQuery(cluster="south"), [3, 1]),
        (ExecutionQuery(rule="Put out shells"), [2]),
        (ExecutionQuery(actor="alice"), [3, 1]),
        (ExecutionQuery(action="kill_process"), [1]),
        (ExecutionQuery(outcome="COMPLETED"), [2]),
        (ExecutionQuery(outcome="REJECTED"), [1]),
        (ExecutionQuery(stage="CLAIMED"), [3]),
        (ExecutionQuery(event_id="event-5"), [2]),
        (ExecutionQuery(caller_id="ticket-7"), [1]),
        (ExecutionQuery(undo_of=SECOND_STORY.id), [3]),
        (ExecutionQuery(from_ns=SECOND_STORY.at_ns), [3, 2]),
        (ExecutionQuery(to_ns=SECOND_STORY.at_ns), [1]),
        (ExecutionQuery(from_ns=SECOND_STORY.at_ns, to_ns=SECOND_STORY.at_ns + 1), [2]),
        (ExecutionQuery(actor="alice", outcome="REJECTED"), [1]),
        (ExecutionQuery(actions=("kill_process", "start_container")), [3, 1]),
        (ExecutionQuery(actions=()), []),
        (ExecutionQuery(outcomes=("COMPLETED", "REJECTED")), [2, 1]),
        (ExecutionQuery(outcomes=("", "UNKNOWN"), stages=("CLAIMED", "ENDED")), [3]),
        (ExecutionQuery(stages=("ENDED",)), [2, 1]),
        (ExecutionQuery(offset=1), [2, 1]),
        (ExecutionQuery(offset=1, limit=1), [2]),
        (ExecutionQuery(offset=1, actor="alice"), [1]),
        (ExecutionQuery(offset=3), []),
        (ExecutionQuery(actor="' OR 1=1 --"), []),
        (ExecutionQuery(actor="al%"), []),
        (ExecutionQuery(actor="alice\x00"), []),
    ],
)
def test_history_is_searched_by_its_context(store: HistoryStore, query: ExecutionQuery, numbers: list[int]) -> None:
    put(store, FIRST.requested(), FIRST.refused())
    put(store, *SECOND_STORY.whole(effect_holds=True))
    put(store, UNDO.requested(), UNDO.dispatched(), UNDO.claimed())
    put_node(store, heartbeat(1, name="web-1", cluster="south"))
    put_node(store, heartbeat(1, node_id=OTHER_NODE, name="db-1"))
    put_events(store, event(5, workload="shop", cluster="north"))

    by_number = {1: FIRST.id, 2: SECOND_STORY.id, 3: UNDO.id}
    assert found(store, query) == [by_number[number] for number in numbers]


def test_a_container_is_found_by_the_event_that_led_to_the_action(store: HistoryStore) -> None:
    story = Story(1, rule="r", event_id=EventId("event-1"))
    put(store, *story.whole())
    put_events(store, event(1, container=LONG_ID[:12]))
    assert found(store, ExecutionQuery(container=LONG_ID)) == [story.id]


def shown(store: HistoryStore, story: Story, *, reversible: bool = True) -> tuple[bool, str, str]:
    """Whether its effect holds, what undid it, and why it cannot be undone now."""
    known = store.execution(story.id)
    assert known is not None
    undone = known.undone_by
    (listed,) = store.executions(ExecutionQuery(action=story.action)).rows
    assert replace(known, steps=()) == listed
    return (
        known.effect_holds,
        undone.execution_id if undone is not None else "",
        why_not_undoable(known, reversible=reversible),
    )


def test_an_execution_says_what_undid_it_by_whose_request_and_with_which_outcome(store: HistoryStore) -> None:
    pause = Story(1, action="pause_container")
    failed = Story(2, action="unpause_container", actor="bob", undo_of=pause.id)
    undo = Story(3, action="unpause_container", actor="carol", undo_of=pause.id)
    late = Story(4, action="unpause_container", actor="dora", undo_of=pause.id)
    put(store, pause.requested(), pause.dispatched(), pause.claimed())
    assert shown(store, pause) == (False, "", "it has not ended")
    put(store, pause.ended(effect_holds=True))
    assert shown(store, pause) == (True, "", "")
    assert shown(store, pause, reversible=False) == (True, "", "pause_container cannot be undone")
    put(store, *failed.whole(Outcome.FAILED))
    assert shown(store, pause) == (True, "", "")
    put(store, undo.requested(), undo.dispatched(), undo.claimed())
    assert shown(store, pause) == (True, "", f"{undo.id} is undoing it")
    put(store, undo.ended(), late.requested(), late.refused(reason="already_undone"))
    assert shown(store, pause) == (False, undo.id, f"it was undone by {undo.id}")
    known = store.execution(pause.id)
    assert known is not None
    assert [(each.execution_id, each.actor, each.outcome) for each in known.undos] == [
        (late.id, "dora", Outcome.REJECTED),
        (undo.id, "carol", Outcome.COMPLETED),
        (failed.id, "bob", Outcome.FAILED),
    ]
    assert known.undone_by is not None
    assert (known.undone_by.code, known.undone_by.ended_at_ns) == (undo.ended().code, undo.ended().at_ns)
    assert store.contained() == []
    of_the_undo = store.execution(undo.id)
    assert of_the_undo is not None
    assert why_not_undoable(of_the_undo, reversible=True) == "unpause_container cannot be undone"


def test_an_execution_says_why_there_is_nothing_to_undo(store: HistoryStore) -> None:
    lost, joined, nothing = (Story(number, action=f"action_{number}") for number in (1, 2, 3))
    gone, idle = (Story(number, action=f"action_{number}", node_id=OTHER_NODE) for number in (4, 5))
    put(store, *lost.whole(effect_holds=True), replace(lost.claimed(seq=9), alarm=EFFECT_LOST))
    held_by = {"held_by": lost.id}
    put(store, *joined.whole()[:3], joined.ended(Outcome.NO_ACTION, outputs=held_by))
    put(store, *nothing.whole(Outcome.REJECTED), *idle.whole(), *gone.whole(effect_holds=True))
    put_node(store, heartbeat(1, node_id=OTHER_NODE))
    assert shown(store, lost) == (False, "", "its effect was lost, and not by an undo (effect_lost)")
    assert shown(store, joined) == (False, "", f"its effect is that of {lost.id}: undo that one")
    assert shown(store, nothing)[2].startswith("it ended REJECTED")
    assert shown(store, idle) == (False, "", "it left no effect that an undo could take back")
    assert shown(store, gone) == (True, "", "")
    put_node(store, replace(heartbeat(2, node_id=OTHER_NODE), incarnation=REBORN, at_ns=1 << 62))
    assert shown(store, gone) == (True, "", f"node {OTHER_NODE} lost the journal that knows what was done")


def test_of_many_undos_the_newest_are_shown_and_the_one_that_took_effect(store: HistoryStore) -> None:
    pause = Story(1, action="pause_container")
    undo = Story(2, action="unpause_container", undo_of=pause.id)
    late = [Story(number, action="unpause_container", undo_of=pause.id) for number in range(3, 20)]
    put(store, *pause.whole(effect_holds=True), *undo.whole())
    put(store, *(step for each in late for step in (each.requested(), each.refused())))
    known = store.execution(pause.id)
    assert known is not None
    assert [each.execution_id for each in known.undos] == [each.id for each in late[:-10:-1]] + [undo.id]
    assert shown(store, pause)[:2] == (False, undo.id)


def test_another_nodes_undo_undoes_nothing(store: HistoryStore) -> None:
    pause = Story(1, action="pause_container")
    put(store, *pause.whole(effect_holds=True))
    put(store, *Story(2, action="unpause_container", node_id=OTHER_NODE, undo_of=pause.id).whole())
    assert shown(store, pause) == (True, "", "")
    assert [row.execution_id for row in store.contained()] == [pause.id]


def test_what_holds_is_contained_until_an_undo_completes(store: HistoryStore) -> None:
    pause, kill = Story(1, action="pause_container"), Story(2)
    put(store, *pause.whole(effect_holds=True), *kill.whole())
    assert [row.execution_id for row in store.contained()] == [pause.id]

    for number, outcome in enumerate((each for each in Outcome if each is not Outcome.COMPLETED), start=3):
        put(store, *Story(number, action="unpause_container", undo_of=pause.id).whole(outcome))
    assert [row.execution_id for row in store.contained()] == [pause.id]
    assert shown(store, pause)[:2] == (True, "")

    undo = Story(99, action="unpause_container", undo_of=pause.id)
    put(store, *undo.whole())
    assert store.contained() == []
    assert shown(store, pause)[:2] == (False, undo.id)


def test_an_event_is_read_back_with_the_executions_it_led_to(store: HistoryStore) -> None:
    put_events(store, event(1))
    story = Story(1, rule="r", event_id=EventId("event-1"))
    put(store, story.requested())

    stored = store.event(EventId("event-1"))

    assert stored is not None
    assert (stored.event, stored.executions) == (event(1), (story.id,))
    assert store.event(EventId("event-2")) is None


def test_of_two_contents_under_one_event_id_the_first_to_arrive_is_shown(store: HistoryStore) -> None:
    put_events(store, event(1))
    put_events(store, event(1, message="something else"), event(1))

    stored = store.event(EventId("event-1"))

    assert stored is not None
    assert stored.event == event(1)
    assert [row.event for row in store.events(EventQuery()).rows] == [event(1)]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (EventQuery(), [4, 3, 2, 1]),
        (EventQuery(host="web-1"), [4, 2, 1]),
        (EventQuery(host=NODE), [4, 2, 1]),
        (EventQuery(rule="Odd"), [2]),
        (EventQuery(container=LONG_ID), [3]),
        (EventQuery(workload="shop"), [4]),
        (EventQuery(cluster="north"), [3]),
        (EventQuery(workload="shop", cluster="north"), []),
        (EventQuery(from_ns=START_NS + 2 * SECOND, to_ns=START_NS + 4 * SECOND), [3, 2]),
    ],
)
def test_events_are_searched_newest_first(store: HistoryStore, query: EventQuery, numbers: list[int]) -> None:
    put_node(store, heartbeat(1, name="web-1"))
    put_events(
        store,
        event(1),
        event(2, rule="Odd"),
        event(3, host="db-1", container=LONG_ID[:12], cluster="north"),
        event(4, host=NODE, workload="shop"),
    )
    assert [row.event.event_id for row in store.events(query).rows] == [f"event-{number}" for number in numbers]


def test_events_are_paged(store: HistoryStore) -> None:
    put_events(store, *(event(number) for number in range(5)))
    first = store.events(EventQuery(limit=3))
    second = store.events(EventQuery(limit=3, cursor=first.next_cursor))
    assert [row.event.event_id for row in first.rows + second.rows] == [f"event-{n}" for n in (4, 3, 2, 1, 0)]
    assert second.next_cursor == ""


def test_of_a_node_the_newest_heartbeat_stays_in_whatever_order_they_come(make: Make) -> None:
    states = [heartbeat(1), heartbeat(2), heartbeat(3), heartbeat(4, incarnation=REBORN)]
    digests = set()
    for seed in range(4):
        store = make()
        for state in random.Random(seed).sample(states, len(states)):
            put_node(store, state)
        assert [stored.state for stored in store.nodes()] == [states[-1]]
        digests.add(store.digest())
    assert len(digests) == 1


def test_nodes_are_listed_by_id_with_the_time_they_were_folded(store: HistoryStore) -> None:
    put_node(store, heartbeat(1, node_id=OTHER_NODE), folded_at_ns=8)
    put_node(store, heartbeat(1), folded_at_ns=9)
    assert [(stored.state.node_id, stored.folded_at_ns, stored.verified) for stored in store.nodes()] == [
        (NODE, 9, True),
        (OTHER_NODE, 8, True),
    ]


def chain(length: int, *, chain_id: str = f"node/{NODE}/{BORN}") -> list[tuple[AuditRecord, bytes]]:
    head, records = ChainHead(ChainId(chain_id)), []
    for number in range(length):
        record = AuditRecord(
            head.chain_id, number, head.hash, START_NS + number, "node", "intent", Story(number % 2).id
        )
        payload = CODEC.encode(record)
        records.append((record, payload))
        head = advance(head, payload)
    return records


def put_audit(store: HistoryStore, records: list[tuple[AuditRecord, bytes]], *, verified: bool = True) -> None:
    with store.begin() as tx:
        for record, payload in records:
            tx.put_audit(record, payload=payload, signed=b"signed", verified=verified)


def test_audit_records_of_an_unbroken_chain_are_verified_newest_first(store: HistoryStore) -> None:
    put_audit(store, chain(4))
    put_audit(store, chain(4))
    assert [(stored.record.record_no, stored.verified) for stored in store.audit()] == [
        (3, True),
        (2, True),
        (1, True),
        (0, True),
    ]
    assert [stored.record.record_no for stored in store.audit(execution_id=Story(1).id)] == [3, 1]
    assert len(store.audit(limit=2)) == 2
    assert store.audit(chain_id="another") == []


def test_an_audit_record_behind_a_missing_one_or_with_a_bad_signature_is_not_verified(store: HistoryStore) -> None:
    records = chain(4)
    put_audit(store, records[:1] + records[2:])
    put_audit(store, chain(1, chain_id="dispatcher/x"), verified=False)
    assert {(stored.record.chain_id, stored.record.record_no): stored.verified for stored in store.audit()} == {
        (f"node/{NODE}/{BORN}", 0): True,
        (f"node/{NODE}/{BORN}", 2): False,
        (f"node/{NODE}/{BORN}", 3): True,
        ("dispatcher/x", 0): False,
    }


def test_unverified_records_and_gaps_are_counted_once(store: HistoryStore) -> None:
    for _ in range(2):
        with store.begin() as tx:
            tx.put_unverified(RESULTS, 3, value=b"x" * 100_000, reason="bad_signature", at_ns=1)
            tx.put_gap(RESULTS, expected=5, resumed_at=9, reason="log_expired", at_ns=1)
    health = store.health()
    assert (health.unverified, health.gaps, health.executions, health.conflicts) == (1, 1, 0, 0)


def test_conflicts_are_counted(store: HistoryStore) -> None:
    put(store, *Story(1).whole(), Story(1).ended(Outcome.FAILED, seq=3), *Story(2).whole())
    assert (store.health().conflicts, store.health().executions) == (1, 2)


def test_record_numbers_of_a_sender_are_kept(store: HistoryStore) -> None:
    with store.begin() as tx:
        tx.put_sender("node/a/1", Ranges(((0, 4), (6, 9))))
        tx.put_sender("node/a/1", Ranges(((0, 9),)))
        tx.put_sender("dispatcher", Ranges(((3, 3),)))
        assert tx.senders(["node/a/1", "nobody"]) == {"node/a/1": Ranges(((0, 9),))}
    with store.begin() as tx:
        assert tx.senders(["dispatcher"]) == {"dispatcher": Ranges(((3, 3),))}


def test_two_contents_under_one_record_number_are_found(store: HistoryStore) -> None:
    honest, cloned = Story(1).claimed(), replace(Story(2).claimed(), record_no=Story(1).claimed().record_no)
    put(store, honest, cloned, Story(3).claimed())
    with store.begin() as tx:
        sender = f"node/{NODE}/{BORN}"
        assert tx.record_digests([(sender, honest.record_no), (sender, 999), ("nobody", 1)]) == {
            (sender, honest.record_no): frozenset({step_of(honest).digest, step_of(cloned).digest})
        }


def test_the_digest_is_of_what_was_folded_not_of_the_order_or_the_repetitions(make: Make) -> None:
    results = [result for number in range(6) for result in Story(number).whole()]
    digests = set()
    for seed in range(5):
        store = make()
        shuffled = random.Random(seed).choices(results, k=30) + random.Random(seed).sample(results, len(results))
        for start in range(0, len(shuffled), 7):
            put(store, *shuffled[start : start + 7])
        put_events(store, *random.Random(seed).sample([event(1), event(2), event(2, message="two")], 3))
        put_audit(store, random.Random(seed).sample(chain(3), 3))
        digests.add(store.digest())
    assert len(digests) == 1


def test_the_databases_agree_on_the_digest(tmp_path: Path, postgresql: Cluster) -> None:
    stores = [open_history(url, CODEC) for url in (f"sqlite:///{tmp_path}/history.sqlite", postgresql.url())]
    for store in stores:
        for number in range(3):
            put(store, *Story(number).whole())
        put_events(store, event(1))
        put_node(store, heartbeat(1))
        put_audit(store, chain(2))
    assert stores[0].digest() == stores[1].digest()
    for store in stores:
        store.close()


@pytest.mark.parametrize("change", ["step", "event", "node", "audit", "row"])
def test_the_digest_tells_two_histories_apart(make: Make, change: str) -> None:
    one, other = make(), make()
    for store in (one, other):
        put(store, *Story(1).whole())
    match change:
        case "step":
            put(other, Story(1).alarmed())
        case "event":
            put_events(other, event(1))
        case "node":
            put_node(other, heartbeat(1))
        case "audit":
            put_audit(other, chain(1))
        case _:
            with other.begin() as tx:
                tx.put_execution(replace(fold(Story(1).id, map(step_of, Story(1).whole())), code="other"))
    assert one.digest() != other.digest()


def test_hostile_text_is_stored_and_found(store: HistoryStore) -> None:
    for number, text in enumerate(["a\x00b", "x" * 5000, "\U0001f525 ' \" ; --", "é"]):
        put(store, Story(number, actor=text).requested())
        assert found(store, ExecutionQuery(actor=text)) == [Story(number, actor=text).id]


def test_readers_of_another_connection_see_whole_transactions_while_the_writer_writes(new_url: NewUrl) -> None:
    url = new_url()
    writer, reader = open_history(url, CODEC), open_history(url, CODEC)
    put(writer, Story(1).requested())
    with writer.begin() as tx:
        put_in(tx, step_of(Story(1).dispatched()), step_of(Story(2).requested()))
        during = reader.execution(Story(1).id)
        assert during is not None
        assert during.stage is Stage.REQUESTED
        assert reader.health().executions == 1
    after = reader.execution(Story(1).id)
    assert after is not None
    assert after.stage is Stage.DISPATCHED
    writer.close()
    reader.close()


def test_the_file_belongs_to_its_user_alone_and_its_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.sqlite"
    open_history(f"sqlite:///{path}", CODEC).close()
    assert path.stat().st_mode & 0o077 == 0
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
