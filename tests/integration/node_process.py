"""A real node process on a real (embedded) broker and a real disk, and the hand that signs its commands.

    with NodeSite(tmp_path, broker) as site:
        site.start()
        command = site.kill(victim.pid)
        site.send(command)
        ended = site.ended(command.command_id)

Times are real; waits are bounded and end as soon as what is waited for is there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.guarantees.observation import Effect, Observation
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.event import ProcessRef
from workers.domain.ids import RANDOM_BYTES, ExecutionId, NodeId, uuid7
from workers.domain.log import topics
from workers.domain.log.record import Earliest, OutRecord, Record, TopicPartition
from workers.domain.log.routing import command_topic, partition_for
from workers.domain.node_state import DeadLetter, NodeState
from workers.domain.outcome import Stage
from workers.domain.request import Actor, ActorKind
from workers.domain.result import ActionResult
from workers.domain.target import ProcessTarget
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import PayloadType
from workers.log.embedded import EmbeddedBroker
from workers.log.readers import KafkaLogReader
from workers.log.writer import KafkaLogWriter
from workers.settings import KafkaSettings, parse
from workers.system.clock import SystemClock
from workers.system.failpoints import VARIABLE
from workers.system.randomness import SystemRandomness
from workers.system.telemetry import quiet
from workers.wire.avro import AvroCodec
from workers.wire.keys import init_keys, load_keyset, load_private_key
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier

NODE = NodeId("c0ffee" + "0" * 26)
PARTITIONS = 4
TOPIC = command_topic("default")
PLACE: TopicPartition = (TOPIC, partition_for(NODE, PARTITIONS))
_READ = (topics.RESULTS, topics.AUDIT, topics.DEAD_LETTERS, topics.NODES)


@contextmanager
def embedded_broker() -> Iterator[str]:
    """The broker's address, every topic that a node touches made."""
    with EmbeddedBroker({TOPIC: PARTITIONS, **dict.fromkeys(_READ, 1)}) as broker:
        yield broker.bootstrap_servers


@dataclass
class Seen:
    """Everything the node wrote, as read back from the broker."""

    results: list[ActionResult]
    audit: list[AuditRecord]
    dead_letters: list[DeadLetter]
    heartbeats: list[NodeState]


