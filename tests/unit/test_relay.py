"""The relay empties an outbox into the log: at least once, in order, nothing skipped in silence, nothing stuck."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.fakes.telemetry import FakeTelemetry
from workers.domain.ids import ChainId
from workers.domain.log.record import OutRecord
from workers.log.memory_outbox import MemoryOutbox
from workers.log.ports import LogWriter, OutboxRow, Relay
from workers.log.relay import FAILPOINTS, OutboxRelay


class Bench:
    """A relay between an outbox and a log in memory."""

    def __init__(
        self, *, window: int = 1_000, queue: int = 100_000, refused: Callable[[OutboxRow, str], None] | None = None
    ) -> None:
        self.bus = FakeBus({"out": 1})
        self.outbox = MemoryOutbox(ChainId("chain"))
        self.clock = FakeClock()
        self.failpoints = FakeFailpoints()
        self.telemetry = FakeTelemetry()
        self.writer = self.bus.writer(queue=queue)
        self.relay = self.new_relay(self.writer, window=window, refused=refused)

    def new_relay(
        self, writer: LogWriter, *, window: int = 1_000, refused: Callable[[OutboxRow, str], None] | None = None
    ) -> OutboxRelay:
        return OutboxRelay(
            self.outbox,
            writer,
            failpoints=self.failpoints,
            telemetry=self.telemetry,
            clock=self.clock,
            refused=refused,
            window=window,
        )

    def publish(self, *values: bytes) -> None:
        for value in values:
            self.outbox.publish(OutRecord("out", b"k", value))

    def left(self) -> list[bytes | None]:
        return [row.record.value for row in self.outbox.outbox()]


def test_it_is_the_port() -> None:
    relay: Relay = Bench().relay
    assert relay.step() == 0


def test_rows_arrive_in_order_and_leave_the_outbox() -> None:
    bench = Bench()
    bench.publish(b"1", b"2", b"3")
    assert bench.relay.step() == 3
    assert bench.bus.values("out") == [b"1", b"2", b"3"]
    assert bench.left() == []


def test_a_row_is_sent_once_however_often_the_relay_steps() -> None:
    bench = Bench()
    bench.publish(b"1")
    for _ in range(5):
        bench.relay.step()
    assert bench.bus.values("out") == [b"1"]


def test_nothing_leaves_the_outbox_while_the_log_is_unreachable() -> None:
    bench = Bench()
    bench.bus.down()
    bench.publish(b"1", b"2")
    assert bench.relay.step() == 0
    assert bench.left() == [b"1", b"2"]
    bench.bus.up()
    bench.relay.step()
    assert bench.left() == []
    assert bench.bus.values("out") == [b"1", b"2"]


def test_no_more_than_a_window_is_under_way() -> None:
    bench = Bench(window=3)
    bench.bus.down()
    bench.publish(*(b"%d" % number for number in range(10)))
    for _ in range(4):
        bench.relay.step()
    assert len(bench.writer.sent) == 3
    bench.bus.up()
    assert bench.relay.drain(10) == 0
    assert bench.bus.values("out") == [b"%d" % number for number in range(10)]


def test_a_full_queue_only_delays() -> None:
    bench = Bench(queue=2)
    bench.publish(*(b"%d" % number for number in range(9)))
    assert bench.relay.drain(10) == 0
    assert bench.bus.values("out") == [b"%d" % number for number in range(9)]


def test_a_record_that_was_not_taken_is_sent_again_and_those_behind_it_follow_it() -> None:
    bench = Bench(window=1)
    bench.bus.fail_next.append(("unknown_topic", False))
    bench.publish(b"1", b"2")
    assert bench.relay.drain(10) == 0
    assert bench.bus.values("out") == [b"1", b"2"]
    assert "relay_failed" in bench.telemetry.events("warning")


def test_a_record_that_failed_but_is_in_the_log_arrives_twice_rather_than_never() -> None:
    bench = Bench()
    bench.bus.fail_next.append(("timed_out", True))
    bench.publish(b"1")
    assert bench.relay.drain(10) == 0
    assert bench.bus.values("out") == [b"1", b"1"]


def test_between_two_attempts_it_pauses() -> None:
    bench = Bench()
    bench.bus.fail_next.append(("unknown_topic", False))
    bench.publish(b"1")
    for _ in range(5):
        bench.relay.step()
    assert len(bench.writer.sent) == 1
    bench.clock.advance(1)
    bench.relay.step()
    assert bench.left() == []


def test_a_record_too_large_for_the_log_is_set_aside_and_blocks_no_other() -> None:
    bench = Bench()
    bench.bus.max_bytes = 10
    bench.publish(b"1", bytes(11), b"2")
    assert bench.relay.drain(10) == 1
    assert bench.bus.values("out") == [b"1", b"2"]
    assert bench.left() == [bytes(11)]
    assert bench.telemetry.events("error") == ["relay_refused"]


def test_a_record_the_log_will_never_take_is_passed_on_and_then_acknowledged() -> None:
    passed: list[tuple[bytes | None, str]] = []
    bench = Bench(refused=lambda row, reason: passed.append((row.record.value, reason)))
    bench.bus.max_bytes = 10
    bench.publish(bytes(11), b"2")
    bench.bus.fail_next.append(("invalid_record", False))
    assert bench.relay.drain(10) == 0
    assert passed == [(bytes(11), "oversize"), (b"2", "invalid_record")]
    assert bench.bus.values("out") == []


def test_a_row_stays_when_passing_it_on_fails() -> None:
    def fails(row: OutboxRow, reason: str) -> None:
        raise RuntimeError("the journal is full")

    bench = Bench(refused=fails)
    bench.bus.max_bytes = 10
    bench.publish(bytes(11))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            bench.relay.step()
    assert bench.left() == [bytes(11)]


def test_an_outbox_that_cannot_acknowledge_is_tried_again() -> None:
    bench = Bench()
    bench.publish(b"1")
    bench.failpoints.arm("relay.before_acknowledge", error=RuntimeError("the disk is full"))
    with pytest.raises(RuntimeError):
        bench.relay.step()
    assert bench.relay.step() == 1
    assert bench.left() == []
    assert bench.bus.values("out") == [b"1"]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_crash_anywhere_loses_nothing(failpoint: str) -> None:
    bench = Bench()
    bench.publish(b"1", b"2")
    bench.failpoints.arm(failpoint)
    with pytest.raises(Crash):
        bench.relay.step()
    restarted = bench.new_relay(bench.bus.writer())
    assert restarted.drain(10) == 0
    found = bench.bus.values("out")
    assert list(dict.fromkeys(found)) == [b"1", b"2"]
    assert found[-2:] == [b"1", b"2"]


def test_draining_gives_up_when_the_time_is_over() -> None:
    bench = Bench()
    bench.bus.down()
    bench.publish(b"1")

    class Late(FakeClock):
        def monotonic_ns(self) -> int:
            self.advance(0.5)
            return super().monotonic_ns()

    relay = OutboxRelay(
        bench.outbox, bench.writer, failpoints=bench.failpoints, telemetry=bench.telemetry, clock=Late()
    )
    assert relay.drain(2) == 1
