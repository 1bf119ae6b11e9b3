"""Keysets travel over the bus: only what the operators signed, and only the next version, changes what workers trust.

Five workers on the embedded broker. The operator's directory is another than the workers', as it is in production; the
attacker writes to ``response.policy`` with no key, with a key of its own, and with a node's key.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.fleet import Fleet, embedded_zones
from tests.e2e.victim_processes import VictimProcesses, facts_of
from tests.e2e.wire import Put, Wire, put
from workers.cli.up.data_dir import ROLES, DataDir
from workers.domain.ids import KeyId
from workers.domain.log import topics
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.system import yaml_files
from workers.wire.keys import load_keyset, load_private_key
from workers.wire.keys.keyset_document import signed
from workers.wire.signing import PrivateKey
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WAIT_S: Final = 60.0


@dataclass
class World:
    """A fleet, the operator's own key directory, and everything that lies in the audit topic."""

    fleet: Fleet
    operator: Path
    wire: Wire

    def douse(self, *words: str) -> str:
        """A command of the operator."""
        command = [sys.executable, "-m", "workers", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def keys(self, *words: str) -> str:
        return self.douse("keys", *words, "--keys", str(self.operator))

    def publish(self) -> str:
        return self.keys("publish", "--config", str(self.fleet.data.config("dispatcher")))

    def put(self, *documents: bytes | None, version: int = 2) -> None:
        key = f"keyset/{version}".encode()
        put(self.fleet.bootstrap_servers, [Put(topics.POLICY, document, key, 0) for document in documents])

    @property
    def known(self) -> Keyset:
        return load_keyset(self.operator / "keyset.json")

    def audited(self, kind: str) -> set[tuple[str, str, int]]:
        """(worker, reason, version in force) of each audit record of a kind."""
        self.wire.look()
        found = [record for record in self.wire.audit() if record["kind"] == kind]
        return {
            (each["worker"], str(each["detail"].get("reason", "")), int(each["detail"]["version"])) for each in found
        }

    def health(self) -> dict[str, Any]:
        with self.fleet.http_client() as http:
            found: dict[str, Any] = http.get("/api/v1/health").json()
            return found

    def kill(self, victims: VictimProcesses) -> str:
        """A person's request, and its execution id."""
        pid = victims.spawn()
        target = {"process": {"pid": pid, "start_time_ns": facts_of(pid).started_at_ns}}
        body = {"host": self.fleet.node_id, "reason": "a person", "action": "kill_process", "target": target}
        with self.fleet.http_client() as http:
            return str(http.post("/api/v1/executions", json=body).raise_for_status().json()["id"])

    def shown(self, execution_id: str, stage: str = "ENDED") -> dict[str, Any]:
        """An execution, once it is there."""
        with self.fleet.http_client() as http:
            return dict(
                until(
                    lambda: http.get(f"/api/v1/executions/{execution_id}").json(),
                    lambda found: found.get("stage") == stage,
                )
            )

    def kill_works(self, victims: VictimProcesses) -> str:
        execution_id = self.kill(victims)
        ended = self.shown(execution_id)
        assert ended["outcome"] == "COMPLETED", ended
        return execution_id

    def published(self) -> None:
        """Every worker has taken up the newest version."""
        newest = self.known.version
        until(lambda: everyone("", newest) - self.audited("keyset"), lambda left: not left)

    def enrol_again(self, name: str) -> None:
        """The node gets a new key, and starts with it."""
        self.keys("add", name, "--role", "node", "--node", self.fleet.node_id)
        self.publish()
        self.published()
        self.fleet.stop("node")
        shutil.copyfile(self.operator / f"{name}.key", self.fleet.data.keys / "node.key")
        self.fleet.spawn("node")
        key = load_private_key(self.operator / f"{name}.key").key_id
        with self.fleet.http_client() as http:
            until(lambda: http.get(f"/api/v1/nodes/{self.fleet.node_id}").json()["node_key"], lambda got: got == key)


def until(look: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not holds(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("keysets")
    with (
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(root / "data"), servers, log_id="this-run", fetch_wait_ms=2) as fleet,
    ):
        shutil.copytree(fleet.data.keys, root / "operator")
        fleet.up()
        with Wire(servers, (topics.AUDIT,), fetch_wait_ms=2) as wire:
            yield World(fleet, root / "operator", wire)


@pytest.fixture
def victims() -> Iterator[VictimProcesses]:
    with VictimProcesses() as made:
        yield made


def everyone(reason: str, version: int) -> set[tuple[str, str, int]]:
    return {(role, reason, version) for role in ROLES}


def following(keyset: Keyset, *keys: PublicKey, versions: int = 1) -> Keyset:
    more: dict[KeyId, PublicKey] = {key.key_id: key for key in keys}
    return replace(keyset, version=keyset.version + versions, keys={**keyset.keys, **more})


def unsigned(document: bytes) -> bytes:
    outer = json.loads(document)
    outer["signatures"] = []
    return json.dumps(outer).encode()


def altered(document: bytes) -> bytes:
    """A genuine signature over another content."""
    outer = json.loads(document)
    payload = json.loads(base64.b64decode(outer["payload"]))
    payload["version"] += 1
    outer["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps(outer).encode()


def test_only_the_operators_next_version_changes_what_workers_trust(world: World, victims: VictimProcesses) -> None:
    known = world.known
    first = (world.operator / "keyset.json").read_bytes()
    assert known.version == world.health()["keyset_version"]
    mallory = PrivateKey.generate()
    of_mallory = PublicKey(mallory.key_id, mallory.public, KeyRole.OPERATOR, "operator")
    node = load_private_key(world.fleet.data.keys / "node.key")
    operator = load_private_key(world.operator / "operator.key")
    genuine = signed(following(known), [operator])

    attacks: dict[str, list[bytes | None]] = {
        "not_a_keyset": [b"", b"{}", None, genuine[:-40], b"[" * 100_000, b"\xff" * 64],
        "not_signed": [
            unsigned(genuine),
            altered(first),
            signed(following(known), [node]),
            signed(following(known, of_mallory), [mallory]),
        ],
        "skipped_version": [signed(following(known, of_mallory, versions=2), [mallory])],
        "older_version": [signed(replace(known, keys={of_mallory.key_id: of_mallory}), [mallory])],
    }
    for documents in attacks.values():
        world.put(*documents)
    expected = set().union(*(everyone(reason, known.version) for reason in attacks))
    until(lambda: expected - world.audited("keyset_refused"), lambda left: not left)
    assert world.audited("keyset_refused") == expected
    assert not world.audited("keyset")
    assert world.health()["keyset_version"] == known.version
    world.kill_works(victims)

    world.keys("renew", "--days", "30")
    assert "version" in world.publish()
    until(lambda: everyone("", known.version + 1) - world.audited("keyset"), lambda left: not left)
    health = world.health()
    assert (health["keyset_version"], health["keyset_days_left"]) == (known.version + 1, 29)
    assert health["warnings"]
    until(lambda: world.fleet.log_tails("node"), lambda text: "expires within 30 days" in text)
    assert "already" in world.publish()
    world.kill_works(victims)

    world.put(first, version=known.version)  # a rollback
    rolled_back = everyone("older_version", known.version + 1)
    until(lambda: rolled_back - world.audited("keyset_refused"), lambda left: not left)
    assert world.health()["keyset_version"] == known.version + 1
    world.kill_works(victims)
    world.fleet.all_alive()
    world.fleet.no_traceback()


def test_a_worker_that_starts_without_the_bus_and_with_an_old_file_trusts_the_newest_it_has_seen(world: World) -> None:
    world.keys("renew")
    world.publish()
    newest = world.known.version
    until(world.health, lambda found: found.get("keyset_version") == newest)
    fleet = world.fleet
    assert load_keyset(fleet.data.keys / "keyset.json").version < newest
    fleet.stop("gateway")
    path = fleet.data.config("gateway")
    settings = dict(yaml_files.read_mapping(path))
    away = {**settings, "kafka": {**settings["kafka"], "bootstrap_servers": "127.0.0.1:9"}}
    yaml_files.write(path, away)
    try:
        fleet.spawn("gateway")
        fleet.await_ready()
        assert world.health()["keyset_version"] == newest
        fleet.stop("gateway")
    finally:
        yaml_files.write(path, settings)
        fleet.spawn("gateway")
        fleet.await_ready()


def test_a_node_that_was_retired_or_revoked_gets_nothing_new_and_comes_back_with_a_new_key_only(
    world: World, victims: VictimProcesses
) -> None:
    where = ("--keys", str(world.operator), "--publish", str(world.fleet.data.config("dispatcher")))
    done = world.kill_works(victims)
    node = world.fleet.running["node"]

    node.send_signal(signal.SIGSTOP)
    try:
        under_way = world.kill(victims)
        world.shown(under_way, "DISPATCHED")
        world.douse("nodes", "retire", world.fleet.node_id, *where)
        until(world.health, lambda found: found.get("keyset_version") == world.known.version)
        time.sleep(1)
        refused = world.shown(world.kill(victims))
        assert (refused["outcome"], refused["code"]) == ("REJECTED", "kill_process_error_node_left")
    finally:
        node.send_signal(signal.SIGCONT)
    assert world.shown(under_way)["outcome"] == "COMPLETED"  # it leaves in good order

    world.enrol_again("second")
    done_again = world.kill_works(victims)
    node = world.fleet.running["node"]
    node.send_signal(signal.SIGSTOP)
    try:
        under_way = world.kill(victims)
        world.shown(under_way, "DISPATCHED")
        world.douse("nodes", "revoke", world.fleet.node_id, *where)
        lost = world.shown(under_way)
        assert (lost["outcome"], lost["code"]) == ("UNKNOWN", "kill_process_error_node_left")
    finally:
        node.send_signal(signal.SIGCONT)
    world.published()
    time.sleep(3)  # the node goes on sending heartbeats and reports with its old key
    refused = world.shown(world.kill(victims))
    assert (refused["outcome"], refused["code"]) == ("REJECTED", "kill_process_error_node_left")
    assert world.shown(under_way)["outcome"] == "UNKNOWN"
    for execution_id in (done, done_again):  # what it signed before stays valid
        found = world.shown(execution_id)
        assert (found["outcome"], found["conflict"]) == ("COMPLETED", False)

    world.enrol_again("third")
    world.kill_works(victims)


def test_a_key_that_is_revoked_over_the_bus_counts_no_more_without_any_restart(
    world: World, victims: VictimProcesses
) -> None:
    world.kill_works(victims)
    gateway = load_private_key(world.operator / "gateway.key")
    world.keys("revoke", gateway.key_id)
    world.publish()
    newest = world.known.version
    until(lambda: everyone("", newest) - world.audited("keyset"), lambda left: not left)
    time.sleep(1.1)  # a keyset has whole seconds
    pid = victims.spawn()
    target = {"process": {"pid": pid, "start_time_ns": facts_of(pid).started_at_ns}}
    body = {"host": world.fleet.node_id, "reason": "a thief", "action": "kill_process", "target": target}
    with world.fleet.http_client() as http:
        execution_id = http.post("/api/v1/executions", json=body).raise_for_status().json()["id"]
        time.sleep(2)
        shown = http.get(f"/api/v1/executions/{execution_id}").json()
    assert shown.get("stage") != "ENDED", shown
    assert not victims.died_ns(pid)
