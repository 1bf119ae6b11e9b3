"""What whoever may write to the bus, up to root on one node, cannot do to the other nodes: attacks from outside.

The attacker is a client of the broker of its own. It has the records that it read, and at most the key of one node,
which is enrolled and rooted. Oracles are the victims themselves and the wire, history is asked last.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from tests.e2e.client import FleetClient
from tests.e2e.conftest import NewClient
from tests.e2e.fleet import Fleet, embedded_zones
from tests.e2e.wire import Put, put
from tests.stories import Story, heartbeat
from workers.cli.up.data_dir import DataDir
from workers.domain.ids import ExecutionId, KeyId, NodeId, id_from_cause
from workers.domain.log import topics
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import EFFECT_LOST
from workers.domain.trust.envelope import PayloadType
from workers.wire.avro import AvroCodec
from workers.wire.keys import add_node, load_private_key
from workers.wire.signing import EnvelopeSigner
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOTED: Final = NodeId("b" * 32)
WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Attacker:
    """Root on the node ``ROOTED``, whose worker it has replaced."""

    fleet: Fleet
    signer: EnvelopeSigner

    def write(self, topic: str, *values: bytes | None, key: str) -> None:
        put(self.fleet.bootstrap_servers, [Put(topic, value, key.encode()) for value in values])

    def sign(self, kind: PayloadType, record: object) -> bytes:
        return self.signer.sign(kind, record).value

    def claim_names(self, *names: str, record_no: int = 1) -> None:
        """A heartbeat of the rooted node, with names that it has no right to."""
        state = replace(
            heartbeat(record_no, node_id=ROOTED),
            at_ns=time.time_ns(),
            node_key=KeyId(self.signer.key_id),
            host_names=names,
        )
        self.write(topics.NODES, self.sign(PayloadType.NODE_STATE, state), key=ROOTED)

    def report(self, execution_id: ExecutionId, **more: Any) -> None:
        """A result of the rooted node, about an execution that is not its own."""
        result = replace(
            Story(1, node_id=ROOTED).ended(),
            execution_id=execution_id,
            at_ns=time.time_ns(),
            **({"record_no": 7} | more),
        )
        if result.alarm:
            result = replace(result, stage=Stage.CLAIMED, outcome=None)
        self.write(topics.RESULTS, self.sign(PayloadType.RESULT, result), key=ROOTED)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Five workers on the embedded broker, and one node more that is enrolled and rooted."""
    root = tmp_path_factory.mktemp("attacked")
    with (
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(root / "data"), servers, log_id="this-run", fetch_wait_ms=2) as made,
    ):
        add_node(made.data.keys, name="rooted", node_id=ROOTED)
        yield made.up()


@pytest.fixture
def attacker(fleet: Fleet) -> Attacker:
    return Attacker(fleet, EnvelopeSigner(load_private_key(fleet.data.keys / "rooted.key"), AvroCodec()))


def until(ready: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := ready()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)
    return found


def node(fleet: Fleet, node_id: str = "") -> dict[str, Any]:
    """A node as the gateway shows it."""
    with fleet.http_client() as http:
        found: dict[str, Any] = http.get(f"/api/v1/nodes/{node_id or fleet.node_id}").json()
        return found


def alarms(client: FleetClient, name: str) -> list[dict[str, Any]]:
    """The audit records of an alarm, as an outsider reads them."""
    client.wire.look()
    found = [record for record in client.wire.audit() if record["kind"] == name]
    return [json.loads(json.dumps(record["detail"], default=repr)) for record in found]


def heartbeats(client: FleetClient) -> list[bytes]:
    client.wire.look()
    return [record.value for record in client.wire.records(topics.NODES) if record.key.decode() == client.fleet.node_id]


def with_a_new_journal(fleet: Fleet) -> None:
    """The node loses its journal and comes back."""
    before = node(fleet)["incarnation"]
    fleet.stop("node")
    for part in (fleet.data.root / "node").glob("journal.sqlite*"):
        part.unlink()
    fleet.spawn("node")
    until(lambda: node(fleet)["incarnation"] != before, "the node is back without its journal")


def test_tombstones_and_old_heartbeats_neither_take_a_node_away_nor_end_its_commands(
    fleet: Fleet, attacker: Attacker, new_client: NewClient
) -> None:
    client = new_client(fleet)
    client.kill()
    client.settled()
    old = heartbeats(client)
    assert old
    with_a_new_journal(fleet)
    client.kill()
    client.settled()
    os.kill(fleet.running["node"].pid, signal.SIGSTOP)
    try:
        for _ in range(5):
            client.kill()  # with its node, and open
            attacker.write(topics.NODES, None, *old, None, old[-1], key=fleet.node_id)
        until(lambda: alarms(client, "unsigned_tombstone"), "the dispatcher's alarm")
        for _ in range(5):
            client.kill()  # requested while the node is said to be gone
    finally:
        os.kill(fleet.running["node"].pid, signal.SIGCONT)
    attacker.write(topics.NODES, None, *old, key=fleet.node_id)
    fleet.kill("dispatcher")
    fleet.spawn("dispatcher")
    attacker.write(topics.NODES, None, *old, key=fleet.node_id)
    for _ in range(5):
        client.kill()
    client.settled()
    assert {client.outcome(order) for order in client.orders} == {"COMPLETED"}
    client.judge()
    assert [each for each in alarms(client, "unverified") if "unsigned_tombstone" in json.dumps(each)]


