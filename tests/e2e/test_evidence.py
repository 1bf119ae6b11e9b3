"""Evidence through the whole system: asked for on the compatible face, gathered, downloaded, verified; and no secret of
what was looked at is on any topic, in any log, span, database or file of ours."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.fleet import COMMANDS, Fleet, embedded_zones
from tests.e2e.test_trace import Collector, collecting
from tests.e2e.wire import Wire
from tests.engines import DockerRig, until
from workers.cli.up.data_dir import ROLES, DataDir
from workers.system import yaml_files
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CANARY = "c4n4ry-T24-e71f"
MARKER = "m4rk3r-T24-e71f"
"""What is no secret: found where the canary is looked for, or the search finds nothing at all."""
TOPICS = (
    *("falco.events", "runtime.events", "response.requests.people", "response.requests.rules", COMMANDS),
    *("response.results", "response.audit", "response.deadletter", "fleet.nodes"),
)
API = "/secure/response-actions/v1alpha1/action-executions"
WAIT_S = 60.0


class Site:
    """A fleet, a person on the compatible face, and everything that anybody could read afterwards."""

    def __init__(self, directory: Path, stack: ExitStack, sockets: Sequence[str] = ()) -> None:
        self.collector: Collector
        self.collector, endpoint = stack.enter_context(collecting())
        servers = stack.enter_context(one_machine.embedded_broker(embedded_zones()))
        data = DataDir(directory / "data")
        self.fleet = stack.enter_context(
            Fleet(data, servers, log_id="this-run", fetch_wait_ms=2, otlp_endpoint=endpoint)
        )
        if sockets:
            node: Any = dict(yaml_files.read_mapping(data.config("node")))
            node["features"]["respond"]["response_actions"]["docker"] = {"socket_path": list(sockets)}
            yaml_files.write(data.config("node"), node)
        self.fleet.up()
        self.person = stack.enter_context(self.fleet.http_client())
        self.wire = stack.enter_context(Wire(servers, TOPICS, fetch_wait_ms=2))

    def gather(self, action: str, **parameters: str) -> tuple[dict[str, Any], httpx.Response]:
        """Ask, wait for the end, download; what was said and what came."""
        asked = {"host.id": self.fleet.node_id, **{name.replace("_", "."): v for name, v in parameters.items()}}
        answer = self.person.post(API, json={"actionType": action, "parameters": asked})
        assert answer.status_code == 201, answer.text
        deadline = time.monotonic() + WAIT_S
        while True:
            reported: dict[str, Any] = self.person.get(f"{API}/{answer.json()['id']}").json()
            if reported["status"] in ("COMPLETED", "FAILED"):
                break
            assert time.monotonic() < deadline, reported
            time.sleep(0.05)
        assert reported["status"] == "COMPLETED", reported
        file = self.person.get(f"{API}/{reported['id']}/acquired-file")
        assert file.status_code == 200, file.text
        assert (
            hashlib.sha256(file.content).hexdigest()
            == reported["outputs"]["sha256"]
            == file.headers["x-checksum-sha256"]
        )
        assert str(len(file.content)) == reported["outputs"]["size"]
        return reported, file

    def places_of(self, text: str) -> set[str]:
        """Where a text can be read: files below the data directory, topics, what was exported, what is served."""
        wanted = text.encode()
        until(lambda: self.collector.bodies)
        self.wire.read_to_the_end()
        served = [self.person.get(path).content for path in (f"{API}?limit=200", "/api/v1/audit", "/api/v1/executions")]
        root = self.fleet.data.root
        found = {
            str(each.relative_to(root)) for each in root.rglob("*") if each.is_file() and wanted in each.read_bytes()
        }
        for topic in TOPICS:
            for record in self.wire.records(topic):
                if (
                    wanted in record.value
                    or wanted in record.key
                    or any(wanted in value for _, value in record.headers)
                ):
                    found.add(f"topic {topic}")
        if any(wanted in body for body in self.collector.bodies):
            found.add("exports")
        return found | ({"served"} if any(wanted in body for body in served) else set())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.fault("secrets")
def test_a_snapshot_tells_of_a_process_and_gives_no_secret_of_it_away(tmp_path: Path, stack: ExitStack) -> None:
    site = Site(tmp_path, stack)
    secret = tmp_path / f"x?token={CANARY}"
    secret.write_bytes(b"")
    code = "import sys, time; kept = open(sys.argv[2]); print(flush=True); time.sleep(1000)"
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", code, f"--password={CANARY}", str(secret), MARKER],
            stdout=subprocess.PIPE,
            env={"HOME": f"/{MARKER}", "DB_PASSWORD": CANARY, "ODD": CANARY, "PATH": f"/x?secret={CANARY}"},
        )
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    process.stdout.readline()
    assert CANARY.encode() in Path(f"/proc/{process.pid}/environ").read_bytes()

    reported, file = site.gather("SNAPSHOT_PROCESS", process_id=str(process.pid), startTime="-1")

    assert file.headers["content-disposition"] == f'attachment; filename="{reported["id"]}.json"'
    document = json.loads(file.content)
    assert document["process"]["pid"] == process.pid
    assert {"name": "HOME", "value": f"/{MARKER}"} in document["environment"]["items"]
    assert {"name": "DB_PASSWORD", "value": None} in document["environment"]["items"]
    assert site.places_of(CANARY) == set()
    seen = site.places_of(MARKER)
    assert {f"objects/{reported['outputs']['object_key']}", "topic response.results", "served"} <= seen, seen
    assert any("journal" in place for place in seen), seen
    assert any("history" in place for place in seen), seen
    assert process.poll() is None, "nothing was done to it"
    site.fleet.stop(*ROLES)  # what was not exported yet is exported now
    assert not [body for body in site.collector.bodies if CANARY.encode() in body]
    assert not [
        each for each in site.fleet.data.root.rglob("*") if each.is_file() and CANARY.encode() in each.read_bytes()
    ]
    site.fleet.no_traceback()


def test_a_containers_log_is_in_its_object_and_nowhere_else(
    tmp_path: Path, stack: ExitStack, docker_engine: DockerRig
) -> None:
    stack.callback(docker_engine.clear)
    site = Site(tmp_path, stack, [str(docker_engine.socket)])
    container_id = docker_engine.run(command=("sh", "-c", f"echo {CANARY}; sleep 1000"), name=MARKER)
    with docker_engine.client() as client:
        until(lambda: CANARY.encode() in client.logs(container_id))

    reported, file = site.gather("GET_LOGS", container_id=container_id[:12], tail="100")

    assert file.headers["content-disposition"] == f'attachment; filename="{reported["id"]}.log"'
    assert re.fullmatch(rb"\S+ stdout F " + CANARY.encode() + rb"\n", file.content)
    assert reported["outputs"]["truncated"] is False
    assert site.places_of(CANARY) == {f"objects/{reported['outputs']['object_key']}"}
    assert "topic response.results" in site.places_of(MARKER)
    site.fleet.no_traceback()
