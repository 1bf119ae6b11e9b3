"""How many signed results a second become history in SQLite: verified, folded, committed with their offsets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.outbox import RecordedOutbox
from tests.fakes.telemetry import FakeTelemetry
from tests.stories import NODE, Story
from workers.domain.history.queries import ExecutionQuery
from workers.domain.log import topics
from workers.domain.log.record import OutRecord
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.projector.alarms import Alarms
from workers.projector.projector import Projector
from workers.projector.rebuild import SilentRecorder
from workers.projector.record_reader import TOPICS, RecordReader
from workers.store.history.store import open_history
from workers.system.clock import SystemClock
from workers.wire.avro import AvroCodec
from workers.wire.event_reader import DetectorEvents
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey

EXECUTIONS = 5000


@pytest.mark.parametrize("batch", [100, 1000])
def test_results_become_history(tmp_path: Path, batch: int) -> None:
    codec, clock = AvroCodec(), FakeClock()
    node, dispatcher = PrivateKey.generate(), PrivateKey.generate()
    keys = [
        PublicKey(node.key_id, node.public, KeyRole.NODE, NODE),
        PublicKey(dispatcher.key_id, dispatcher.public, KeyRole.DISPATCHER, "dispatcher"),
    ]
    log = FakeBus(dict.fromkeys(TOPICS, 1), clock=clock)
    signers = {"node": EnvelopeSigner(node, codec), "dispatcher": EnvelopeSigner(dispatcher, codec)}
    for number in range(EXECUTIONS):
        for result in Story(number, rule="r").whole():
            value = signers[result.producer].sign(PayloadType.RESULT, result).value
            log.append(OutRecord(topics.RESULTS, NODE.encode(), value))
    store = open_history(f"sqlite:///{tmp_path}/h.sqlite", codec)
    telemetry = FakeTelemetry()
    verifier = EnvelopeVerifier(Keyset(1, 1 << 62, {key.key_id: key for key in keys}), codec, clock=clock)
    projector = Projector(
        store=store,
        reader=log.reader(),
        reading=RecordReader(
            verifier=verifier, codec=codec, events=DetectorEvents(codec, verifier), telemetry=telemetry
        ),
        alarms=Alarms(recorder=SilentRecorder(), outbox=RecordedOutbox(), telemetry=telemetry, clock=clock),
        clock=SystemClock(),
        telemetry=telemetry,
        failpoints=FakeFailpoints(),
        limit=batch,
    )
    projector.start()
    began = time.perf_counter()
    while projector.step(0):
        pass
    took = time.perf_counter() - began
    began = time.perf_counter()
    pages = [store.executions(ExecutionQuery(host=NODE)) for _ in range(20)]
    asked = (time.perf_counter() - began) / len(pages)
    began = time.perf_counter()
    store.digest()
    digested = time.perf_counter() - began
    assert len(pages[-1].rows) == 25
    assert store.health().executions == EXECUTIONS
    size = (tmp_path / "h.sqlite").stat().st_size / EXECUTIONS
    print(
        f"\nbatch {batch}: {EXECUTIONS * 4 / took:,.0f} results/s, {EXECUTIONS / took:,.0f} executions/s, "
        f"{size:,.0f} bytes an execution, a page of 25 in {asked * 1000:.1f} ms, digest in {digested:.2f} s"
    )
    store.close()