def test_a_name_of_another_node_is_served_by_its_holder_and_the_claim_is_an_alarm(
    fleet: Fleet, attacker: Attacker, new_client: NewClient
) -> None:
    client = new_client(fleet)
    names = node(fleet)["host_names"]
    assert names
    attacker.claim_names(*names)
    until(lambda: alarms(client, "host_name_disputed"), "the dispatcher's alarm")
    until(lambda: node(fleet, ROOTED).get("disputed_names"), "the gateway shows it")
    client.host = lambda: names[0]  # type: ignore[method-assign]
    for _ in range(3):
        client.kill()
    client.settled()
    assert {client.outcome(order) for order in client.orders} == {"COMPLETED"}


def test_no_word_of_another_node_changes_what_history_says_of_a_node(
    fleet: Fleet, attacker: Attacker, new_client: NewClient
) -> None:
    client = new_client(fleet)
    taken, killed = client.quarantine(), client.kill()
    with fleet.http_client() as http:
        body = {"action": "kill_process", "host": "nowhere", "target": {"process": {"pid": 1, "start_time_ns": 1}}}
        refused = str(http.post("/api/v1/executions", json=body).json()["id"])
        client.settled()
        until(lambda: shown(fleet, refused)["outcome"] == "REJECTED", "the dispatcher's refusal")
        before = {each: shown(fleet, each) for each in (taken.execution_id, killed.execution_id, refused)}
        attacker.report(id_from_cause(time.time_ns(), "a fresh id"), undo_of=ExecutionId(taken.execution_id))
        attacker.report(ExecutionId(taken.execution_id), alarm=EFFECT_LOST)
        for each in before:
            attacker.report(ExecutionId(each), outcome=Outcome.COMPLETED, attempt=9)
            attacker.report(ExecutionId(each), outcome=Outcome.REJECTED, attempt=9, message="another reason")
        until(lambda: alarms(client, "foreign_node"), "the projector's alarm")
        until(lambda: all(shown(fleet, each)["conflict"] for each in before), "all are shown as disputed")
        for each, was in before.items():
            now = shown(fleet, each)
            same = ("stage", "outcome", "code", "message", "effect_holds", "node_id", "undo_of", "ended_at")
            assert {name: now.get(name) for name in same} == {name: was.get(name) for name in same}
            assert now["alarms"] == ["foreign_node"]
        held = [each["id"] for each in http.get("/api/v1/contained").json()["data"]]
        assert taken.execution_id in held
    client.give_everything_back()
    assert client.outcome(client.orders[-1]) == "COMPLETED"


def test_a_node_that_was_given_an_execution_cannot_make_it_the_undo_of_another_nodes_quarantine(
    fleet: Fleet, attacker: Attacker, new_client: NewClient
) -> None:
    client = new_client(fleet)
    taken = client.quarantine()
    client.settled()
    attacker.claim_names("rooted", record_no=50)
    until(lambda: node(fleet, ROOTED).get("record_no") == 50, "the rooted node is known")
    with fleet.http_client() as http:
        body = {
            "action": "kill_process",
            "host": ROOTED,
            "reason": "its own",
            "target": {"process": {"pid": 2, "start_time_ns": 1}},
        }
        own = str(http.post("/api/v1/executions", json=body).raise_for_status().json()["id"])
        until(lambda: shown(fleet, own).get("stage") == "DISPATCHED", "the dispatcher gave it to the rooted node")
        attacker.report(ExecutionId(own), undo_of=ExecutionId(taken.execution_id), outcome=Outcome.COMPLETED)
        until(lambda: shown(fleet, own).get("stage") == "ENDED", "the rooted node's report is folded")
        found = shown(fleet, own)
        assert (found["undo_of"], found["conflict"]) == ("", True)
        assert shown(fleet, taken.execution_id)["effect_holds"]
        held = [each["id"] for each in http.get("/api/v1/contained").json()["data"]]
        assert taken.execution_id in held
    client.give_everything_back()
    assert client.outcome(client.orders[-1]) == "COMPLETED"


def shown(fleet: Fleet, execution_id: str) -> dict[str, Any]:
    """An execution as the gateway shows it."""
    with fleet.http_client() as http:
        found: dict[str, Any] = http.get(f"/api/v1/executions/{execution_id}").json()
        return found
