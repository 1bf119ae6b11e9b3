"""The projector as its own process on the embedded broker, killed wherever it hurts: nothing lost, nothing twice.

The broker forgets when it closes, so this shows what the projector's own store promises, not what Kafka does.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.fakes.telemetry import FakeTelemetry
from tests.guarantees.history import ReplayChangesNothing
from tests.postgresql import NewUrl
from tests.stories import BORN, NODE, Story, event, heartbeat
from workers.domain.history.rebuild import Carried
from workers.domain.ids import ChainId, NodeId
from workers.domain.log import topics
from workers.domain.log.record import Earliest, OutRecord, Record
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord, ChainHead, advance
from workers.domain.trust.envelope import PayloadType
from workers.log.embedded import EmbeddedBroker
from workers.log.readers import KafkaLogReader
from workers.log.writer import KafkaLogWriter
from workers.projector.projector import FAILPOINTS
from workers.projector.rebuild import FAILPOINTS as REBUILD_PLACES
from workers.settings import KafkaSecurity, KafkaSettings, ProjectorSettings, parse
from workers.store.history.home import HALF_WAY
from workers.store.history.ports import HistoryStore
from workers.store.history.store import open_history
from workers.system.clock import SystemClock
from workers.system.yaml_files import read_mapping
from workers.wire.avro import AvroCodec
from workers.wire.event_reader import DetectorEvents
from workers.wire.keys import init_keys, load_keyset, load_private_key
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier
from workers.wiring.projector import Choice, rebuild_history

CODEC = AvroCodec()
TOPICS = {
    topics.RESULTS: 3,
    topics.AUDIT: 1,
    topics.NODES: 1,
    topics.RUNTIME_EVENTS: 1,
    topics.FALCO_EVENTS: 1,
    topics.DEAD_LETTERS: 1,
}
FOLDED = tuple(topic for topic in TOPICS if topic != topics.DEAD_LETTERS)
SETTLE_S = 30.0
STRANGER = NodeId("e" * 32)


@dataclass
class Rig:
    """A broker, keys, a writer, and projector processes that come and go."""

    home: Path
    kafka: KafkaSettings
    writer: KafkaLogWriter
    verifier: EnvelopeVerifier
    signers: Mapping[str, EnvelopeSigner]
    head: ChainHead = field(default_factory=lambda: ChainHead(ChainId(f"node/{NODE}/{BORN}")))
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    sent: int = 0
    acked: set[int] = field(default_factory=set)
    reader: KafkaLogReader | None = None
    read: list[Record] = field(default_factory=list)

    url: str = ""

    @property
    def history(self) -> str:
        return self.url or f"sqlite:///{self.home}/history.sqlite"

    def start(self, failpoints: str = "", *, command: Sequence[str] = ("projector",)) -> subprocess.Popen[bytes]:
        with (self.home / "out.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", *command, "--config", str(self.home / "projector.yaml")],
                env={**os.environ, "DOUSE_FAILPOINTS": failpoints},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.running.append(process)
        return process

    def send(self, topic: str, value: bytes, key: bytes = b"") -> None:
        self.writer.send(OutRecord(topic, key or None, value), token=self.sent)
        self.sent += 1

    def flush(self) -> None:
        assert self.writer.flush(20) == 0
        for ack in self.writer.acks():
            assert ack.ok, ack.error
            self.acked.add(ack.token)

    def tell(self, *results: ActionResult, signer: str = "") -> None:
        for result in results:
            value = self.signers[signer or result.producer].sign(PayloadType.RESULT, result).value
            self.send(topics.RESULTS, value, result.execution_id.encode())

    def audit(self) -> None:
        record = AuditRecord(self.head.chain_id, self.head.next_no, self.head.hash, time.time_ns(), "node", "intent")
        sealed = self.signers["node"].sign(PayloadType.AUDIT, record)
        self.head = advance(self.head, sealed.payload)
        self.send(topics.AUDIT, sealed.value, b"chain")

    def live(self, number: int) -> None:
        """A little of everything, some of it twice, some of it forged, some of it garbage."""
        story = Story(number)
        self.tell(*story.whole())
        self.tell(story.ended())
        self.tell(replace(story.ended(), message="forged"), signer="stranger")
        self.audit()
        state = heartbeat(number * 10 + 7)
        self.send(topics.NODES, self.signers["node"].sign(PayloadType.NODE_STATE, state).value, NODE.encode())
        self.send(topics.RUNTIME_EVENTS, self.signers["gateway"].sign(PayloadType.EVENT, event(number)).value, b"host")
        if number % 4 == 0:
            self.send(topics.RESULTS, b"garbage", b"k")
            self.send(topics.FALCO_EVENTS, b"{}")
        self.flush()

    def log(self) -> list[Record]:
        """Everything that is in the log now."""
        if self.reader is None:
            self.reader = KafkaLogReader(self.kafka, telemetry=FakeTelemetry(), clock=SystemClock())
            positions = [position for topic in FOLDED for position in self.reader.partitions(topic)]
            self.reader.assign({position: Earliest() for position in positions})
        while (new := self.reader.poll(0.3, limit=1000)) or len(self.read) < self.sent:
            self.read += [each for each in new if isinstance(each, Record)]
        return self.read

    def open_store(self) -> HistoryStore:
        return open_history(self.history, CODEC)

    def folded(self) -> int:
        """How many records the store has behind it."""
        store = self.open_store()
        try:
            return sum(store.health().next_offsets.values())
        finally:
            store.close()

    def is_settled(self) -> bool:
        """Whether the store has come to the end of the log, the projector's own audit included."""
        ends: dict[str, int] = {}
        for record in self.log():
            ends[f"{record.position.topic}/{record.position.partition}"] = record.offset + 1
        store = self.open_store()
        try:
            return dict(store.health().next_offsets) == ends
        finally:
            store.close()

    def settle(self, process: subprocess.Popen[bytes]) -> HistoryStore:
        """The store, once the running projector has folded everything; the projector is stopped with SIGTERM."""
        until(self.is_settled)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (self.home / "out.log").read_text()
        return self.open_store()

    def check(self, store: HistoryStore) -> None:
        """History is what the log amounts to."""
        ReplayChangesNothing(self.verifier, CODEC, DetectorEvents(CODEC, self.verifier)).check(store, self.log())


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {SETTLE_S} s"
        time.sleep(0.05)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with EmbeddedBroker(TOPICS) as broker:
        keyset = init_keys(tmp_path / "keys", now_ns=time.time_ns(), nodes={"node": NODE, "stranger": STRANGER})
        (tmp_path / "projector.yaml").write_text(
            f"""
kafka: {{bootstrap_servers: "{broker.bootstrap_servers}", insecure_dev: true, fetch_wait_ms: 5, log_id: test,
        security: {{protocol: PLAINTEXT}}}}
keys: {{private_key: {tmp_path}/keys/projector.key, keyset: {tmp_path}/keys/keyset.json}}
history: sqlite:///{tmp_path}/history.sqlite
batch: 7
unsigned_topics: [falco.events]
"""
        )
        kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            security=KafkaSecurity(protocol="PLAINTEXT"),
            insecure_dev=True,
            fetch_wait_ms=5,
            log_id="test",
        )
        assert load_keyset(tmp_path / "keys" / "keyset.json") == keyset
        made = Rig(
            home=tmp_path,
            kafka=kafka,
            writer=KafkaLogWriter(kafka, telemetry=FakeTelemetry(), clock=SystemClock()),
            verifier=EnvelopeVerifier(keyset, CODEC, clock=SystemClock()),
            signers={
                name: EnvelopeSigner(load_private_key(tmp_path / "keys" / f"{name}.key"), CODEC)
                for name in ("dispatcher", "gateway", "node", "stranger")
            },
        )
        yield made
        for process in made.running:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        made.writer.close()
        if made.reader is not None:
            made.reader.close()


