"""The dispatcher as a process on the embedded broker: killed at every place it can be, it loses and doubles nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.cluster import KafkaCluster
from tests.kafka.fixtures import StartKafka
from workers.cli.exits import Exit
from workers.dispatcher.dispatcher import FAILPOINTS
from workers.dispatcher.ledger_rows import Rows
from workers.domain.command import ActionCommand
from workers.domain.errors import TransientFailure
from workers.domain.event import ProcessRef
from workers.domain.ids import ExecutionId, Incarnation, InstanceId, NodeId, id_from_cause
from workers.domain.log import topics
from workers.domain.log.record import Earliest, OutRecord, Record
from workers.domain.node_state import NodeState
from workers.domain.outcome import Outcome, Stage
from workers.domain.request import ActionRequest, Actor, ActorKind, Step, Verb
from workers.domain.result import ActionResult
from workers.domain.target import ProcessTarget
from workers.domain.trust.envelope import PayloadType
from workers.log.embedded import EmbeddedBroker
from workers.log.readers import KafkaLogReader
from workers.log.relay import FAILPOINTS as RELAY_FAILPOINTS
from workers.log.writer import KafkaLogWriter
from workers.settings import KafkaSecurity, KafkaSettings
from workers.store.ledger import SqliteLedger
from workers.system.clock import SystemClock
from workers.system.failpoints import KILLED, VARIABLE
from workers.system.randomness import SystemRandomness
from workers.wire.avro import AvroCodec
from workers.wire.keys import init_keys, load_keyset, load_private_key
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier

NODE = NodeId("a" * 32)
BORN = Incarnation("01890000-0000-4000-8000-000000000001")
COMMANDS = "response.commands.default"
TOPICS = {
    COMMANDS: 4,
    topics.REQUESTS_PEOPLE: 2,
    topics.REQUESTS_RULES: 2,
    topics.RESULTS: 2,
    topics.NODES: 1,
    topics.AUDIT: 1,
    topics.DEAD_LETTERS: 1,
}
WAIT_S = 60.0
"""For anything that takes a second on an idle machine."""

T = TypeVar("T")


class Site:
    """A broker, keys, a node that answers, and a dispatcher that comes and goes."""

    def __init__(self, directory: Path, stack: ExitStack, kafka: KafkaCluster | None = None) -> None:
        """On the embedded broker, or on a real one."""
        self.directory = directory
        self.clock = SystemClock()
        self.codec = AvroCodec()
        broker = kafka if kafka is not None else stack.enter_context(EmbeddedBroker(TOPICS))
        log_id = "" if kafka is not None else "this-run"
        self.kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            security=KafkaSecurity(protocol="PLAINTEXT"),
            insecure_dev=True,
            fetch_wait_ms=5,
            log_id=log_id,
        )
        keys = directory / "keys"
        init_keys(keys, now_ns=self.clock.now_ns(), nodes={"node": NODE})
        self.node_sealer = EnvelopeSigner(load_private_key(keys / "node.key"), self.codec)
        self.requesters = {
            topics.REQUESTS_PEOPLE: EnvelopeSigner(load_private_key(keys / "gateway.key"), self.codec),
            topics.REQUESTS_RULES: EnvelopeSigner(load_private_key(keys / "responder.key"), self.codec),
        }
        self.verifier = EnvelopeVerifier(load_keyset(keys / "keyset.json"), self.codec, clock=self.clock)
        telemetry = FakeTelemetry()
        self.writer = stack.enter_context(closing(KafkaLogWriter(self.kafka, telemetry=telemetry, clock=self.clock)))
        self.reader = stack.enter_context(closing(KafkaLogReader(self.kafka, telemetry=telemetry, clock=self.clock)))
        read = [place for topic in TOPICS for place in self.reader.partitions(topic)]
        self.reader.assign({place: Earliest() for place in read})
        self.read: dict[str, list[Record]] = {topic: [] for topic in TOPICS}
        self.answered: set[ExecutionId] = set()
        self.opened: dict[bytes, object] = {}
        self.looked_at = 0
        self.numbers = 0
        self.config = directory / "dispatcher.yaml"
        self.config.write_text(
            f"""
kafka: {{bootstrap_servers: "{broker.bootstrap_servers}", security: {{protocol: PLAINTEXT}}, insecure_dev: true,
        fetch_wait_ms: 5, log_id: "{log_id}"}}
