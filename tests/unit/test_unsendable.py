"""A record that the log will never take blocks no other, is reported once, and the report never causes another."""

from __future__ import annotations

import pytest

from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock
from tests.fakes.codec import FakeCodec
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.signing import FakeSigner, fake_key
from tests.fakes.telemetry import FakeTelemetry
from workers.domain.ids import ChainId
from workers.domain.log.record import OutRecord
from workers.domain.log.topics import AUDIT, DEAD_LETTERS
from workers.domain.trust.keyset import KeyRole
from workers.log.memory_outbox import MemoryOutbox
from workers.log.ports import OutboxRow
from workers.log.relay import OutboxRelay
from workers.log.unsendable import LONGEST_NOTICE, Unsendable
from workers.wire.recorder import ChainRecorder


class Bench:
    """A worker without a journal: an outbox in memory, its relay, and a log that takes records up to a size."""

    def __init__(self, *, max_bytes: int, most: int = 100) -> None:
        self.bus = FakeBus({AUDIT: 1, DEAD_LETTERS: 1})
        self.bus.max_bytes = max_bytes
        self.outbox = MemoryOutbox(ChainId("gateway/test"), most=most)
        self.telemetry = FakeTelemetry()
        clock = FakeClock()
        recorder = ChainRecorder("gateway", signer=FakeSigner(fake_key("gateway", KeyRole.WORKER)), codec=FakeCodec())
        self.refused = Unsendable(self.outbox.begin, recorder, clock.now_ns, self.telemetry)
        self.relay = OutboxRelay(
            self.outbox,
            self.bus.writer(),
            failpoints=FakeFailpoints(),
            telemetry=self.telemetry,
            clock=clock,
            refused=self.refused,
        )

    def through(self, *records: OutRecord) -> list[bytes]:
        """What the audit topic has once everything has its fate."""
        for record in records:
            self.outbox.publish(record)
        while self.relay.step() or self.outbox.outbox():
            pass
        return [value or b"" for value in self.bus.values(AUDIT)]


def test_a_record_too_large_leaves_the_outbox_and_one_audit_record_that_names_it() -> None:
    bench = Bench(max_bytes=100_000)
    (notice,) = bench.through(OutRecord(DEAD_LETTERS, b"k", bytes(100_001)))
    assert bench.bus.values(DEAD_LETTERS) == []
    assert len(notice) < LONGEST_NOTICE
    assert [event for _, event, _ in bench.telemetry.lines] == ["relay_refused"]


def test_an_audit_record_too_large_is_followed_by_one_that_reports_it() -> None:
    bench = Bench(max_bytes=100_000)
    small = OutRecord(AUDIT, b"k", b"small")
    before, notice = bench.through(small, OutRecord(AUDIT, b"k", bytes(100_001)))
    assert before == b"small"
    assert len(notice) < LONGEST_NOTICE


def test_a_topic_that_refuses_even_the_notice_ends_in_a_log_line_and_not_in_a_loop() -> None:
    bench = Bench(max_bytes=4)
    assert bench.through(OutRecord(DEAD_LETTERS, b"k", bytes(5_000)), OutRecord(AUDIT, b"k", bytes(10))) == []
    assert bench.outbox.outbox() == []
    # The two, and the saying about the first.
    assert [event for _, event, _ in bench.telemetry.lines] == ["relay_refused"] * 3


@pytest.mark.parametrize("reason", ["invalid_record", "oversize"])
def test_a_full_outbox_is_logged(reason: str) -> None:
    bench = Bench(max_bytes=100_000, most=1)
    bench.outbox.publish(OutRecord(AUDIT, b"k", b"v"))
    bench.refused(OutboxRow(7, OutRecord(DEAD_LETTERS, b"k", bytes(9))), reason)
    assert [fields["error"] for _, _, fields in bench.telemetry.lines] == ["outbox_full"]