@pytest.mark.fault("F10")
@pytest.mark.parametrize("failpoint", FAILPOINTS)
@pytest.mark.parametrize("nth", [1, 3])
def test_killed_at_a_failpoint_it_resumes_and_history_is_the_fold_of_the_log(
    rig: Rig, failpoint: str, nth: int
) -> None:
    for number in range(8):
        rig.live(number)
    killed = rig.start(f"{failpoint}=kill:{nth}")
    assert killed.wait(30) == 137, (rig.home / "out.log").read_text()

    before, began = len(rig.log()), time.monotonic()
    process = rig.start()
    until(lambda: rig.folded() >= before)
    took = time.monotonic() - began
    store = rig.settle(process)

    rig.check(store)
    assert store.health().executions == 8
    assert store.health().conflicts == 0
    assert store.health().unverified == 8 + 2
    print(f"\n{failpoint} pass {nth}: from restart to settled {took:.1f} s")
    store.close()


@pytest.mark.fault("F10")
def test_killed_at_any_moment_again_and_again_history_is_the_fold_of_the_log(rig: Rig) -> None:
    randomness = random.Random(7)
    number = 0
    for _ in range(6):
        process = rig.start()
        deadline = time.monotonic() + randomness.uniform(0.3, 2.5)
        while time.monotonic() < deadline:
            rig.live(number)
            number += 1
            time.sleep(0.05)
        process.kill()
        process.wait(10)
    store = rig.settle(rig.start())
    rig.check(store)
    assert store.health().executions == number
    print(f"\n{number} executions through 6 kills, {len(rig.log())} records")
    store.close()


