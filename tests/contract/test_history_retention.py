"""What every history store forgets, and what it never does, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.test_history_store import chain, put, put_audit, put_events, put_node
from tests.contract.test_history_store import make as make
from tests.contract.test_history_store import store as store
from tests.fakes.clock import START_NS
from tests.stories import NODE, OTHER_NODE, REBORN, SECOND, Story, event, heartbeat
from workers.domain.history.queries import MAX_LIMIT, EventQuery, ExecutionQuery
from workers.domain.history.retention import Cutoffs, Forgotten
from workers.domain.ids import EventId, LogId
from workers.domain.log.record import LogPosition
from workers.domain.outcome import Outcome
from workers.store.history.ports import HistoryStore

LATE = START_NS + 1_000 * SECOND
"""After everything in these stories."""

ALL = Cutoffs(LATE, LATE, LATE, LATE)
RESULTS = LogPosition(LogId("log"), "response.results", 0)


def forget(store: HistoryStore, cutoffs: Cutoffs, *, limit: int = 1000) -> Forgotten:
    """All of it."""
    gone = Forgotten()
    while True:
        with store.begin() as tx:
            some = tx.forget(cutoffs, limit=limit)
        if not some.total:
            return gone
        gone += some


def left(store: HistoryStore) -> set[str]:
    return {row.execution_id for row in store.executions(ExecutionQuery(limit=MAX_LIMIT)).rows}


def events_left(store: HistoryStore) -> list[str]:
    return sorted(row.event.event_id for row in store.events(EventQuery()).rows)


def test_an_execution_goes_with_its_steps_when_its_newest_step_is_old_enough(store: HistoryStore) -> None:
    old, young = Story(1), Story(9)
    put(store, *old.whole(), *young.whole())

    gone = forget(store, Cutoffs(executions=young.at_ns))

    assert gone == Forgotten(executions=1)
    assert left(store) == {young.id}
    assert store.execution(old.id) is None
    with store.begin() as tx:
        assert tx.steps([old.id]) == {}


def test_an_execution_whose_newest_step_is_young_stays_however_long_ago_it_was_asked_for(store: HistoryStore) -> None:
    put(store, *Story(1).whole())
    assert forget(store, Cutoffs(executions=Story(1).ended().at_ns)).total == 0
    assert forget(store, Cutoffs(executions=Story(1).ended().at_ns + 1)).total == 1


def test_an_open_execution_is_never_forgotten(store: HistoryStore) -> None:
    stories = [Story(number) for number in range(5)]
    put(store, stories[0].requested())
    put(store, stories[1].requested(), stories[1].held())
    put(store, stories[2].requested(), stories[2].dispatched(), stories[2].alarmed())
    put(store, *stories[3].whole()[:3])
    put(store, *stories[4].whole(Outcome.UNKNOWN))
    assert forget(store, ALL).executions == 0
    assert left(store) == {story.id for story in stories}


def test_what_holds_and_can_be_undone_is_never_forgotten(store: HistoryStore) -> None:
    pause = Story(1, action="pause_container")
    put(store, *pause.whole(effect_holds=True))
    for number, outcome in enumerate([Outcome.FAILED, Outcome.NO_ACTION], start=2):
        put(store, *Story(number, action="unpause_container", undo_of=pause.id).whole(outcome))
    assert forget(store, ALL).executions == 0
    assert [row.execution_id for row in store.contained()] == [pause.id]


def test_what_was_undone_goes_with_its_undo_and_never_seems_to_hold_again(store: HistoryStore) -> None:
    pause = Story(1, action="pause_container")
    undo = Story(5, action="unpause_container", undo_of=pause.id)
    put(store, *pause.whole(effect_holds=True), *undo.whole())
    assert forget(store, Cutoffs(executions=undo.at_ns)).executions == 0
    while True:
        with store.begin() as tx:
            some = tx.forget(ALL, limit=1)
        assert store.contained() == []
        if not some.total:
            break
    assert left(store) == set()


def test_what_is_being_undone_stays_until_the_undo_has_ended(store: HistoryStore) -> None:
    stop, undo = Story(1, action="stop_container"), Story(2, action="start_container", undo_of=Story(1).id)
    put(store, *stop.whole(effect_holds=True), *undo.whole()[:2])
    assert forget(store, ALL).executions == 0
    put(store, *undo.whole())
    assert forget(store, ALL).executions == 2


def test_an_undo_of_an_undo_goes_last(store: HistoryStore) -> None:
    first = Story(1, action="stop_container")
    second = Story(2, action="start_container", undo_of=first.id)
    third = Story(3, action="stop_container", undo_of=second.id)
    put(store, *first.whole(effect_holds=True), *second.whole(effect_holds=True), *third.whole())
    assert forget(store, ALL, limit=1).executions == 3


def test_an_event_goes_when_it_is_old_enough_unless_an_execution_came_of_it(store: HistoryStore) -> None:
    put_events(store, *(event(number) for number in range(1, 5)), event(2, message="another content"))
    story = Story(1, rule="r", event_id=EventId("event-1"))
    put(store, *story.whole())
    assert forget(store, Cutoffs(events=START_NS + 4 * SECOND)) == Forgotten(events=3)
    assert events_left(store) == ["event-1", "event-4"]
    assert forget(store, ALL).events == 2
    assert events_left(store) == []


def test_a_bounded_number_goes_at_a_time(store: HistoryStore) -> None:
    put_events(store, *(event(number) for number in range(7)))
    put(store, *(result for number in range(5) for result in Story(number).whole()))
    put_audit(store, chain(6))
    with store.begin() as tx:
        assert tx.forget(ALL, limit=3) == Forgotten(events=3, executions=3, audit=3)
    assert forget(store, ALL, limit=3) == Forgotten(events=4, executions=2, audit=3)


def test_retention_never_goes_back_and_finishes_what_it_began(store: HistoryStore) -> None:
    put_events(store, event(1), event(2))
    with store.begin() as tx:
        assert tx.forgotten() == Cutoffs()
        tx.forget(ALL, limit=1)
        assert tx.forgotten() == ALL
    with store.begin() as tx:
        assert tx.forget(Cutoffs(), limit=10).events == 1
        assert tx.forgotten() == ALL


def test_a_transaction_that_fails_forgets_nothing(store: HistoryStore) -> None:
    put_events(store, event(1))

    def fail_half_way() -> None:
        with store.begin() as tx:
            tx.forget(ALL, limit=10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with store.begin() as tx:
        assert tx.forgotten() == Cutoffs()
    assert events_left(store) == ["event-1"]


def test_a_cut_chain_of_audit_is_still_verified_and_a_changed_one_is_not(store: HistoryStore) -> None:
    records = chain(8)
    put_audit(store, records[:6])
    cut = Cutoffs(audit=START_NS + 3)
    assert forget(store, cut, limit=2).audit == 3
    assert [(stored.record.record_no, stored.verified) for stored in store.audit()] == [
        (5, True),
        (4, True),
        (3, True),
    ]
    assert forget(store, ALL).audit == 3
    put_audit(store, records[6:])
    assert [(stored.record.record_no, stored.verified) for stored in store.audit()] == [(7, True), (6, True)]
    forged, payload = records[7]
    put_audit(store, [(replace(forged, record_no=6, at_ns=LATE), payload)])
    assert [stored.verified for stored in store.audit(limit=1)] == [False]


def test_the_audit_of_what_is_open_stays(store: HistoryStore) -> None:
    put_audit(store, chain(6))  # of stories 0 and 1 by turns
    put(store, *Story(0).whole(effect_holds=True), *Story(1).whole())
    assert forget(store, replace(ALL, executions=0)).audit == 3
    assert [(stored.record.record_no, stored.verified) for stored in store.audit()] == [
        (4, True),
        (2, True),
        (0, True),
    ]
    put(store, *Story(2, undo_of=Story(0).id).whole())
    assert forget(store, ALL).audit == 3


def test_a_node_goes_when_it_was_silent_for_long_unless_it_ran_an_execution(store: HistoryStore) -> None:
    put_node(store, heartbeat(1))
    put_node(store, heartbeat(2, incarnation=REBORN))
    put_node(store, heartbeat(1, node_id=OTHER_NODE, name="db-1"))
    put(store, *Story(1).whole())
    cutoffs = Cutoffs(nodes=LATE)
    assert forget(store, cutoffs).nodes == 1
    assert [stored.state.node_id for stored in store.nodes()] == [NODE]
    assert store.executions(ExecutionQuery(host="web-1")).rows
    put(store, Story(2, node_id=OTHER_NODE, host=OTHER_NODE).requested())
    assert not store.executions(ExecutionQuery(host="db-1")).rows
    assert forget(store, ALL).nodes == 2
    assert store.nodes() == []


def test_unverified_records_go_with_the_audit(store: HistoryStore) -> None:
    for number, at_ns in enumerate((START_NS, LATE + 1)):
        with store.begin() as tx:
            tx.put_unverified(RESULTS, number, value=b"x", reason="bad_signature", at_ns=at_ns)
            tx.put_gap(RESULTS, expected=number, resumed_at=9, reason="log_expired", at_ns=at_ns)
    forget(store, ALL)
    assert (store.health().unverified, store.health().gaps) == (1, 1)


def test_the_newest_heartbeat_is_known(store: HistoryStore) -> None:
    assert store.health().last_heartbeat_ns == 0
    put_node(store, heartbeat(5))
    put_node(store, heartbeat(3, node_id=OTHER_NODE))
    assert store.health().last_heartbeat_ns == heartbeat(5).at_ns
