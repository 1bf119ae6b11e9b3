"""What a node says of itself."""

from __future__ import annotations

import pytest

from tests.fakes.node import NODE, NodeBench, response_actions
from workers.domain.admission import MEMORY_NS
from workers.domain.errors import LimitExceeded, PermanentFailure
from workers.domain.node_state import Progress


def test_it_names_the_node_its_actions_and_how_far_it_has_read() -> None:
    bench = NodeBench(settings=response_actions(scripted_copy={"trigger": "NONE"}))
    bench.world.spawn(1)
    bench.send(bench.command())
    bench.settle()
    bench.heartbeat.step()
    bench.settle()
    (state,) = bench.heartbeats()
    assert state.node_id == NODE
    assert state.incarnation == bench.journal.incarnation
    assert state.node_key == bench.services.identity.key_id
    assert "scripted_kill" in state.actions
    assert "scripted_copy" not in state.actions
    assert [position.next_offset for position in state.positions] == [1]
    assert (state.queued, state.running, state.unpublished, state.health) == (0, 0, 0, "ok")


def test_it_is_sent_while_the_journal_is_full_and_reports_that() -> None:
    bench = NodeBench()
    bench.heartbeat.step()
    bench.journal.break_with(LimitExceeded("full", code="journal_full"))
    bench.heartbeat.step()
    bench.heartbeat.step()
    bench.journal.break_with(None)
    bench.heartbeat.step()
    bench.heartbeat.step()
    bench.settle()
    states = sorted(bench.heartbeats(), key=lambda state: state.record_no)
    assert [state.record_no for state in states] == [0, 1, 2, 3, 4], "no number twice, none left out"
    assert [state.health for state in states] == ["ok", "journal", "journal", "journal", "ok"]


def test_it_is_sent_while_the_journal_cannot_even_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = NodeBench()

    def broken() -> None:
        raise PermanentFailure("EIO", code="journal_io")

    monkeypatch.setattr(bench.journal, "positions", broken)
    bench.heartbeat.step()
    bench.settle()
    (state,) = bench.heartbeats()
    assert state.positions == ()


def test_it_is_numbered_with_the_results_and_across_restarts() -> None:
    bench = NodeBench()
    bench.world.spawn(1)
    bench.heartbeat.step()
    bench.send(bench.command())
    bench.settle()
    bench.restart()
    bench.heartbeat.step()
    bench.settle()
    first, second = bench.heartbeats()
    assert [first.record_no, *(result.record_no for result in bench.results()), second.record_no] == [0, 1, 2, 3]
    assert second.instance_id != first.instance_id


def test_it_reports_that_the_node_is_ending() -> None:
    bench = NodeBench()
    bench.services.health.ending("stopping")
    bench.heartbeat.step()
    bench.settle()
    assert [state.health for state in bench.heartbeats()] == ["stopping"]


def test_it_reports_the_progress_of_uploads_until_they_end() -> None:
    bench = NodeBench()
    execution_id = bench.command().command_id
    board = bench.services.host.progress
    board.update(execution_id, done=5, size=9)
    bench.heartbeat.step()
    board.finish(execution_id)
    bench.heartbeat.step()
    board.update(execution_id, done=0, size=9)
    bench.restart()
    bench.heartbeat.step()
    bench.settle()
    assert [state.gathering for state in bench.heartbeats()] == [(Progress(execution_id, 5, 9),), (), ()]


def test_it_persists_the_floor_of_time() -> None:
    bench = NodeBench()
    bench.send(bench.command())
    bench.settle()
    bench.clock.advance(1000)
    bench.heartbeat.step()
    assert bench.journal.floor_ns() == bench.clock.now_ns()


def test_tidying_forgets_only_what_no_replay_can_revive() -> None:
    bench = NodeBench()
    bench.world.spawn(1)
    command = bench.command()
    bench.send(command)
    bench.settle()
    bench.clock.advance(300 + MEMORY_NS / 1e9 - 1)
    assert bench.heartbeat.tidy() == 0
    bench.send(command)
    bench.settle()
    assert len([r for r in bench.results() if r.outcome]) == 2
    bench.clock.advance(2)
    assert bench.heartbeat.tidy() == 1
    bench.send(command, genuine=False)
    bench.settle()
    assert [letter.reason for letter in bench.dead_letters()] == ["too_old"]
    assert len([r for r in bench.results() if r.outcome]) == 2


def test_a_wall_clock_that_jumps_ahead_does_not_make_the_node_forget() -> None:
    bench = NodeBench()
    bench.world.spawn(1)
    bench.send(bench.command())
    bench.settle()
    bench.clock.set(bench.clock.now_ns() + 100 * MEMORY_NS)
    assert bench.heartbeat.tidy() == 0
