"""All of docker-compose.yml but the containers: its keys, its broker with access rules, its settings, its commands.

Every worker runs as a process of its own with compose's settings file, moved to this machine's directories. What cannot
be tried without an engine is the images and the privileges of the containers.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin._acl import AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.integration.compose_broker import COMPOSE, admin_of, compose_broker
from tests.integration.test_compose_prepare import prepare
from tests.kafka.cluster import free_ports
from tests.kafka.distribution import Distribution
from tests.s3.server import SeaweedFS
from workers.system.yaml_files import read_mapping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_ROLES = ("projector", "dispatcher", "node", "responder", "gateway")
_UP_WITHIN_S = 60.0


@dataclass(frozen=True)
class System:
    """What the operator has of it: the command line, with the context that `prepare` made."""

    directory: Path
    keys: Path

    def douse(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"DOUSE_CONTEXT": str(self.directory / "context.yaml")}
        command = [sys.executable, "-m", "workers", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def system(kafka_distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("compose")
    keys = directory / "keys"
    prepare(keys)
    _take_back(keys)
    (port,) = free_ports("127.0.0.1", 1)
    with (
        compose_broker(kafka_distribution, keys, directory / "broker") as server,
        _compose_store(keys / "seaweedfs", directory / "store") as store,
    ):
        for principal in (*_ROLES, "operator"):
            _settle(directory, keys, principal, server, port, store)
        made = System(directory, keys)
        context = (keys / "operator" / "context.yaml").read_text().replace("gateway:8080", f"127.0.0.1:{port}")
        (directory / "context.yaml").write_text(context)
        (directory / "context.yaml").chmod(0o600)
        applied = made.douse(
            "topics", "apply", "--config", str(directory / "operator.yaml"), "--replication", "1", "--acls"
        )
        assert applied.returncode == 0, applied.stdout + applied.stderr
        workers = [_start(directory, role) for role in _ROLES]
        try:
            _await_node(made, workers)
            _await_dispatcher(made)
            yield made
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(20)


def _take_back(keys: Path) -> None:
    """Here every worker runs as the user of the tests, and each refuses keys that belong to somebody else."""
    for path in (keys, *keys.rglob("*")):
        os.chown(path, os.geteuid(), os.getegid())


@contextmanager
def _compose_store(keys: Path, directory: Path) -> Iterator[str]:
    """The object store with its keys, policies and options, and its bucket; where it is."""
    directory.mkdir()
    store = SeaweedFS(directory)
    store.start(
        keys / "s3.json", f"-s3.cert.file={keys / 'tls.pem'}", f"-s3.key.file={keys / 'tls.key'}", "-s3.ip.bind=0.0.0.0"
    )
    try:
        store.make_bucket("evidence")
        yield f"127.0.0.1:{store.port}"
    finally:
        store.stop()


def _settle(directory: Path, keys: Path, principal: str, server: str, port: int, store: str) -> None:
    """The principal's own settings file, with this machine's places for compose's."""
    source = keys / "gateway" / "gateway.yaml" if principal == "gateway" else COMPOSE / f"{principal}.yaml"
    text = source.read_text()
    for there, here in (
        ("kafka:9092", server),
        ("seaweedfs:8333", store),
        ("/run/douse/keys", str(keys / principal)),
        ("/var/lib/douse-node", str(directory / "node")),
        ("/var/lib/douse", str(directory)),
        ("host: 0.0.0.0", "host: 127.0.0.1"),
        ("port: 8080", f"port: {port}"),
    ):
        text = text.replace(there, here)
    (directory / f"{principal}.yaml").write_text(text)


def _start(directory: Path, role: str) -> subprocess.Popen[bytes]:
    with (directory / f"{role}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "workers", role, "--config", str(directory / f"{role}.yaml")], stdout=log, stderr=log
        )


def _await_node(system: System, workers: list[subprocess.Popen[bytes]]) -> None:
    context = read_mapping(system.directory / "context.yaml")
    node_id = read_mapping(COMPOSE / "node.yaml")["node"]["id"]
    deadline = time.monotonic() + _UP_WITHIN_S
    while time.monotonic() < deadline:
        for role, worker in zip(_ROLES, workers, strict=True):
            assert worker.poll() is None, f"{role}: {(system.directory / f'{role}.log').read_text()[-2000:]}"
        try:
            answer = httpx.get(
                f"{context['url']}/api/v1/nodes/{node_id}", headers={"Authorization": f"Bearer {context['token']}"}
            )
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == httpx.codes.OK:
            return
        time.sleep(0.2)
    logs = "\n".join(f"--- {role}\n{(system.directory / f'{role}.log').read_text()[-1500:]}" for role in _ROLES)
    raise AssertionError(f"no heartbeat in history after {_UP_WITHIN_S:g} s\n{logs}")


