"""Whoever can write to the broker is nobody: only what a gateway's or a responder's key signed is acted on.

Against a running `douse up` of root. The foreign process is user 65534, has no key and knows every format; where a test
holds a key, it uses it where that key has no right.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.components import require
from tests.e2e.victim_processes import VictimProcesses, facts_of
from tests.e2e.wire import Put, Wire, put
from workers.cli.demo.detection import RESPONSE, falco_event
from workers.cli.up.data_dir import COMMAND_PARTITIONS, DataDir
from workers.domain.event import ProcessRef
from workers.domain.falco.alert import event_from
from workers.domain.ids import NO_EXECUTION, RANDOM_BYTES, ExecutionId, KeyId, NodeId, uuid7
from workers.domain.log import topics
from workers.domain.log.routing import command_topic, partition_for
from workers.domain.request import ActionRequest, Actor, ActorKind, Step, Verb
from workers.domain.target import FileTarget, ProcessTarget
from workers.domain.trust.envelope import Envelope, PayloadType
from workers.system import yaml_files
from workers.wire.avro import AvroCodec
from workers.wire.keys import load_keyset, load_private_key
from workers.wire.signing import EnvelopeSigner, PrivateKey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CODEC: Final = AvroCodec()
REPOSITORY: Final = Path(__file__).resolve().parents[2]
WAIT_S: Final = 60.0
COMMANDS: Final = command_topic("default")
REQUESTS: Final = (topics.REQUESTS_PEOPLE, topics.REQUESTS_RULES)
SILENT: Final = frozenset({topics.FALCO_EVENTS, topics.POLICY, topics.DEAD_LETTERS})
"""Topics whose records become no dead letters: no worker of `douse up` reads them, or (keysets) it audits what it
refuses."""
EVERY: Final = (
    *REQUESTS,
    *SILENT,
    *(topics.RUNTIME_EVENTS, topics.RESULTS, topics.AUDIT, topics.NODES, topics.TOPOLOGY, COMMANDS),
)

# May read everything, because interpreter and repository may lie in root's home; may do nothing else that root may.
AS_NOBODY: Final = (
    "setpriv",
    *("--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"),
    *("--bounding-set", "-all,+dac_read_search"),
    *("--inh-caps", "-all,+dac_read_search"),
    *("--ambient-caps", "-all,+dac_read_search"),
)
FOREIGN: Final = """
import base64, json, os, sys
from confluent_kafka import Producer
assert os.getuid() == os.geteuid() == 65534
servers, records = json.load(sys.stdin)
producer = Producer({"bootstrap.servers": servers, "acks": "all", "log_level": 0})
failed = []
for topic, value, key, partition in records:
    told = lambda error, message: failed.append(str(error)) if error is not None else None
    producer.produce(topic, base64.b64decode(value), key, partition, on_delivery=told)
    producer.poll(0)
assert producer.flush(60) == 0 and not failed, failed
"""


@dataclass
class Up:
    """A running `douse up`, a client with its token, and everything that lies in its dead letters."""

    data: DataDir
    process: subprocess.Popen[str]
    client: httpx.Client
    servers: str
    node_id: NodeId
    wire: Wire
    output: str
    """What it printed until it was ready."""
    requested: set[str] = field(default_factory=set)
    """Executions that somebody asked for who may."""

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A person's request, to its end."""
        answer = self.client.post("/api/v1/executions", json={"host": self.node_id, "reason": "a person"} | dict(body))
        answer.raise_for_status()
        return self.ended(answer.json()["id"])

    def undo(self, execution_id: str) -> dict[str, Any]:
        """A person's undo, to its end."""
        answer = self.client.delete(f"/api/v1/executions/{execution_id}")
        answer.raise_for_status()
        return self.ended(answer.json()["id"])

    def ended(self, execution_id: str) -> dict[str, Any]:
        """An execution that was asked for, once it has ended."""
        self.requested.add(execution_id)
        found: dict[str, Any] = until(
            lambda: self.client.get(f"/api/v1/executions/{execution_id}").json(),
            lambda found: found.get("stage") == "ENDED" and found["outcome"] != "UNKNOWN",
        )
        return found

    def executions(self) -> dict[str, dict[str, Any]]:
        """Every execution in history."""
        rows = self.client.get("/api/v1/executions", params={"limit": 100}).json()["data"]
        return {row["id"]: row for row in rows}

    def reasons(self) -> Mapping[tuple[str, str], set[str]]:
        """Why each record was refused, by its topic and digest."""
        self.wire.read_to_the_end()
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for letter in self.wire.dead_letters():
            if "sha256" in letter:  # what the attacker wrote there is no dead letter
                found[letter["topic"], letter["sha256"]].add(letter["reason"])
        return found

    def refused(self, records: Sequence[Put]) -> Mapping[tuple[str, str], set[str]]:
        """The reasons for each of these, once every one is a dead letter."""
        keys = [(record.topic, hashlib.sha256(record.value or b"").hexdigest()) for record in records]
        until(lambda: {key[0] for key in set(keys) - set(self.reasons())}, lambda left: not left)
        found = self.reasons()
        return {key: found[key] for key in keys}

    def kill_still_works(self, victims: VictimProcesses) -> None:
        """A person's kill goes through: what was written before it has been read by the dispatcher."""
        pid = victims.spawn()
        assert self.request(kill(pid))["outcome"] == "COMPLETED"
        assert victims.died_ns(pid)


