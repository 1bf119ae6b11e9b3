"""Who is next."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from workers.actions.base import Lane
from workers.domain.ids import ExecutionId
from workers.node.lanes import ALONE_NS, HELD_NS, Lanes, Task

_IDS = itertools.count()


def task(key: str = "", *, lane: Lane = Lane.CONTAINMENT, rank: int = 0, due_ns: int = 0, alone: bool = False) -> Task:
    number = next(_IDS)
    return Task(ExecutionId(f"x{number}"), lane, key or f"key-{number}", rank, due_ns, alone=alone)


def test_the_oldest_goes_first() -> None:
    lanes = Lanes(10)
    first, second = task(), task()
    lanes.push([first, second])
    assert [lanes.take(Lane.CONTAINMENT, 0), lanes.take(Lane.CONTAINMENT, 0)] == [first, second]
    assert lanes.take(Lane.CONTAINMENT, 0) is None


def test_people_overtake_rules_and_rules_overtake_dry_runs() -> None:
    lanes = Lanes(10)
    dry_run, rule, person = task(rank=2), task(rank=1), task(rank=0)
    lanes.push([dry_run, rule, person])
    assert [lanes.take(Lane.CONTAINMENT, 0) for _ in range(3)] == [person, rule, dry_run]


def test_two_with_one_key_never_run_side_by_side() -> None:
    lanes = Lanes(10)
    first, second = task("pid 1"), task("pid 1")
    lanes.push([first, second])
    assert lanes.take(Lane.CONTAINMENT, 0) == first
    assert lanes.take(Lane.CONTAINMENT, 0) is None
    lanes.done(first)
    assert lanes.take(Lane.CONTAINMENT, 0) == second


def test_a_busy_key_delays_no_other() -> None:
    lanes = Lanes(10)
    first, second, other = task("pid 1"), task("pid 1"), task("pid 2")
    lanes.push([first, second, other])
    lanes.take(Lane.CONTAINMENT, 0)
    assert lanes.take(Lane.CONTAINMENT, 0) == other


def test_a_lane_never_gives_out_anothers() -> None:
    lanes = Lanes(10)
    copy = task("same", lane=Lane.GATHERING)
    lanes.push([copy])
    assert lanes.take(Lane.CONTAINMENT, 0) is None
    assert lanes.take(Lane.GATHERING, 0) == copy
    kill = task("same")
    lanes.push([kill])
    assert lanes.take(Lane.CONTAINMENT, 0) == kill, "a key is held in its own lane only"


def test_what_is_due_later_waits_until_then_and_keeps_its_key_free() -> None:
    lanes = Lanes(10)
    later = task("pid 1", due_ns=100)
    now = task("pid 1")
    lanes.push([later])
    assert lanes.next_due_ns(Lane.CONTAINMENT) == 100
    assert lanes.take(Lane.CONTAINMENT, 99) is None
    lanes.push([now])
    assert lanes.take(Lane.CONTAINMENT, 99) == now
    lanes.done(now)
    assert lanes.take(Lane.CONTAINMENT, 100) == later


def test_a_flood_of_rules_never_shuts_a_person_out() -> None:
    lanes = Lanes(2)
    lanes.push([task(rank=1), task(rank=2)])
    assert lanes.full(Lane.CONTAINMENT, 2)
    assert not lanes.full(Lane.CONTAINMENT, 1)
    assert lanes.full(Lane.CONTAINMENT, 1, coming=1)
    lanes.push([task(rank=1)])
    assert lanes.full(Lane.CONTAINMENT, 1)
    assert not lanes.full(Lane.CONTAINMENT, 0)
    assert not lanes.full(Lane.GATHERING, 2)


def test_dry_runs_never_take_more_than_two_threads() -> None:
    lanes = Lanes(10)
    dry_runs = [task(rank=2) for _ in range(4)]
    lanes.push(dry_runs)
    running = [lanes.take(Lane.CONTAINMENT, 0), lanes.take(Lane.CONTAINMENT, 0)]
    assert running == dry_runs[:2]
    assert lanes.take(Lane.CONTAINMENT, 0) is None
    rule = task(rank=1)
    lanes.push([rule])
    assert lanes.take(Lane.CONTAINMENT, 0) == rule
    lanes.done(dry_runs[0])
    assert lanes.take(Lane.CONTAINMENT, 0) == dry_runs[2]


def test_a_lane_is_idle_when_nothing_waits_and_nothing_runs() -> None:
    lanes = Lanes(10)
    assert lanes.idle(Lane.CONTAINMENT)
    one = task()
    lanes.push([one])
    assert not lanes.idle(Lane.CONTAINMENT)
    lanes.take(Lane.CONTAINMENT, 0)
    assert not lanes.idle(Lane.CONTAINMENT)
    lanes.done(one)
    assert lanes.idle(Lane.CONTAINMENT)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), max_size=40))
def test_every_ticket_is_given_out_exactly_once_and_never_two_of_a_key(plan: list[tuple[str, int, bool]]) -> None:
    lanes = Lanes(100)
    running: list[Task] = []
    given_out: list[Task] = []
    pushed: list[Task] = []
    for key, rank, finish in plan:
        one = task(key, rank=rank)
        pushed.append(one)
        lanes.push([one])
        taken = lanes.take(Lane.CONTAINMENT, 0)
        if taken is not None:
            assert taken.key not in {other.key for other in running}
            running.append(taken)
            given_out.append(taken)
        if finish and running:
            lanes.done(running.pop(0))
    while running or lanes.queued:
        while running:
            lanes.done(running.pop())
        taken = lanes.take(Lane.CONTAINMENT, 0)
        if taken is not None:
            running.append(taken)
            given_out.append(taken)
    assert sorted(t.execution_id for t in given_out) == sorted(t.execution_id for t in pushed)
    assert (lanes.queued, lanes.running) == (0, 0)


def test_there_is_more_to_take_unless_only_dry_runs_wait_for_a_free_thread() -> None:
    lanes = Lanes(10)
    assert not lanes.more(Lane.CONTAINMENT)
    lanes.push([task(rank=2) for _ in range(3)])
    lanes.take(Lane.CONTAINMENT, 0)
    assert lanes.more(Lane.CONTAINMENT)
    lanes.take(Lane.CONTAINMENT, 0)
    assert not lanes.more(Lane.CONTAINMENT)
    lanes.push([task(rank=0)])
    assert lanes.more(Lane.CONTAINMENT)
    assert not lanes.more(Lane.GATHERING)


def test_what_was_at_work_at_a_crash_runs_alone_one_after_the_other() -> None:
    lanes = Lanes(100)
    one, two, new = task(alone=True), task(alone=True), task()
    lanes.push([one, two, new])
    assert lanes.take(Lane.CONTAINMENT, 1) == one
    assert lanes.take(Lane.CONTAINMENT, 1) is None
    lanes.done(one)
    assert lanes.take(Lane.CONTAINMENT, 2) == two
    assert lanes.take(Lane.CONTAINMENT, 2) is None
    lanes.done(two)
    assert lanes.take(Lane.CONTAINMENT, 3) == new
    assert not lanes.idle(Lane.CONTAINMENT)


def test_what_runs_alone_holds_back_new_commands_for_a_while_and_the_next_of_its_kind_for_longer() -> None:
    lanes = Lanes(100)
    hung, waiting, new = task(alone=True), task(alone=True), task()
    lanes.push([hung, waiting, new])
    assert lanes.take(Lane.CONTAINMENT, 1) == hung
    assert lanes.take(Lane.CONTAINMENT, HELD_NS) is None
    assert lanes.take(Lane.CONTAINMENT, HELD_NS + 1) == new
    assert lanes.take(Lane.CONTAINMENT, ALONE_NS) is None
    assert lanes.take(Lane.CONTAINMENT, ALONE_NS + 1) == waiting


def test_a_copy_that_runs_alone_holds_back_no_kill() -> None:
    lanes = Lanes(100)
    copy, another, kill = task(lane=Lane.GATHERING, alone=True), task(lane=Lane.GATHERING), task()
    lanes.push([copy, another, kill])
    assert lanes.take(Lane.CONTAINMENT, 1) == kill
    assert lanes.take(Lane.GATHERING, 1) == copy
    assert lanes.take(Lane.GATHERING, 1) is None
    lanes.done(copy)
    assert lanes.take(Lane.GATHERING, 1) == another
