"""Old commands come again: after a restart, after the journal was lost, with the clock turned back. Nothing happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.node import NODE, TOPIC, NodeBench
from tests.fakes.stores import MemoryJournal
from tests.guarantees.node import check_all
from workers.domain.outcome import Outcome

OLD = 1_000
DAY_S = 86_400


@pytest.fixture
def bench() -> NodeBench:
    """A node that has run a thousand commands, whose targets have been born again since."""
    made = NodeBench()
    for number in range(OLD):
        made.world.spawn(number)
        made.send(made.command(number=number))
    made.settle()
    assert len(made.world.effects) == OLD
    for number in range(OLD):
        made.world.spawn(number)
    made.clock.advance(2 * 300)
    return made


def replay(bench: NodeBench) -> None:
    bench.bus.replay(TOPIC)
    bench.settle(patience_s=120)


@pytest.mark.fault("F8")
def test_a_replay_does_nothing(bench: NodeBench) -> None:
    replay(bench)
    assert len(bench.world.effects) == OLD
    check_all(bench.observation())


def test_a_replay_after_a_restart_does_nothing(bench: NodeBench) -> None:
    bench.restart()
    replay(bench)
    assert len(bench.world.effects) == OLD
    check_all(bench.observation())


def test_a_replay_with_the_clock_a_day_back_does_nothing(bench: NodeBench) -> None:
    bench.clock.set(bench.clock.now_ns() - DAY_S * 1_000_000_000)
    bench.restart()
    replay(bench)
    assert len(bench.world.effects) == OLD
    check_all(bench.observation())


def test_a_replay_after_the_journal_was_lost_does_nothing_and_answers_nothing(bench: NodeBench) -> None:
    answered = len(bench.results())
    bench.journal = MemoryJournal(node_id=NODE, seed=1)
    bench.clock.set(bench.clock.now_ns() - 2 * 300 * 1_000_000_000)
    bench.restart()
    replay(bench)
    assert len(bench.world.effects) == OLD
    assert len(bench.results()) == answered
    assert {letter.reason for letter in bench.dead_letters()} == {"wrong_incarnation"}


def test_commands_withheld_until_they_expired_do_not_live_again_when_the_clock_is_turned_back(bench: NodeBench) -> None:
    withheld = [bench.command(number=number) for number in range(50)]
    bench.clock.advance(400)
    bench.heartbeat.step()
    bench.clock.set(bench.clock.now_ns() - DAY_S * 1_000_000_000)
    bench.restart()
    for command in withheld:
        bench.send(command)
    bench.settle()
    assert {bench.results(command.command_id)[-1].outcome for command in withheld} == {Outcome.EXPIRED}
    assert len(bench.world.effects) == OLD
    check_all(bench.observation())


def test_a_forged_broker_timestamp_refuses_nothing(bench: NodeBench) -> None:
    fresh = bench.command(number=7)
    record = bench.send(fresh)
    bench.executor.take([replace(record, timestamp_ns=4_070_908_800_000_000_000)])
    bench.settle()
    assert bench.results(fresh.command_id)[-1].outcome is Outcome.COMPLETED
    check_all(bench.observation())