def _await_dispatcher(system: System) -> None:
    """The dispatcher hears of a node on its own, and may do so later than history."""
    deadline = time.monotonic() + _UP_WITHIN_S
    asked = ("run", "kill_process", "--host", socket.gethostname(), f"pid={os.getpid()}", "--reason", "up yet?")
    while "unknown_node" in system.douse(*asked, "--dry-run", "--wait").stdout:
        assert time.monotonic() < deadline, (system.directory / "dispatcher.log").read_text()[-2000:]
        time.sleep(0.5)


def test_a_kill_goes_the_whole_way_with_no_more_rights_than_the_catalogue_grants(system: System) -> None:
    assert _killed(system)


def test_after_a_growth_a_kill_goes_the_new_way_with_the_rights_that_were_there_before_it(system: System) -> None:
    config = str(system.directory / "operator.yaml")
    grown = system.douse(
        "topics", "grow", "--config", config, "--zone", "default", "--partitions", "256", "--replication", "1"
    )
    assert grown.returncode == 0, grown.stdout + grown.stderr
    deadline = time.monotonic() + _UP_WITHIN_S
    while '"event": "topology"' not in _output(system, "dispatcher"):
        assert time.monotonic() < deadline, _output(system, "dispatcher")[-2000:]
        time.sleep(0.1)
    assert _killed(system)
    assert "TOPIC_AUTH" not in _output(system, "dispatcher") + _output(system, "node")


def _output(system: System, role: str) -> str:
    return (system.directory / f"{role}.log").read_text()


def _killed(system: System) -> bool:
    """A process of ours is killed, by hand."""
    victim = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(300)"])
    time.sleep(0.1)
    try:
        done = system.douse(
            "run", "kill_process", "--host", socket.gethostname(), f"pid={victim.pid}", "--reason", "compose", "--wait"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "COMPLETED" in done.stdout
        return victim.wait(10) == -9
    finally:
        victim.kill()
        victim.wait()


def test_an_acquired_file_goes_through_the_store_with_no_more_rights_than_prepare_gives(
    system: System, tmp_path: Path
) -> None:
    evidence = tmp_path / "evidence"
    evidence.write_bytes(os.urandom(200_000))
    host = ("--host", socket.gethostname())
    done = system.douse(
        "run", "file_acquire", *host, f"path={evidence}", "--reason", "compose", "--wait", "--output", "json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    execution = json.loads(done.stdout)
    assert execution["post_condition"]["detail"].endswith("this node may not read it back")
    got = system.douse("download", execution["id"], "-o", str(tmp_path / "got"))
    assert got.returncode == 0, got.stdout + got.stderr
    assert (tmp_path / "got").read_bytes() == evidence.read_bytes()


def test_the_doctor_finds_the_stores_credentials_as_they_should_be(system: System) -> None:
    node = system.douse("doctor", "--config", str(system.directory / "node.yaml"), "--output", "json")
    output = {found["message"]: found["level"] for found in json.loads(node.stdout) if found["about"] == "object store"}
    assert set(output.values()) == {"ok"}, output
    assert len(output) == 4, output
    gateway = system.douse("doctor", "--config", str(system.directory / "gateway.yaml"), "--output", "json")
    (found,) = (found for found in json.loads(gateway.stdout) if found["about"] == "object store")
    assert found["level"] == "ok", found


def test_a_cluster_that_was_applied_differs_in_nothing(system: System) -> None:
    config = str(system.directory / "operator.yaml")
    same = system.douse("topics", "diff", "--config", config, "--replication", "1")
    assert (same.returncode, same.stdout.strip()) == (0, "the cluster matches the catalogue"), same.stderr
    again = system.douse("topics", "apply", "--config", config, "--replication", "1", "--acls")
    assert again.returncode == 0, again.stderr
    assert "created " not in again.stdout


def test_the_rules_that_acls_prints_are_the_rules_in_place(system: System) -> None:
    printed = {_rule(line) for line in system.douse("topics", "acls").stdout.splitlines()}
    server = read_mapping(system.directory / "operator.yaml")["kafka"]["bootstrap_servers"]
    every: Any = None  # the library's types say str here; it takes None as "whatever it is"
    anything = AclBindingFilter(
        ResourceType.ANY, every, ResourcePatternType.ANY, every, every, AclOperation.ANY, AclPermissionType.ANY
    )
    admin = admin_of(server, system.keys / "operator")
    found = admin.describe_acls(anything, request_timeout=20).result(20)
    assert printed
    assert printed == {
        (rule.principal, rule.operation.name.title(), f"--{rule.restype.name.lower()}", rule.name)
        for rule in found
        if rule.permission_type is AclPermissionType.ALLOW and rule.host == "*"
    }


def _rule(line: str) -> tuple[str, str, str, str]:
    words = line.split()
    principal, operation = words[words.index("--allow-principal") + 1], words[words.index("--operation") + 1]
    return principal, operation, words[-2], words[-1]


def test_what_apply_never_changes_is_reported_in_one_line(system: System) -> None:
    config = str(system.directory / "operator.yaml")
    wrong = system.douse("topics", "apply", "--config", config, "--replication", "2")
    assert wrong.returncode == 1
    assert "replication is 1, should be 2" in wrong.stdout
    assert "Traceback" not in wrong.stderr
