"""The attacker of the demo: can write to the broker and knows the formats, but has no trusted key.

Called by the scenarios. Its connection to the broker comes from wiring.
"""

import hashlib
import os
import time
from dataclasses import dataclass

from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.event import ProcessRef
from workers.domain.ids import RANDOM_BYTES, ExecutionId, Incarnation, KeyId, NodeId, uuid7
from workers.domain.log.record import Earliest, OutRecord, Record
from workers.domain.log.routing import command_topic, partition_for
from workers.domain.log.topics import DEAD_LETTERS
from workers.domain.node_state import DeadLetter
from workers.domain.outcome import NOTHING
from workers.domain.request import Actor, ActorKind
from workers.domain.target import ProcessTarget
from workers.domain.trust.envelope import PayloadType
from workers.wiring.one_machine import Intruder

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Forger:
    """Writes commands that are valid except for the key that signs them."""

    node_id: NodeId
    node_key: KeyId
    incarnation: Incarnation
    partitions: int
    intruder: Intruder

    def forge(self, pid: int, started_at_ns: int) -> tuple[ExecutionId, str]:
        """Send a kill for ``pid``; its execution id, and the SHA-256 of the record as sent."""
        command = self._command(pid, started_at_ns)
        value = self.intruder.signer.sign(PayloadType.COMMAND, command).value
        partition = partition_for(self.node_id, self.partitions)
        record = OutRecord(command_topic("default"), self.node_id.encode(), value, partition=partition)
        self.intruder.writer.send(record, token=1)
        self.intruder.writer.flush(10.0)
        return command.command_id, hashlib.sha256(value).hexdigest()

    def dead_letter_reason(self, digest: str, timeout_s: float) -> str:
        """Why the record with this digest was refused; empty if there is no dead letter in time."""
        self.intruder.reader.assign(
            {position: Earliest() for position in self.intruder.reader.partitions(DEAD_LETTERS)}
        )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for delivery in self.intruder.reader.poll(0.1):
                if isinstance(delivery, Record) and delivery.value is not None:
                    letter = self.intruder.codec.decode(delivery.value, DeadLetter)
                    if letter.sha256 == digest:
                        return letter.reason
        return ""

    def _command(self, pid: int, started_at_ns: int) -> ActionCommand:
        now = time.time_ns()
        return ActionCommand(
            command_id=ExecutionId(uuid7(now, os.urandom(RANDOM_BYTES))),
            node_id=self.node_id,
            node_key=self.node_key,
            incarnation=self.incarnation,
            action="kill_process",
            target=ProcessTarget((ProcessRef(pid, started_at_ns),), now),
            parameters=NOTHING,
            parameters_sha256=parameters_digest(NOTHING),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300 * SECOND,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "admin"),
            reason="forged",
        )
