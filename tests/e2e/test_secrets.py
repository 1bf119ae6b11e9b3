"""Nothing that a full run wrote holds a secret: tokens, private keys, the object store's secret, passwords.

All five workers, every kind of request, refusals and failures; afterwards logs, exports, stores, vault, topics and
answers are searched for each secret in the forms that it could be written in. In `make faults` debug logs too.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.conftest import NewClient
from tests.e2e.fleet import Fleet, embedded_zones
from tests.e2e.test_evidence import TOPICS
from tests.e2e.test_trace import Collector, collecting
from tests.e2e.wire import Wire
from tests.engines import until
from tests.kafka.cluster import free_ports
from workers.cli.up.data_dir import ROLES, DataDir
from workers.system import yaml_files
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MARKER: Final = "m4rk3r-of-this-run"
"""What is no secret: it must be found, or the search finds nothing at all."""


class Run:
    """One fleet, its secrets, and what it wrote."""

    def __init__(self, directory: Path, stack: ExitStack, level: str) -> None:
        self.collector: Collector
        self.collector, endpoint = stack.enter_context(collecting())
        self.servers = stack.enter_context(one_machine.embedded_broker(embedded_zones()))
        data = DataDir(directory / "data")
        self.fleet = stack.enter_context(
            Fleet(data, self.servers, log_id="this-run", fetch_wait_ms=2, otlp_endpoint=endpoint)
        )
        self.access_secret = f"s3-{secrets.token_urlsafe(24)}"
        self.password = f"pw-{secrets.token_urlsafe(24)}"
        secret_file = directory / "s3.secret"
        secret_file.write_text(self.access_secret)
        secret_file.chmod(0o600)
        (port,) = free_ports("127.0.0.1", 1)
        for role in ROLES:
            settings: Any = dict(yaml_files.read_mapping(data.config(role)))
            settings["telemetry"] |= {"log_level": level}
            if role == "node":
                s3 = {"endpoint": f"http://127.0.0.1:{port}", "bucket": "evidence", "access_key": "AKIDOFTHISRUN"}
                settings["storage"] = {"s3": s3 | {"secret_key_file": str(secret_file), "insecure_dev": True}}
            yaml_files.write(data.config(role), settings)
        self.fleet.up()

    def secrets(self) -> dict[str, list[bytes]]:
        """Each secret in every form that it could be written in."""
        found = {
            "admin token": self.fleet.start_words.token.encode(),
            "S3 secret": self.access_secret.encode(),
            "password of a request": self.password.encode(),
        }
        forms = {name: [value, base64.b64encode(value).rstrip(b"=")[:-1]] for name, value in found.items()}
        for path in self.fleet.data.keys.glob("*.key"):
            pem = path.read_text()
            body = re.sub(r"-----[^-]+-----|\s", "", pem)
            raw = base64.b64decode(body)[-32:]
            assert body[-40:] in pem
            forms[path.name] = [body[-40:].encode(), raw, raw.hex().encode(), base64.b64encode(raw)[:-2]]
        return forms

    def written(self, answers: list[bytes]) -> Iterator[tuple[str, bytes]]:
        """Everything that the run wrote, except where a secret belongs: keys, settings and the operator's context."""
        root = self.fleet.data.root
        own = {self.fleet.data.context, *(self.fleet.data.config(role) for role in ROLES)}
        for path in root.rglob("*"):
            if path.is_file() and path not in own and not path.is_relative_to(self.fleet.data.keys):
                yield str(path.relative_to(root)), path.read_bytes()
        with Wire(self.servers, TOPICS, fetch_wait_ms=2) as wire:
            wire.read_to_the_end()
            for topic in TOPICS:
                for record in wire.records(topic):
                    yield topic, b"\0".join([record.key, record.value, *(value for _, value in record.headers)])
        yield from (("exports", body) for body in self.collector.bodies)
        yield from (("answers", body) for body in answers)


@pytest.mark.fault("secrets")
@pytest.mark.parametrize("level", ["info", pytest.param("debug", marks=pytest.mark.faults)])
def test_a_full_run_writes_no_secret_anywhere(tmp_path: Path, new_client: NewClient, level: str) -> None:
    with ExitStack() as stack:
        run = Run(tmp_path, stack, level)
        fleet, client = run.fleet, new_client(run.fleet)
        for ask in (client.kill, client.detected, client.dry_run_report, client.protected, client.quarantine):
            ask()
        client.settled()
        answers = _requests_that_fail(run)
        until(lambda: run.collector.bodies)
        fleet.stop(*reversed(ROLES))
        looked, size, marked = 0, 0, set()
        found = set()
        forms = run.secrets()
        for where, content in run.written(answers):
            looked, size = looked + 1, size + len(content)
            if MARKER.encode() in content:
                marked.add(where)
            found |= {(name, where) for name, each in forms.items() if any(form in content for form in each)}
        print(f"\n{level}: {len(forms)} secrets looked for in {looked} files, records and answers of {size >> 10} KiB")
        assert marked, "the search finds what is there"
        assert found == set()
        fleet.no_traceback()


def _requests_that_fail(run: Run) -> list[bytes]:
    """What a caller gets wrong, and what fails at the object store; the answers."""
    fleet, answers = run.fleet, []
    evidence = fleet.data.root.parent / MARKER
    evidence.write_text("evidence")
    body = {"action": "file_acquire", "host": fleet.node_id, "target": {"file": {"path": str(evidence)}}}
    with fleet.http_client() as http:
        accepted = http.post("/api/v1/executions", json=body | {"reason": MARKER, "ttl_s": 5})
        assert accepted.is_success, accepted.text
        wrong_bodies: list[Any] = [
            {"actoin": run.password},
            {"action": 1, "parameters": {"password": run.password}},
            [],
        ]
        answers += [http.post("/api/v1/executions", json=wrong).content for wrong in wrong_bodies]
        execution = accepted.json()["id"]

        def ended() -> bool:
            return bool(http.get(f"/api/v1/executions/{execution}").json().get("outcome"))

        until(ended)
        paths = ("/api/v1/executions", "/api/v1/audit", "/api/v1/nodes", f"/api/v1/executions/{execution}")
        answers += [http.get(path).content for path in paths]
    token = fleet.start_words.token
    url = f"{fleet.start_words.url}/api/v1/nodes?token={token}&password={run.password}"
    headers = [
        {"Authorization": each} for each in (f"Bearer {run.password}", f"Basic {run.password}", f"Bearer {token}x")
    ]
    answers += [httpx.get(url, headers=each).content for each in headers]
    return answers
