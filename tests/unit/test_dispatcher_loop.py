"""The dispatcher's loop holds no state: whatever fails, each request is dispatched once it works again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.signing import FakeVerifier
from tests.fakes.stores import MemoryLedger
from tests.unit.dispatching import COMMANDS, KEYSET, World, an_id, execute
from workers.dispatcher.dispatcher import Dispatcher
from workers.dispatcher.loop import READ, Loop
from workers.dispatcher.tails import Tails
from workers.domain.command import ActionCommand
from workers.domain.errors import LimitExceeded, PermanentFailure
from workers.domain.ids import ExecutionId
from workers.domain.log import topics
from workers.domain.log.record import OutRecord, Record
from workers.domain.request import ActionRequest
from workers.domain.trust.envelope import PayloadType
from workers.log.relay import OutboxRelay

ONE = an_id("one", 0)


class StopWhen:
    """Stops once something holds; a loop that never gets there fails instead of hanging."""

    def __init__(self, holds: Callable[[], bool], *, waiting: Callable[[], None] = lambda: None) -> None:
        self._holds = holds
        self._waiting = waiting
        self._asked = 0
        self.waited = 0

    def is_set(self) -> bool:
        self._asked += 1
        assert self._asked < 1000, "the loop never got there"
        return self._holds()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += 1
        self._waiting()
        return self._holds()


class Station:
    """A broker in memory, and dispatchers that come and go on one ledger."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = MemoryLedger()
        self.world = World(ledger=self.ledger, clock=self.clock)
        self.log = self.a_log("first")

    def a_log(self, log_id: str) -> FakeBus:
        wanted = {**dict.fromkeys((*READ, topics.AUDIT, topics.DEAD_LETTERS), 2), COMMANDS: 64}
        return FakeBus(wanted, clock=self.clock, log_id=log_id)

    def readable_ledger(self) -> MemoryLedger:
        """Opened again where a loop has ended and closed it."""
        if self.ledger.closed:
            self.ledger = self.ledger.reopened()
        return self.ledger

    def loop(self) -> Loop:
        """The next process, on the disk as it is."""
        fault, self.ledger = self.ledger.fault, self.ledger.reopened()
        self.ledger.break_with(fault)
        tails = Tails(self.log.writer())
        services = replace(self.world.services, tails=tails)
        dispatcher = Dispatcher(services, self.ledger, clock=self.clock, failpoints=FakeFailpoints())
        relay = OutboxRelay(
            self.ledger, tails, failpoints=FakeFailpoints(), telemetry=self.world.telemetry, clock=self.clock
        )
        return Loop(services, dispatcher, reader=self.log.reader(), relay=relay, clock=self.clock, close=lambda: None)

    def beat(self) -> None:
        self._append(self.world.heartbeat_record())

    def ask(self, request: ActionRequest) -> None:
        self._append(self.world.request_record(request))

    def _append(self, record: Record) -> None:
        self.log.append(OutRecord(record.position.topic, record.key, record.value))

    def dispatched(self) -> list[ExecutionId]:
        verifier = FakeVerifier(KEYSET, self.world.codec)
        values = [value for value in self.log.values(COMMANDS) if value is not None]
        return [verifier.verify(value, PayloadType.COMMAND, ActionCommand).record.command_id for value in values]

    def run_until(self, *ids: ExecutionId, waiting: Callable[[], None] = lambda: None) -> StopWhen:
        stop = StopWhen(lambda: self.dispatched() == list(ids), waiting=waiting)
        self.loop().run(stop)
        return stop


@pytest.fixture
def station() -> Station:
    return Station()


def test_heartbeats_are_taken_in_before_requests_are_read(station: Station) -> None:
    station.ask(execute())
    station.beat()
    station.run_until(ONE)
    assert station.readable_ledger().outbox() == []


def test_it_waits_for_a_broker_that_is_unreachable(station: Station) -> None:
    station.beat()
    station.ask(execute())
    station.log.down()
    stop = station.run_until(ONE, waiting=station.log.up)
    assert stop.waited == 1


def test_a_full_disk_loses_no_request(station: Station) -> None:
    station.beat()
    station.ask(execute())
    station.ledger.break_with(LimitExceeded("full", code="journal_full"))
    stop = station.run_until(ONE, waiting=lambda: station.ledger.break_with(None))
    assert stop.waited == 1


def test_a_disk_that_fails_while_it_runs_loses_nothing_that_was_read(station: Station) -> None:
    station.beat()

    def nodes_taken_in() -> bool:
        return any(station.ledger.next_offset(partition) for partition in station.log.positions(topics.NODES))

    def ask_and_break() -> bool:
        if nodes_taken_in() and not any(station.log.values(topics.REQUESTS_PEOPLE)):
            station.ask(execute())
            station.ledger.break_with(LimitExceeded("full", code="journal_full"))
        return station.dispatched() == [ONE]

    stop = StopWhen(ask_and_break, waiting=lambda: station.ledger.break_with(None))
    station.loop().run(stop)
    assert stop.waited >= 1


def test_a_broken_ledger_ends_it(station: Station) -> None:
    station.ledger.break_with(PermanentFailure("gone", code="journal_io"))
    with pytest.raises(PermanentFailure):
        station.run_until(ONE)


def test_the_next_process_goes_on_where_the_last_one_was(station: Station) -> None:
    station.beat()
    station.ask(execute())
    station.run_until(ONE)
    station.ask(execute("two"))
    station.run_until(ONE, an_id("two", 0))


def test_after_the_log_was_lost_open_commands_are_sent_again_and_everything_is_read_anew(station: Station) -> None:
    station.beat()
    station.ask(execute())
    station.run_until(ONE)
    (before,) = station.log.values(COMMANDS)
    station.log = station.a_log("second")
    station.ask(execute("two"))
    station.run_until(ONE, an_id("two", 0))
    assert before in station.log.values(COMMANDS)
    assert "new_log" in station.world.telemetry.events("warning")


def test_it_sends_what_is_left_before_it_stops(station: Station) -> None:
    station.beat()
    station.ask(execute())
    stop = StopWhen(lambda: bool(station.ledger.outbox()) or station.dispatched() == [ONE])
    station.loop().run(stop)
    assert station.dispatched() == [ONE]
    assert station.readable_ledger().outbox() == []