class Victim:
    """A harmless process that only waits, old enough that its identity is beyond doubt, and its own coroner: it is the
    child of the test, so its death and its cause are known from the kernel and from nobody else."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @staticmethod
    def several(count: int) -> list[Victim]:
        """All of them older than the two clock ticks within which a start time proves nothing."""
        made = [Victim() for _ in range(count)]
        time.sleep(0.05)
        return made

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.process.poll() == -signal.SIGKILL

    def wait(self, timeout_s: float = 20) -> None:
        """Until it has ended. Raises when it does not."""
        self.process.wait(timeout_s)

    def bury(self) -> None:
        """End it, whoever was meant to."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class NodeSite:
    """One node's place: keys, settings, data directory, process."""

    def __init__(self, directory: Path, bootstrap_servers: str) -> None:
        self.directory = directory
        self.clock = SystemClock()
        keys = directory / "keys"
        init_keys(keys, now_ns=self.clock.now_ns(), nodes={"node": NODE})
        self.kafka: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "insecure_dev": True,
            "security": {"protocol": "PLAINTEXT"},
            "fetch_wait_ms": 1,
            "log_id": "one-log",
        }
        self.config = directory / "node.yaml"
        self.actions: dict[str, Any] = {"file_quarantine": {"quarantine_path": str(directory / "quarantine")}}
        """This node's own settings of its actions; call ``configure`` after a change."""
        self.storage: dict[str, Any] = {}
        """Where it puts what it gathers; nowhere unless set before ``configure``."""
        self.configure()
        self._codec = AvroCodec()
        keyset = load_keyset(keys / "keyset.json")
        self._verifier = EnvelopeVerifier(keyset, self._codec, clock=self.clock)
        self.signer = EnvelopeSigner(load_private_key(keys / "dispatcher.key"), self._codec)
        self.node_key = load_private_key(keys / "node.key").key_id
        settings, reported = parse(KafkaSettings, self.kafka), quiet("error")
        self._writer = KafkaLogWriter(settings, telemetry=reported, clock=self.clock)
        self._reader = KafkaLogReader(settings, telemetry=reported, clock=self.clock)
        self._reading = False
        self.seen = Seen([], [], [], [])
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()
        """Words before the node's own: a program that puts it somewhere else and waits for it."""
        self.accepted: dict[ExecutionId, ActionCommand] = {}
        self._sent = 0
        self._known_instances: set[str] = set()

    def configure(self, **node: Any) -> None:
        """Write the settings file."""
        keys = self.directory / "keys"
        settings = {
            "kafka": self.kafka,
            "keys": {"private_key": str(keys / "node.key"), "keyset": str(keys / "keyset.json")},
            "telemetry": {"log_level": "info"},
            "node": {
                "id": NODE,
                "data_dir": str(self.directory / "data"),
                "command_partitions": PARTITIONS,
                "heartbeat_s": 0.2,
                **node,
            },
            "features": {"respond": {"response_actions": self.actions}},
            **({"storage": self.storage} if self.storage else {}),
        }
        self.config.write_text(yaml.safe_dump(settings))

    # --- the process -------------------------------------------------------------------------------------------------

    def start(self, failpoints: str = "") -> subprocess.Popen[bytes]:
        """The next process of this node."""
        self._known_instances |= {beat.instance_id for beat in self.read().heartbeats}
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "workers", "node", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, VARIABLE: failpoints},
            )
        return self.process

    def up(self) -> None:
        """Wait until the process started last has been heard; before that it may not yet know what SIGTERM means."""
        known = self._known_instances
        fresh = self.until(lambda seen: {beat.instance_id for beat in seen.heartbeats} - known)
        known |= fresh

    def stop(self, number: int = signal.SIGTERM, *, timeout_s: float = 20) -> int:
        """Signal it and wait for its end; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def log(self) -> str:
        """What it printed so far."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.close()
        self._writer.close()
        if error is not None:
            print(self.log())

    # --- commands ----------------------------------------------------------------------------------------------------

    def kill(self, pid: int, **more: Any) -> ActionCommand:
        """A genuine order to kill whoever holds this pid now."""
        now_ns = self.clock.now_ns()
        made = ActionCommand(
            command_id=ExecutionId(uuid7(now_ns, SystemRandomness().bytes(RANDOM_BYTES))),
            node_id=NODE,
            node_key=self.node_key,
            incarnation=self.heartbeat().incarnation,
            action="kill_process",
            target=ProcessTarget((ProcessRef(pid),), observed_at_ns=now_ns),
            parameters={},
            parameters_sha256=parameters_digest({}),
            issued_at_ns=now_ns,
            not_before_ns=now_ns,
            expires_at_ns=now_ns + 300_000_000_000,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "ada"),
        )
        return replace(made, **more)

    def send(self, command: ActionCommand, *, at: TopicPartition = PLACE) -> None:
        """Sign it and put it on the bus."""
        self.accepted[command.command_id] = command
        self.put(self.signer.sign(PayloadType.COMMAND, command).value, at=at)
        self.flush()

    def put(self, value: bytes | None, *, key: bytes = NODE.encode(), at: TopicPartition = PLACE) -> None:
        """Any bytes on the node's partition, or at any other place."""
        topic, partition = at
        self._sent += 1
        self._writer.send(OutRecord(topic, key, value, (), partition), token=self._sent)

    def flush(self) -> None:
        """Everything put is on the bus."""
        assert self._writer.flush(10) == 0
        assert all(ack.ok for ack in self._writer.acks())

    # --- what came out -----------------------------------------------------------------------------------------------

    def read(self, timeout_s: float = 0.0) -> Seen:
        """Everything written so far."""
        if not self._reading:
            self._reader.assign({at: Earliest() for topic in _READ for at in self._reader.partitions(topic)})
            self._reading = True
        while found := self._reader.poll(timeout_s):
            for delivery in found:
                assert isinstance(delivery, Record)
                self._keep(delivery)
            timeout_s = 0.0
        return self.seen

    def until(self, ready: Callable[[Seen], Any], *, timeout_s: float = 20) -> Any:
        """Wait until `ready` says something true about what was written; what it said."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            output = ready(self.read(0.005))
            if output:
                return output
        raise AssertionError(f"waited {timeout_s} s in vain; the node said:\n{self.log()[-4000:]}")

    def heartbeat(self) -> NodeState:
        """The newest heartbeat; waits for the first."""
        return self.until(lambda seen: seen.heartbeats and seen.heartbeats[-1])  # type: ignore[no-any-return]

    def ended(self, execution_id: ExecutionId, *, timeout_s: float = 20) -> ActionResult:
        """An execution's final outcome; waits for it."""

        def final(seen: Seen) -> ActionResult | None:
            ends = [r for r in seen.results if r.execution_id == execution_id and r.stage is Stage.ENDED]
            return next((r for r in ends if r.outcome is not None and r.outcome.is_final), None)

        return self.until(final, timeout_s=timeout_s)  # type: ignore[no-any-return]

    def observation(self, effects: list[Effect]) -> Observation:
        """For the guarantees."""
        seen = self.read(0.05)
        return Observation(
            accepted=dict(self.accepted),
            results=list(seen.results),
            effects=effects,
            audit=list(seen.audit),
            dead_letters=list(seen.dead_letters),
        )

    def _keep(self, record: Record) -> None:
        value = record.value or b""
        match record.position.topic:
            case topics.RESULTS:
                self.seen.results.append(self._verifier.verify(value, PayloadType.RESULT, ActionResult).record)
            case topics.AUDIT:
                self.seen.audit.append(self._verifier.verify(value, PayloadType.AUDIT, AuditRecord).record)
            case topics.NODES:
                self.seen.heartbeats.append(self._verifier.verify(value, PayloadType.NODE_STATE, NodeState).record)
            case topics.DEAD_LETTERS:
                self.seen.dead_letters.append(self._codec.decode(value, DeadLetter))