def test_ten_replays_change_nothing(rig: Rig) -> None:
    for number in range(8):
        rig.live(number)
    process = rig.start()
    until(rig.is_settled)
    store = rig.open_store()
    genuine = [record for record in rig.log() if record.position.topic in (topics.RESULTS, topics.NODES)]
    before = {number: store.execution(Story(number).id) for number in range(8)}
    for _ in range(10):
        for record in genuine:
            rig.send(record.position.topic, record.value or b"", record.key or b"")
        rig.flush()
    store.close()
    store = rig.settle(process)
    assert {number: store.execution(Story(number).id) for number in range(8)} == before
    rig.check(store)
    store.close()


def test_a_rebuild_out_of_the_log_equals_the_live_store(rig: Rig) -> None:
    for number in range(8):
        rig.live(number)
    process = rig.start()
    until(rig.is_settled)
    rig.settle(process).close()
    rig.live(99)

    settings = parse(ProjectorSettings, read_mapping(rig.home / "projector.yaml"))
    rebuilt = rebuild_history(settings, Choice())

    assert (rebuilt.equal, rebuilt.behind, rebuilt.replaced) == (True, {}, True)
    assert rebuilt.carried == Carried()
    rig.settle(rig.start()).close()
    store = rig.open_store()
    rig.check(store)
    store.close()


@pytest.fixture
def rig_anywhere(rig: Rig, new_url: NewUrl) -> Rig:
    """The rig, its history in each database."""
    before, rig.url = rig.history, new_url()
    settings = rig.home / "projector.yaml"
    # Larger batches than for the kills above: what is told meanwhile is to be caught up with.
    settings.write_text(settings.read_text().replace(before, rig.url).replace("batch: 7", "batch: 500"))
    return rig


def while_living(rig: Rig, process: subprocess.Popen[bytes], number: int) -> tuple[int, int]:
    """Its exit status, and the number of the next story: there is always something to fold until it has ended."""
    deadline = time.monotonic() + 4 * SETTLE_S
    while process.poll() is None:
        assert time.monotonic() < deadline, (rig.home / "out.log").read_text()
        rig.live(number)
        number += 1
        time.sleep(0.2)
    return process.returncode, number


def test_a_rebuild_under_a_running_projector_loses_nothing(rig_anywhere: Rig) -> None:
    rig = rig_anywhere
    for number in range(8):
        rig.live(number)
    projector = rig.start()
    until(lambda: rig.folded() > 0)
    ended, number = while_living(rig, rig.start(command=("history", "rebuild")), 8)
    assert ended == 0, (rig.home / "out.log").read_text()
    rig.live(number)
    store = rig.settle(projector)
    rig.check(store)
    assert store.health().executions == number + 1
    print(f"\n{number - 8} stories told while the rebuild ran, {len(rig.log())} records")
    store.close()


@pytest.mark.faults
def test_rebuilds_killed_at_every_step_under_a_running_projector_lose_nothing(rig_anywhere: Rig) -> None:
    rig = rig_anywhere
    for number in range(8):
        rig.live(number)
    projector = rig.start()
    until(lambda: rig.folded() > 0)
    number = 8
    for place in (*REBUILD_PLACES, HALF_WAY):
        ended, number = while_living(rig, rig.start(f"{place}=kill", command=("history", "rebuild")), number)
        assert ended == 137, f"{place}: {(rig.home / 'out.log').read_text()}"
    ended, number = while_living(rig, rig.start(command=("history", "rebuild")), number)
    assert ended == 0, (rig.home / "out.log").read_text()
    rig.live(number)
    store = rig.settle(projector)
    rig.check(store)
    assert store.health().executions == number + 1
    store.close()


def test_a_second_projector_on_the_same_store_gives_up_in_one_line(rig: Rig) -> None:
    first = rig.start()
    rig.live(0)
    until(rig.is_settled)
    second = rig.start()
    time.sleep(2)
    for number in range(1, 4):
        rig.live(number)
    until(lambda: first.poll() is not None or second.poll() is not None)
    ended, other = (first, second) if first.poll() is not None else (second, first)
    assert ended.returncode == 1
    assert "one store has one projector" in (rig.home / "out.log").read_text()
    store = rig.settle(other)
    rig.check(store)
    store.close()