def until(look: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """What `look` finds, once it holds."""
    deadline = time.monotonic() + WAIT_S
    while not holds(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def kill(pid: int) -> dict[str, Any]:
    target = {"process": {"pid": pid, "start_time_ns": facts_of(pid).started_at_ns}}
    return {"action": "kill_process", "target": target}


def quarantine(path: Path) -> dict[str, Any]:
    return {"action": "file_quarantine", "target": {"file": {"path": str(path)}}}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`douse up` as root, with a rule that kills."""
    require("root", "the attack is on what root runs")
    require("setpriv", "it drops root's privileges")
    with running(tmp_path_factory.mktemp("up")) as made:
        assert "warning" not in made.output
        yield made


@contextmanager
def running(directory: Path, *options: str) -> Iterator[Up]:
    """`douse up` with these options."""
    data = DataDir(directory / "data")
    with data.locked():
        yaml_files.write(data.rules, RESPONSE)
    process = subprocess.Popen(
        [sys.executable, "-m", "workers", "up", "--data", str(data.root), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    try:
        while lines[-1] and not lines[-1].startswith("rules:"):
            lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)
        context = yaml_files.read_mapping(data.context)
        servers = str(context["bootstrap_servers"])
        headers = {"Authorization": f"Bearer {context['token']}"}
        with (
            httpx.Client(base_url=context["url"], headers=headers, timeout=30) as client,
            Wire(servers, (topics.DEAD_LETTERS, *REQUESTS), fetch_wait_ms=2) as wire,
        ):
            yield Up(data, process, client, servers, NodeId(context["node_id"]), wire, "".join(lines))
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()


@pytest.fixture
def victims() -> Iterator[VictimProcesses]:
    with VictimProcesses() as made:
        yield made


def new_id() -> ExecutionId:
    return ExecutionId(uuid7(time.time_ns(), os.urandom(RANDOM_BYTES)))


def process_target(pid: int) -> ProcessTarget:
    return ProcessTarget((ProcessRef(pid, facts_of(pid).started_at_ns),), time.time_ns())


def forged(
    up: Up, *, actor: Actor, steps: tuple[Step, ...] = (), subject: ExecutionId = NO_EXECUTION, verb: Verb
) -> ActionRequest:
    """A request as the gateway or the responder would make it."""
    host = up.node_id if verb is Verb.EXECUTE else ""
    return ActionRequest(verb, time.time_ns(), actor, host, steps, reason="forged", subject=subject)


ADMIN: Final = Actor(ActorKind.PERSON, "admin")
RULE: Final = Actor(ActorKind.RULE, "kill-demo-ransomware")


def foreign_process_writes(up: Up, records: Sequence[Put]) -> None:
    """As user 65534, without a key."""
    rows = [
        (each.topic, base64.b64encode(each.value or b"").decode(), (each.key or b"").decode(), each.partition)
        for each in records
    ]
    done = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", FOREIGN],
        input=json.dumps([up.servers, rows]),
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr


def test_a_foreign_process_without_a_key_writes_to_every_topic_and_nothing_happens(
    up: Up, victims: VictimProcesses, tmp_path: Path
) -> None:
    taken, kept = tmp_path / "taken", tmp_path / "kept"
    for path in (taken, kept):
        path.write_bytes(b"root's own")
        path.chmod(0o600)
    quarantined = up.request(quarantine(taken))
    assert (quarantined["outcome"], taken.exists()) == ("COMPLETED", False)
    victim = victims.spawn()
    mallory = EnvelopeSigner(PrivateKey.generate(), CODEC)
    stolen_ids = [key.key_id for key in load_keyset(up.data.keys / "keyset.json").keys.values()]

    attacks: list[ActionRequest] = []
    for actor in (ADMIN, RULE):
        step = Step(new_id(), "kill_process", process_target(victim))
        attacks.append(forged(up, verb=Verb.EXECUTE, actor=actor, steps=(step,)))
        file = Step(new_id(), "file_quarantine", FileTarget(os.fsencode(kept), time.time_ns()))
        attacks.append(forged(up, verb=Verb.EXECUTE, actor=actor, steps=(file,)))
        back = Step(new_id(), "file_restore", None)
        subject = ExecutionId(quarantined["id"])
        attacks.append(forged(up, verb=Verb.UNDO, actor=actor, steps=(back,), subject=subject))
        attacks.append(forged(up, verb=Verb.CANCEL, actor=actor, subject=subject))
    alert = falco_event(facts_of(victim), ())
    event = event_from(alert)

    values = [json.dumps(alert).encode(), CODEC.encode(event), mallory.sign(PayloadType.EVENT, event).value]
    for request in attacks:
        signed = mallory.sign(PayloadType.REQUEST, request)
        values += [CODEC.encode(request), signed.value]
        envelope = CODEC.decode(signed.value, Envelope)
        values += [  # a name that is trusted, over a signature that is not its own
            CODEC.encode(Envelope(envelope.payload_type, envelope.payload, KeyId(key_id), envelope.signature))
            for key_id in stolen_ids
        ]
    commands = partition_for(up.node_id, COMMAND_PARTITIONS)
    records = [
        Put(topic, value, up.node_id.encode(), commands if topic == COMMANDS else 0)
        for topic in EVERY
        for value in values
    ]
    foreign_process_writes(up, records)

    acted_on = (*REQUESTS, topics.RUNTIME_EVENTS)
    reasons = up.refused([record for record in records if record.topic in acted_on])
    unsigned = [record for record in records if record.topic not in SILENT and not signed_by_mallory(record)]
    reasons = {**reasons, **up.refused(unsigned)}
    codes = {"not_an_envelope", "unknown_key", "bad_signature", "undecodable", "wrong_record", "wrong_type", "unsigned"}
    assert set().union(*reasons.values()) <= codes
    up.kill_still_works(victims)
    assert set(up.executions()) == up.requested
    assert not victims.died_ns(victim)
    assert kept.read_bytes() == b"root's own"
    assert not taken.exists()
    contained = {row["id"] for row in up.client.get("/api/v1/contained").json()["data"]}
    assert quarantined["id"] in contained
    events = up.client.get("/api/v1/events", params={"limit": 100}).json()["data"]
    assert alert["uuid"] not in {row["id"] for row in events}
    assert up.process.poll() is None
    assert up.undo(quarantined["id"])["outcome"] == "COMPLETED"
    assert taken.read_bytes() == b"root's own"


def signed_by_mallory(record: Put) -> bool:
    """An envelope is kept apart by the projector rather than dead-lettered; nothing else of it is believed either."""
    return CODEC.names(record.value or b"", Envelope)


def test_a_key_counts_only_on_the_topic_of_its_role_and_a_nodes_key_on_neither(
    up: Up, victims: VictimProcesses
) -> None:
    victim = victims.spawn()
    signers = {
        name: EnvelopeSigner(load_private_key(up.data.keys / f"{name}.key"), CODEC)
        for name in ("gateway", "responder", "node", "dispatcher", "projector", "operator")
    }
    right = {topics.REQUESTS_PEOPLE: "gateway", topics.REQUESTS_RULES: "responder"}
    records = []
    for topic, owner in right.items():
        for name, signer in signers.items():
            if name != owner:
                actor = ADMIN if topic == topics.REQUESTS_PEOPLE else RULE
                step = Step(new_id(), "kill_process", process_target(victim))
                request = forged(up, verb=Verb.EXECUTE, actor=actor, steps=(step,))
                records.append(Put(topic, signer.sign(PayloadType.REQUEST, request).value))
    # A node's key counts for its own node id alone, and no other key at all.
    event = event_from(falco_event(facts_of(victim), ()))
    events = [
        Put(topics.RUNTIME_EVENTS, signers[name].sign(PayloadType.EVENT, event).value)
        for name in ("node", "dispatcher", "responder", "operator")
    ]
    put(up.servers, [*records, *events])
    assert set().union(*up.refused(records).values()) == {"wrong_role"}
    assert set().union(*up.refused(events).values()) == {"wrong_role", "not_its_node"}
    up.kill_still_works(victims)
    assert set(up.executions()) == up.requested
    assert not victims.died_ns(victim)


def test_a_signed_request_that_is_written_again_changes_nothing(
    up: Up, victims: VictimProcesses, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"here")
    taken = up.request(quarantine(path))
    undone = up.undo(taken["id"])
    assert (taken["outcome"], undone["outcome"], path.exists()) == ("COMPLETED", "COMPLETED", True)
    up.wire.read_to_the_end()
    genuine = [
        record
        for record in up.wire.records(topics.REQUESTS_PEOPLE)
        if record.read.name.endswith("ActionRequest") and record.key.decode() in (taken["id"], undone["id"])
    ]
    assert len(genuine) == 2
    before = up.executions()
    again = [Put(topics.REQUESTS_PEOPLE, record.value, record.key) for record in genuine] * 5
    elsewhere = [Put(topics.REQUESTS_RULES, record.value, record.key) for record in genuine]
    put(up.servers, [*again, *elsewhere])
    assert set().union(*up.refused(elsewhere).values()) == {"wrong_role"}
    up.kill_still_works(victims)
    assert path.read_bytes() == b"here"
    after = up.executions()
    assert {row: after[row] for row in before} == before
    assert set(after) == up.requested


def test_a_detection_over_http_still_kills_within_the_same_machine(up: Up, victims: VictimProcesses) -> None:
    victim = victims.spawn()
    time.sleep(0.05)
    alert = falco_event(facts_of(victim), ())
    up.client.post("/api/v1/events", json=alert).raise_for_status()
    until(lambda: victims.died_ns(victim), bool)
    found = until(lambda: up.client.get("/api/v1/executions", params={"event_id": alert["uuid"]}).json()["data"], bool)
    up.ended(found[0]["id"])


def test_a_raw_topic_is_believed_only_after_a_plain_warning(tmp_path: Path, victims: VictimProcesses) -> None:
    require("root", "the warning is about what root runs")
    with running(tmp_path, "--unsigned-events") as open_to_all:
        assert "warning: events on falco.events are believed without a signature" in open_to_all.output
        victim = victims.spawn()
        time.sleep(0.05)
        alert = json.dumps(falco_event(facts_of(victim), ())).encode()
        put(open_to_all.servers, [Put(topics.FALCO_EVENTS, alert)])
        until(lambda: victims.died_ns(victim), bool)


def test_a_key_that_was_stolen_before_its_rotation_requests_nothing_afterwards(
    tmp_path: Path, victims: VictimProcesses
) -> None:
    require("root", "the attack is on what root runs")
    with running(tmp_path) as first:
        pid = victims.spawn()
        done = first.request(kill(pid))
        stolen = {
            name: EnvelopeSigner(load_private_key(first.data.keys / f"{name}.key"), CODEC)
            for name in ("gateway", "responder", "node")
        }
    for name in stolen:
        command = [sys.executable, "-m", "workers", "keys", "rotate", name, "--overlap", "0"]
        subprocess.run([*command, "--keys", str(first.data.keys)], check=True, capture_output=True, timeout=WAIT_S)
    time.sleep(1.1)  # a keyset has whole seconds
    with running(tmp_path) as second:
        victim = victims.spawn()
        records = []
        for topic, name, actor in (
            (topics.REQUESTS_PEOPLE, "gateway", ADMIN),
            (topics.REQUESTS_RULES, "responder", RULE),
        ):
            step = Step(new_id(), "kill_process", process_target(victim))
            request = forged(second, verb=Verb.EXECUTE, actor=actor, steps=(step,))
            records.append(Put(topic, stolen[name].sign(PayloadType.REQUEST, request).value))
        event = event_from(falco_event(facts_of(victim), ()))
        event = replace(event, host=second.node_id)
        records += [
            Put(topics.RUNTIME_EVENTS, stolen[name].sign(PayloadType.EVENT, event).value)
            for name in ("gateway", "node")
        ]
        put(second.servers, records)
        assert set().union(*second.refused(records).values()) == {"revoked_key"}
        second.kill_still_works(victims)
        assert not victims.died_ns(victim)
        assert set(second.executions()) == second.requested | {done["id"]}
