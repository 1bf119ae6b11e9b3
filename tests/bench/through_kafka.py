"""The systems that go through Kafka: Douse itself, and a bare loop with the same hops and nothing in them.

Used by test_full_loop.py and test_event_to_death.py. Douse is its six processes (two of them nodes); commands are dry
runs of kill_process, recorded when their signed ENDED result lies in `response.results`. The bare loop is three
processes of `bare.py`, its records as large as ours.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.bench.contest import NODES, Ask, Contestant
from tests.e2e.fleet import COMMANDS, Fleet
from tests.e2e.victim_processes import facts_of
from tests.victims import Victims
from workers.cli.up.data_dir import COMMAND_PARTITIONS
from workers.domain.event import ProcessRef
from workers.domain.ids import RANDOM_BYTES, ExecutionId, NodeId, uuid7
from workers.domain.log.routing import partition_for
from workers.domain.log.topics import REQUESTS_PEOPLE, RESULTS
from workers.domain.request import ActionRequest, Actor, ActorKind, Step, Verb
from workers.domain.target import ProcessTarget
from workers.domain.targets.process import ProcessFacts
from workers.domain.trust.envelope import PayloadType
from workers.log.config import reader_config, writer_config
from workers.settings import KafkaSettings
from workers.system import yaml_files
from workers.wire.avro import AvroCodec
from workers.wire.keys import add_node, load_private_key
from workers.wire.signing import EnvelopeSigner

SIZE: Final = 900
"""Bytes of one of our signed commands."""

BARE: Final = ("bare.requests", "bare.commands", "bare.results")
_ENDED: Final = b"\x0aENDED"
"""A string of five, as Avro writes it."""
_ID: Final = re.compile(rb"\x48([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})")
"""The first string of 36: a result's first field."""