keys: {{private_key: {keys / "dispatcher.key"}, keyset: {keys / "keyset.json"}}}
ledger: {directory / "dispatcher" / "ledger.sqlite"}
zones: {{default: 4}}
"""
        )

    def start(self, failpoint: str = "") -> subprocess.Popen[bytes]:
        environment = {**os.environ, VARIABLE: failpoint}
        command = [sys.executable, "-m", "workers", "dispatcher", "--config", str(self.config)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def beat(self) -> None:
        self.numbers += 1
        state = NodeState(
            node_id=NODE,
            record_no=self.numbers,
            at_ns=self.clock.now_ns(),
            incarnation=BORN,
            instance_id=InstanceId("i"),
            boot_id="b",
            machine_key="m",
            node_key=self.node_sealer.key_id,
            host_names=("web-1",),
            zone="default",
            version="1",
            actions=("kill_process",),
            positions=(),
            queued=0,
            running=0,
            unpublished=0,
        )
        sealed = self.node_sealer.sign(PayloadType.NODE_STATE, state)
        self.write(OutRecord(topics.NODES, NODE.encode(), sealed.value))

    def ask(self, request: ActionRequest) -> None:
        topic = topics.REQUESTS_RULES if request.actor.kind is ActorKind.RULE else topics.REQUESTS_PEOPLE
        value = self.requesters[topic].sign(PayloadType.REQUEST, request).value
        self.write(OutRecord(topic, request.steps[0].execution_id.encode(), value))

    def write(self, record: OutRecord) -> None:
        self.writer.send(record, token=0)
        self.writer.acks()

    def look(self, *, answer: bool = True) -> None:
        """Read what there is, and answer each command once, as its node would."""
        with suppress(TransientFailure):  # a broker that a test has killed
            for delivery in self.reader.poll(0.05):
                assert isinstance(delivery, Record)
                self.read[delivery.position.topic].append(delivery)
        new = self.commands()[self.looked_at :]
        self.looked_at += len(new)
        for command in new if answer else ():
            if command.command_id not in self.answered:
                self.answered.add(command.command_id)
                self.numbers += 1
                output = ActionResult(
                    execution_id=command.command_id,
                    producer="node",
                    node_id=NODE,
                    incarnation=BORN,
                    record_no=self.numbers,
                    attempt=1,
                    seq=2,
                    stage=Stage.ENDED,
                    at_ns=self.clock.now_ns(),
                    action=command.action,
                    outcome=Outcome.COMPLETED,
                )
                sealed = self.node_sealer.sign(PayloadType.RESULT, output)
                self.write(OutRecord(topics.RESULTS, NODE.encode(), sealed.value))

    def commands(self) -> list[ActionCommand]:
        return self._opened(COMMANDS, PayloadType.COMMAND, ActionCommand)

    def output(self) -> list[ActionResult]:
        """The dispatcher's own results."""
        results = self._opened(topics.RESULTS, PayloadType.RESULT, ActionResult)
        return [result for result in results if result.producer == "dispatcher"]

    def _opened(self, topic: str, kind: PayloadType, as_: type[T]) -> list[T]:
        found = []
        for record in self.read[topic]:
            assert record.value is not None
            if record.value not in self.opened:
                self.opened[record.value] = self.verifier.verify(record.value, kind, as_).record
            output = self.opened[record.value]
            assert isinstance(output, as_)
            found.append(output)
        return found

    def wait_for(self, ids: Sequence[ExecutionId]) -> float:
        """Until each of these was dispatched and said so; the seconds it took."""
        began = time.monotonic()
        while True:
            self.look()
            output = {result.execution_id for result in self.output() if result.stage is Stage.DISPATCHED}
            if output >= set(ids) and self.answered >= set(ids):
                return time.monotonic() - began
            assert time.monotonic() - began < WAIT_S, f"missing: {set(ids) - self.answered}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def requests(clock: SystemClock, count: int) -> list[ActionRequest]:
    """Every third has two steps; every second is a rule's."""
    now_ns = clock.now_ns()
    made = []
    for number in range(count):
        steps = tuple(
            Step(id_from_cause(now_ns, "r", str(number), str(step)), "kill_process", _target(number, now_ns))
            for step in range(1 + (number % 3 == 0))
        )
        actor = Actor(ActorKind.RULE if number % 2 else ActorKind.PERSON, "somebody")
        made.append(ActionRequest(Verb.EXECUTE, now_ns, actor, "web-1", steps))
    return made


def _target(number: int, now_ns: int) -> ProcessTarget:
    return ProcessTarget((ProcessRef(1000 + number),), now_ns)


def ended_well(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=WAIT_S) == 0


