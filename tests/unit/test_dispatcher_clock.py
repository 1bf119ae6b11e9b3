"""A dispatcher whose clock is wrong holds its timers, expires nothing, and goes on by itself once it is right."""

from __future__ import annotations

import pytest

from tests.fakes.clock import START_NS, FakeClock
from tests.unit.dispatching import NODE, OTHER, SECOND, World, an_id, execute, position
from workers.dispatcher.clock_watch import LATELY_NS, ClockWatch
from workers.domain.ids import NodeId
from workers.domain.outcome import Outcome

DAY = 86_400 * SECOND
HOUR_S = 3600


class Truth:
    """The present time, whatever the dispatcher's clock shows, and a node that knows it."""

    def __init__(self) -> None:
        self.world = World()
        self.skew_ns = 0

    @property
    def now_ns(self) -> int:
        return self.world.clock.now_ns() - self.skew_ns

    def skew(self, skew_ns: int) -> None:
        self.world.clock.set(self.now_ns + skew_ns)
        self.skew_ns = skew_ns

    def passes(self, seconds: int, *, beats: bool = True) -> None:
        """Time, with a heartbeat every ten seconds and a tick every second."""
        for second in range(seconds):
            self.world.clock.advance(1)
            if beats and second % 10 == 9:
                self.world.beat(at_ns=self.now_ns)
            self.world.dispatcher.tick()

    def undos(self) -> int:
        return len({command.command_id for command in self.world.commands() if command.undo_of})

    def suspended(self) -> int:
        return sum(1 for record in self.world.audit() if record.kind == "clock_suspect")


@pytest.fixture
def truth() -> Truth:
    made = Truth()
    made.world.beat(at_ns=made.now_ns)
    made.passes(30)
    return made


def halted_for_an_hour(truth: Truth) -> None:
    world = truth.world
    world.ask(execute("one", "halt", undo_after_s=HOUR_S, requested_at_ns=truth.now_ns))
    world.node_reports(an_id("one", 0), effect_holds=True, at_ns=truth.now_ns)


@pytest.mark.parametrize("skew_ns", [DAY, -DAY, 120 * SECOND])
def test_a_clock_that_jumps_releases_nothing_early_and_nothing_late(truth: Truth, skew_ns: int) -> None:
    halted_for_an_hour(truth)
    truth.passes(60)
    truth.skew(skew_ns)
    truth.passes(4, beats=False)
    assert truth.suspended() == 1
    truth.passes(60)
    truth.skew(0)
    truth.passes(HOUR_S - 130)
    assert truth.undos() == 0
    truth.passes(20)
    assert truth.undos() == 1


@pytest.mark.parametrize("skew_ns", [DAY, -DAY])
def test_a_kill_while_the_clock_is_wrong_is_in_time_by_the_nodes_clock(truth: Truth, skew_ns: int) -> None:
    truth.skew(skew_ns)
    truth.world.ask(execute("one", requested_at_ns=truth.now_ns))
    (command,) = truth.world.commands()
    assert abs(command.issued_at_ns - min(truth.now_ns, truth.now_ns + skew_ns)) < SECOND
    assert command.expires_at_ns == truth.now_ns + 300 * SECOND
    assert truth.world.ends() == {}


def test_the_only_node_with_a_clock_a_day_ahead_gets_no_issue_time_of_that_day(truth: Truth) -> None:
    world = truth.world
    for _ in range(10):
        truth.passes(10, beats=False)
        world.beat(at_ns=truth.now_ns + DAY)
    world.ask(execute("one", requested_at_ns=truth.now_ns))
    (command,) = world.commands()
    assert command.issued_at_ns <= truth.now_ns


@pytest.mark.parametrize("skew_ns", [DAY, -DAY])
def test_an_effect_that_began_while_the_clock_was_wrong_holds_as_long(truth: Truth, skew_ns: int) -> None:
    truth.skew(skew_ns)
    halted_for_an_hour(truth)
    truth.passes(20)
    truth.skew(0)
    truth.passes(HOUR_S - 30)
    assert truth.undos() == 0
    truth.passes(20)
    assert truth.undos() == 1


@pytest.mark.parametrize("skew_ns", [DAY, -DAY])
def test_a_dispatcher_that_starts_with_a_wrong_clock_releases_and_expires_nothing(skew_ns: int) -> None:
    """It has one heartbeat of each node by then, and does not know yet whether that is old."""
    truth = Truth()
    truth.skew(skew_ns)
    truth.world.beat(at_ns=truth.now_ns)
    halted_for_an_hour(truth)
    truth.passes(9)
    assert truth.world.ends() == {}
    truth.skew(0)
    truth.passes(HOUR_S - 30)
    assert truth.undos() == 0


def test_one_node_with_a_wrong_clock_holds_nothing(truth: Truth) -> None:
    truth.world.beat(OTHER)
    truth.world.beat(at_ns=truth.now_ns + DAY)
    halted_for_an_hour(truth)
    for _ in range(HOUR_S // 60 + 1):
        truth.world.beat(OTHER, at_ns=truth.now_ns)
        truth.world.beat(at_ns=truth.now_ns + DAY)
        truth.passes(60, beats=False)
    assert (truth.undos(), truth.suspended()) == (1, 0)


def test_a_node_that_is_gone_does_not_hold_the_timers(truth: Truth) -> None:
    halted_for_an_hour(truth)
    truth.passes(HOUR_S + 10, beats=False)
    assert (truth.undos(), truth.suspended()) == (1, 0)


def test_a_backlog_of_old_heartbeats_holds_the_timers_until_it_is_read_and_stamps_nothing() -> None:
    clock = FakeClock()
    watch = ClockWatch(clock)
    for age_s in range(1000, 50, -10):
        watch.note(NODE, START_NS - age_s * SECOND, 0)
        assert (watch.suspect, watch.now_ns()) == (True, START_NS)
    watch.note(NODE, START_NS - SECOND, 0)
    assert (watch.suspect, watch.offset_ns()) == (False, 0)


def test_a_node_whose_heartbeat_is_old_has_no_vote() -> None:
    clock = FakeClock()
    watch = ClockWatch(clock)
    watch.note(NODE, START_NS + DAY, 0)
    assert watch.suspect
    clock.advance(LATELY_NS / SECOND + 1)
    assert not watch.suspect


@pytest.mark.parametrize("ahead_ns", [DAY, -DAY])
def test_the_brokers_time_counts_as_the_signed_one_does(ahead_ns: int) -> None:
    watch = ClockWatch(FakeClock())
    watch.note(NODE, START_NS, START_NS + ahead_ns)
    assert watch.offset_ns() == ahead_ns


def test_half_of_the_nodes_do_not_decide() -> None:
    watch = ClockWatch(FakeClock())
    for number in range(10):
        watch.note(NodeId(f"{number:032x}"), START_NS + (DAY if number % 2 else 0), 0)
    assert not watch.suspect


def test_within_the_clock_error_nothing_is_suspect(truth: Truth) -> None:
    truth.skew(29 * SECOND)
    truth.world.ask(execute("one", requested_at_ns=truth.now_ns))
    truth.passes(20)
    assert truth.suspended() == 0
    assert truth.world.results(an_id("one", 0))[-1].outcome is not Outcome.EXPIRED


def test_a_node_whose_clock_is_ahead_does_not_prove_that_a_command_was_never_taken_in(truth: Truth) -> None:
    truth.world.beat(OTHER)
    truth.world.ask(execute("one", requested_at_ns=truth.now_ns))
    truth.world.beat(at_ns=truth.now_ns + DAY, positions=(position(0),))
    assert truth.world.ends() == {}