class Client:
    """Somebody who writes to a log and reads one topic of it, with our workers' own client settings."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        quiet = {"log_level": 0, "enable.partition.eof": False}
        self.writer = Producer(writer_config(kafka) | quiet)
        self.reader = Consumer(reader_config(kafka) | quiet)
        self._asker = Consumer(reader_config(kafka) | quiet)
        self.reader.assign(
            [TopicPartition(topic, number, self.end(topic, number)) for number in self.partitions(topic)]
        )
        self.reader.poll(0.2)

    def partitions(self, topic: str) -> list[int]:
        """Of one topic."""
        return sorted(self._asker.list_topics(topic, timeout=20).topics[topic].partitions)

    def end(self, topic: str, partition: int) -> int:
        """How many records ever came to a partition."""
        for _ in range(3):  # a client that was quiet for minutes may have to learn first who leads
            with suppress(KafkaException):
                return int(self._asker.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)[1])
            self._asker.list_topics(topic, timeout=20)
        raise AssertionError(f"nobody says where {topic}/{partition} ends")

    def send(self, topic: str, value: bytes, key: bytes, partition: int = -1) -> None:
        """Hand it to the client; it leaves at once."""
        self.writer.produce(topic, value, key, partition)
        self.writer.poll(0)

    def read(self, timeout_s: float) -> list[Any]:
        """What came, waiting for the first only."""
        first = self.reader.poll(timeout_s)
        return [] if first is None else [first, *self.reader.consume(5_000, 0.0)]

    def close(self) -> None:
        """Release both ends."""
        self.writer.flush(10)
        self.reader.close()
        self._asker.close()


class Douse(Contestant):
    """Our own loop on any broker. The fleet is the caller's; its second node is made here."""

    def __init__(self, name: str, fleet: Fleet, victims: Victims) -> None:
        super().__init__()
        self.name = name
        self._fleet = fleet
        second = NodeId(os.urandom(16).hex())
        add_node(fleet.data.keys, name="node-1", node_id=second)
        self.ids = (fleet.node_id, second)
        settings = dict(yaml_files.read_mapping(fleet.data.config("node")))
        settings["node"] |= {"id": second, "data_dir": str(fleet.data.root / "node-1")}
        settings["keys"] |= {"private_key": str(fleet.data.keys / "node-1.key")}
        settings["features"]["respond"]["response_actions"]["file_quarantine"]["quarantine_path"] = str(
            fleet.data.root / "node-1" / "quarantine"
        )
        (fleet.data.root / "node-1").mkdir(mode=0o700)
        config = fleet.data.root / "config" / "node-1.yaml"
        yaml_files.write(config, settings)
        fleet.up()
        with (fleet.data.root / "logs" / "node-1.log").open("ab") as log:
            fleet.running["node-1"] = subprocess.Popen(
                [sys.executable, "-m", "workers", "node", "--config", str(config)], stdout=log, stderr=log
            )
        self.dispatcher = [fleet.running[role] for role in ("dispatcher", "projector", "responder", "gateway")]
        self.nodes = [fleet.running["node"], fleet.running["node-1"]]
        with fleet.http_client() as client:
            while client.get(f"/api/v1/nodes/{second}").status_code != 200:
                fleet.all_alive()
                time.sleep(0.05)
        self._signer = requester(fleet.data.keys)
        # Dry runs of one target run one after the other, as kills of it would: so several targets.
        self._targets = [facts_of(victims.spawn()) for _ in range(16)]
        self._client = Client(fleet.kafka, RESULTS)

    def prepare(self, count: int) -> Sequence[Ask]:
        """Requests of a person."""
        return [self._one(number) for number in range(count)]

    def _one(self, number: int) -> Ask:
        facts, node = self._targets[number // NODES % len(self._targets)], number % NODES
        key, body = kill_request(self._signer, self.ids[node], facts, dry_run=True)
        return Ask(key, node, body)

    def ask(self, ask: Ask) -> None:
        """As the gateway would."""
        self._client.send(REQUESTS_PEOPLE, ask.body, ask.key.encode())

    def recorded(self, timeout_s: float) -> Sequence[str]:
        """Ended on the wire."""
        return ended(self._client.read(timeout_s))

    def lying(self) -> int:
        """Commands in both nodes' partitions."""
        return sum(self._client.end(COMMANDS, partition_for(node, COMMAND_PARTITIONS)) for node in self.ids)

    def close(self) -> None:
        """The client's ends; the fleet is its owner's."""
        self._client.close()


def requester(keys: Path, by: ActorKind = ActorKind.PERSON) -> EnvelopeSigner:
    """The key that signs requests of people, or of rules."""
    name = "gateway" if by is ActorKind.PERSON else "responder"
    return EnvelopeSigner(load_private_key(keys / f"{name}.key"), AvroCodec())


def kill_request(
    signer: EnvelopeSigner, host: NodeId, facts: ProcessFacts, *, dry_run: bool, by: ActorKind = ActorKind.PERSON
) -> tuple[ExecutionId, bytes]:
    """Somebody wants a process dead, or rehearses that."""
    now = time.time_ns()
    target = ProcessTarget((ProcessRef(facts.pid, facts.started_at_ns, facts.exe, facts.name),), now)
    key = ExecutionId(uuid7(now, os.urandom(RANDOM_BYTES)))
    request = ActionRequest(
        verb=Verb.EXECUTE,
        requested_at_ns=now,
        actor=Actor(by, "ada"),
        host=host,
        steps=(Step(key, "kill_process", target, {"ancestor": 0}),),
        reason="a measurement",
        dry_run=dry_run,
    )
    return key, signer.sign(PayloadType.REQUEST, request).value


def ended(messages: Sequence[Any]) -> list[str]:
    """The executions that these results say to be over."""
    found = []
    for message in messages:
        value = message.value() or b""
        if _ENDED in value and (match := _ID.search(value)):
            found.append(match[1].decode())
    return found


class Bare(Contestant):
    """Three processes and nothing in them."""

    def __init__(self, name: str, kafka: KafkaSettings, stack: ExitStack) -> None:
        super().__init__()
        self.name = name
        requests, commands, results = BARE
        self.dispatcher = [hop(stack, kafka, requests, 0, f"{commands}:*")]
        self.nodes = [hop(stack, kafka, commands, node, results) for node in range(NODES)]
        self._client = Client(kafka, results)
        self._numbers = itertools.count()

    def prepare(self, count: int) -> Sequence[Ask]:
        """Records as large as our commands."""
        asks = []
        for number in range(count):
            node = number % NODES
            asks.append(Ask(str(next(self._numbers)), node, b"%d" % node + bytes(SIZE)))
        return asks

    def ask(self, ask: Ask) -> None:
        """One record."""
        self._client.send(BARE[0], ask.body, ask.key.encode(), 0)

    def recorded(self, timeout_s: float) -> Sequence[str]:
        """What came through."""
        return [message.key().decode() for message in self._client.read(timeout_s)]

    def lying(self) -> int:
        """Records in both nodes' partitions."""
        return sum(self._client.end(BARE[1], node) for node in range(NODES))

    def close(self) -> None:
        """The client's ends."""
        self._client.close()


def hop(stack: ExitStack, kafka: KafkaSettings, topic: str, partition: int, onward: str) -> subprocess.Popen[bytes]:
    """One process of `bare.py`, reading."""
    command = [sys.executable, "-m", "tests.bench.bare", kafka.bootstrap_servers, str(kafka.fetch_wait_ms)]
    process = subprocess.Popen([*command, topic, str(partition), onward], stdout=subprocess.PIPE)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    assert process.stdout.readline() == b"ready\n"
    return process


def bare_topics() -> dict[str, int]:
    """Name to partitions."""
    return {BARE[0]: 1, BARE[1]: NODES, BARE[2]: NODES}