ALL_FAILPOINTS = (*FAILPOINTS, *RELAY_FAILPOINTS)


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("failpoint", ALL_FAILPOINTS)
def test_killed_anywhere_it_loses_and_doubles_nothing(site: Site, failpoint: str, nth: int) -> None:
    site.beat()
    *asked, last = requests(site.clock, 13)
    dying = site.start(f"{failpoint}=kill:{nth}")
    try:
        deadline = time.monotonic() + WAIT_S
        waiting = list(asked)
        while dying.poll() is None:
            if not waiting:
                # On a busy machine all of them went through in fewer batches than the failpoint wants.
                time.sleep(0.05)
                waiting = requests(site.clock, 1)
                asked += waiting
            site.ask(waiting.pop(0))
            site.look()
            assert time.monotonic() < deadline, f"never reached {failpoint}"
        assert dying.returncode == KILLED
        for request in waiting:
            site.ask(request)
        # What was asked while it died is asked again: a responder or gateway that was not sure would do the same.
        for request in asked:
            site.ask(request)
        site.ask(last)
        ids = [step.execution_id for request in (*asked, last) for step in request.steps]
        alive = site.start()
        try:
            settled_s = site.wait_for(ids)
            ended_well(alive)
        finally:
            alive.kill()
            alive.wait()
    finally:
        dying.kill()
        dying.wait()
    site.look(answer=False)
    _check(site, ids)
    print(f"{failpoint} pass {nth}: settled {settled_s:.1f} s after the restart")


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_under_load_it_loses_and_doubles_nothing(site: Site, seed: int) -> None:
    randomness = random.Random(seed)
    site.beat()
    asked = requests(site.clock, 300)
    ids = [step.execution_id for request in asked for step in request.steps]
    waiting, kills = list(asked), 0
    while waiting:
        process = site.start()
        try:
            until = time.monotonic() + randomness.uniform(0.5, 3.0)
            while time.monotonic() < until:
                for _ in range(min(len(waiting), randomness.randrange(3))):
                    site.ask(waiting.pop(0))
                site.look()
        finally:
            process.kill()
            process.wait()
            kills += 1
    process = site.start()
    try:
        settled_s = site.wait_for(ids)
    finally:
        process.kill()
        process.wait()
    site.look(answer=False)
    _check(site, ids)
    doubles = len(site.read[COMMANDS]) - len(ids)
    print(
        f"seed {seed}: {kills} kills, {len(ids)} commands, {doubles} sent twice on the wire, settled {settled_s:.1f} s"
    )


@pytest.mark.slow
def test_a_killed_broker_and_a_killed_dispatcher_lose_and_double_nothing(
    tmp_path: Path, start_kafka: StartKafka
) -> None:
    cluster = start_kafka()
    for topic, partitions in TOPICS.items():
        cluster.create_topic(topic, partitions)
    with ExitStack() as stack:
        site = Site(tmp_path, stack, cluster)
        site.beat()
        asked = requests(site.clock, 60)
        ids = [step.execution_id for request in asked for step in request.steps]
        process = site.start()
        try:
            for request in asked[:20]:
                site.ask(request)
            while len(site.commands()) < 10:
                site.look()
            cluster.kill()
            for request in asked[20:40]:
                site.ask(request)
            for _ in range(20):
                site.look()
            process.kill()
            process.wait()
            cluster.restart()
            process = site.start()
            for request in asked[40:]:
                site.ask(request)
            settled_s = site.wait_for(ids)
            ended_well(process)
        finally:
            process.kill()
            process.wait()
        site.look(answer=False)
        _check(site, ids)
        # The proof of non-delivery needs to know which log a command went to.
        ledger = SqliteLedger(tmp_path / "dispatcher" / "ledger.sqlite", randomness=SystemRandomness())
        with closing(ledger), ledger.begin() as tx:
            logs = {tail.position.log_id for tail in Rows(tx, site.codec).tails()}
        assert logs == {place.log_id for place in site.reader.partitions(COMMANDS)}
        assert logs != {""}
    print(f"{len(site.read[COMMANDS]) - len(ids)} sent twice on the wire, settled {settled_s:.1f} s after the restart")


def _check(site: Site, ids: Sequence[ExecutionId]) -> None:
    distinct = {record.value for record in site.read[COMMANDS]}
    signed = Counter(command.command_id for command in site.commands())
    assert set(signed) == set(ids), "lost or invented"
    assert len(distinct) == len(ids), "two different commands were signed for one execution"
    steps = {(result.execution_id, result.seq, result.record_no) for result in site.output()}
    stages = Counter((execution_id, seq) for execution_id, seq, _ in steps)
    assert stages == Counter({(execution_id, seq): 1 for execution_id in ids for seq in (0, 2)})
    assert site.read[topics.DEAD_LETTERS] == []


def test_a_hundred_identical_requests_of_a_rule_are_one_command(site: Site) -> None:
    site.beat()
    request = next(r for r in requests(site.clock, 2) if r.actor.kind is ActorKind.RULE)
    process = site.start()
    try:
        for _ in range(100):
            site.ask(request)
        site.wait_for([request.steps[0].execution_id])
        for _ in range(20):
            site.look()
        ended_well(process)
    finally:
        process.kill()
        process.wait()
    _check(site, [request.steps[0].execution_id])


def test_a_second_dispatcher_on_one_ledger_is_refused_with_one_line(site: Site) -> None:
    site.beat()
    (request,) = requests(site.clock, 1)
    first = site.start()
    try:
        site.ask(request)
        site.wait_for([request.steps[0].execution_id])
        second = subprocess.run(
            [sys.executable, "-m", "workers", "dispatcher", "--config", str(site.config)],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert second.returncode == Exit.BUSY
        assert [line for line in second.stderr.splitlines() if "in use by another process" in line]
        assert "Traceback" not in second.stderr
        ended_well(first)
    finally:
        first.kill()
        first.wait()
