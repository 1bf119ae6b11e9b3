"""A thousand poison records under the node's own key: a dead letter each, and the good one behind them passes."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from tests.e2e.client import FleetClient
from tests.e2e.conftest import NewClient
from tests.e2e.fleet import COMMANDS, Fleet
from tests.e2e.victim_processes import facts_of
from tests.e2e.wire import Put, put
from workers.cli.up.data_dir import COMMAND_PARTITIONS
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.event import ProcessRef
from workers.domain.ids import RANDOM_BYTES, ExecutionId, Incarnation, KeyId, NodeId, uuid7
from workers.domain.log.routing import partition_for
from workers.domain.outcome import NOTHING
from workers.domain.request import Actor, ActorKind
from workers.domain.target import ProcessTarget
from workers.domain.trust.envelope import Envelope, PayloadType
from workers.wire.avro import AvroCodec
from workers.wire.keys import load_private_key
from workers.wire.signing import EnvelopeSigner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COUNT: Final = 1000
MOST_BYTES: Final = 4 * 1024 * 1024
SECOND: Final = 1_000_000_000

DELAY_S: Final = 5.0
"""The promise is 1 s on a machine of its own; this bound leaves room for a shared one."""


class Poisoner:
    """Has every key that this machine keeps, and means no good."""

    def __init__(self, client: FleetClient) -> None:
        fleet = client.fleet
        self.codec = AvroCodec()
        self.dispatcher = EnvelopeSigner(load_private_key(fleet.data.keys / "dispatcher.key"), self.codec)
        self.node = EnvelopeSigner(load_private_key(fleet.data.keys / "node.key"), self.codec)
        with fleet.http_client() as http:
            state = http.get(f"/api/v1/nodes/{fleet.node_id}").json()
        self.bystander = client.processes.spawn()
        now = time.time_ns()
        self.command = ActionCommand(
            command_id=ExecutionId(uuid7(now, os.urandom(RANDOM_BYTES))),
            node_id=fleet.node_id,
            node_key=KeyId(state["node_key"]),
            incarnation=Incarnation(state["incarnation"]),
            action="kill_process",
            target=ProcessTarget((ProcessRef(self.bystander, facts_of(self.bystander).started_at_ns),), now),
            parameters=NOTHING,
            parameters_sha256=parameters_digest(NOTHING),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300 * SECOND,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "mallory"),
        )

    def records(self) -> Iterator[bytes | None]:
        """Without an end: one of each kind after the other, each different from all others."""
        number = 0
        yield from (os.urandom(size) for size in (500_000, 300_000, 200_000, 100_000))
        while True:
            number += 1
            fresh = replace(self.command, command_id=ExecutionId(uuid7(time.time_ns(), os.urandom(RANDOM_BYTES))))
            good = self.dispatcher.sign(PayloadType.COMMAND, fresh)
            envelope = self.codec.decode(good.value, Envelope)
            # Each kind would kill the bystander if it were believed.
            yield os.urandom(1 + number % 300)
            yield good.value[: 20 + number % (len(good.value) - 20)]
            yield good.value[:10] + os.urandom(len(good.value) - 10)
            yield self.codec.encode(replace(envelope, signature=os.urandom(64)))
            yield self.codec.encode(
                replace(envelope, payload=envelope.payload[:-1] + bytes([envelope.payload[-1] ^ 1]))
            )
            yield self.codec.encode(replace(envelope, payload_type=PayloadType.RESULT.value))
            yield self.codec.encode(replace(envelope, key_id=KeyId(os.urandom(16).hex())))
            yield None
            yield self.sealed(fresh, incarnation=Incarnation("01890000-0000-4000-8000-000000000001"))
            yield self.sealed(fresh, node_id=NodeId("e" * 32))
            yield self.sealed(fresh, node_key=KeyId("e" * 32))
            yield self.sealed(fresh, parameters_sha256="0" * 64)
            yield self.sealed(fresh, expires_at_ns=SECOND)
            yield self.node.sign(PayloadType.COMMAND, fresh).value
            yield self.nested(good.value, depth=1 + number % 20)
            yield envelope.payload
            yield b"\xc3\x01" + struct.pack("<Q", number) + envelope.payload
            yield b"[" * (1000 + number)
            yield good.value + b"x"

    def sealed(self, command: ActionCommand, **changes: object) -> bytes:
        """Genuinely signed, and still not for this node."""
        return self.dispatcher.sign(PayloadType.COMMAND, replace(command, **changes)).value  # type: ignore[arg-type]

    def nested(self, value: bytes, *, depth: int) -> bytes:
        """An envelope in an envelope in an envelope."""
        for _ in range(depth):
            kind = PayloadType.COMMAND.value
            value = self.codec.encode(Envelope(kind, value, self.dispatcher.key_id, os.urandom(64)))
        return value


@pytest.mark.fault("F9")
@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_a_thousand_poison_records_are_a_thousand_dead_letters_and_a_good_command_passes(
    request: pytest.FixtureRequest, new_client: NewClient, broker: str
) -> None:
    fleet: Fleet = request.getfixturevalue(f"{broker}_fleet")
    client = new_client(fleet)
    poisoner = Poisoner(client)
    made = poisoner.records()
    values = [next(made) for _ in range(COUNT)]
    assert sum(len(value or b"") for value in values) < MOST_BYTES
    client.kill()
    client.settled()
    client.wire.read_to_the_end()
    results_before, letters_before = len(client.wire.results()), len(client.wire.dead_letters())
    node = fleet.running["node"].pid

    # The node is held while they are written, so that all of them lie before the good one.
    os.kill(node, signal.SIGSTOP)
    partition = partition_for(fleet.node_id, COMMAND_PARTITIONS)
    put(fleet.bootstrap_servers, [Put(COMMANDS, value, fleet.node_id.encode(), partition) for value in values])
    good = client.kill()
    time.sleep(0.5)
    began = time.time_ns()
    os.kill(node, signal.SIGCONT)
    while (died := client.processes.died_ns(good.pid)) is None:
        assert time.time_ns() - began < 60 * SECOND, f"the good command never came through\n{fleet.log_tails('node')}"
        time.sleep(0.001)
    delay_s = (died - began) / SECOND

    client.settled()
    deadline = time.monotonic() + 60
    while len(letters := client.wire.dead_letters()[letters_before:]) < COUNT:
        client.wire.look()
        assert time.monotonic() < deadline, f"{len(letters)} dead letters"
    client.judge()
    letters = client.wire.dead_letters()[letters_before:]
    reasons = Counter(letter["reason"] for letter in letters)
    size = sum(len(value or b"") for value in values)
    print(
        f"\n{broker}: {COUNT} poison records, {size / 1e6:.1f} MB: the good one behind them died after {delay_s:.3f} s"
    )
    print(f"dead letters: {dict(sorted(reasons.items()))}")
    assert len(letters) == COUNT
    assert all(letter["reason"] and letter["message"] for letter in letters)
    assert Counter(letter["sha256"] for letter in letters if letter["value"] is not None) == Counter(
        hashlib.sha256(value).hexdigest() for value in values if value is not None
    )
    assert reasons["null"] == values.count(None)
    ours = {good.execution_id}
    assert {result["execution_id"] for result in client.wire.results()[results_before:]} == ours
    assert client.processes.died_ns(poisoner.bystander) is None
    assert fleet.running["node"].poll() is None
    assert fleet.running["node"].pid == node
    fleet.no_traceback()
    assert delay_s <= DELAY_S
