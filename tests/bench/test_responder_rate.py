"""How fast alerts become requests: deciding alone, and from Falco's topic to the request's through a process."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from tests.fakes.actions import FAKE_ACTIONS
from tests.fakes.clock import FakeClock
from tests.fakes.outbox import RecordedOutbox
from tests.fakes.telemetry import FakeTelemetry
from tests.integration.test_responder_process import TOPICS, responding
from workers.domain.ids import LogId
from workers.domain.log.record import LogPosition, Record
from workers.domain.log.topics import FALCO_EVENTS
from workers.log.embedded import EmbeddedBroker
from workers.responder.decider import Decider
from workers.system.rule_files import parse_rules
from workers.wire.avro import AvroCodec
from workers.wire.event_reader import DetectorEvents
from workers.wire.recorder import ChainRecorder
from workers.wire.signing import EnvelopeSigner, PrivateKey

STOCK = (Path(__file__).parent.parent / "data" / "falco-events.jsonl").read_text().splitlines()[0]
EVENTS = 2_000


def decided_per_second(alert: dict[str, Any]) -> float:
    """100 rules by name, 20 by tag, 5 globs; one event after the other."""
    clock, codec, reported = FakeClock(), AvroCodec(), FakeTelemetry()
    signer = EnvelopeSigner(PrivateKey.generate(), codec)
    step = {"steps": [{"action": "kill_process"}]}
    rules = [{"name": f"n{n}", "match": {"rules": [f"Rule {n}"]}, **step} for n in range(100)]
    rules += [{"name": f"t{n}", "match": {"tags": [f"tag{n}"]}, **step} for n in range(20)]
    rules += [{"name": f"g{n}", "match": {"rules": [f"*word{n}*"]}, **step} for n in range(5)]
    decider = Decider(
        rules=parse_rules({"bench": {"rules": rules}}, FAKE_ACTIONS),
        oldest_event_s=300,
        events=DetectorEvents(codec, None),
        signer=signer,
        recorder=ChainRecorder("responder", signer=signer, codec=codec),
        outgoing=RecordedOutbox(),
        clock=clock,
        telemetry=reported,
    )
    value = json.dumps(alert).encode()
    position = LogPosition(LogId("log"), FALCO_EVENTS, 0)
    began = time.perf_counter()
    for offset in range(EVENTS):
        decider.decide(Record(position, offset, None, value))
        reported.spans.clear()
        if offset % 100 == 0:
            decider._outgoing = RecordedOutbox()
    return EVENTS / (time.perf_counter() - began)


def test_events_decided_per_second() -> None:
    stock = json.loads(STOCK)
    now = {"time": "2030-03-17T17:46:40Z", "output_fields": stock["output_fields"] | {"proc.pid": 4711, "evt.time": 0}}
    print(f"\nno rule matches: {decided_per_second(stock):,.0f} events/s")
    print(f"one rule matches: {decided_per_second(stock | now | {'rule': 'Rule 7'}):,.0f} events/s")


def test_from_alert_to_request_through_a_process(tmp_path: Path) -> None:
    with (
        EmbeddedBroker(TOPICS) as broker,
        responding(tmp_path, broker.bootstrap_servers, fetch_wait_ms=1, log_id="bench") as rig,
    ):
        process = rig.start()
        rig.alert(99)
        while not rig.requests():
            time.sleep(0.05)
        took = []
        for round_no in range(300):
            began = time.perf_counter()
            rig.alert(100 + round_no)
            while len(rig.read["response.requests.rules"]) < round_no + 2:
                for record in rig.reader.poll(0.05):
                    if isinstance(record, Record):
                        rig.read[record.position.topic].append(record)
            took.append((time.perf_counter() - began) * 1e3)
        rig.end(process)
    cuts = statistics.quantiles(took, n=100)
    print(f"\nalert written to request read, embedded broker: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
