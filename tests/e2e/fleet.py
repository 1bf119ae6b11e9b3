"""The five workers as processes of their own on any broker: started, killed at a named place, started again.

Used by the tests of this directory. Settings come from `DataDir.write`, as `douse up` writes them; the broker is the
caller's. It must never be asked what happened: `client.py` and `wire.py` find that out for themselves.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.e2e.wire import Wire
from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.cluster import KafkaCluster, free_ports
from workers.cli.demo.detection import RESPONSE
from workers.cli.up.data_dir import COMMAND_PARTITIONS, ROLES, DataDir, Start
from workers.domain.ids import NodeId
from workers.domain.log.routing import command_topic
from workers.log.admin import TopicAdmin
from workers.log.topic_catalogue import load_topics
from workers.settings import KafkaSecurity, KafkaSettings
from workers.system import yaml_files
from workers.system.clock import SystemClock
from workers.system.failpoints import KILLED, VARIABLE
from workers.wiring import one_machine

DROPPED = "Something dropped a file"
RULES = {
    "rules": [
        *RESPONSE["rules"],
        {
            "name": "quarantine-what-was-dropped",
            "match": {"rules": [DROPPED]},
            "steps": [{"action": "file_quarantine"}],
            "reason": "a test's own file",
        },
    ]
}
"""What detectors report is answered with: a process is killed, a file goes into the vault."""

READY_S = 60.0
"""For what takes a few seconds on an idle machine."""

ZONE = "default"
COMMANDS = command_topic(ZONE)


@dataclass(slots=True)
class Fleet:
    """One data directory, five workers, one broker. Use as a context manager."""

    data: DataDir
    bootstrap_servers: str
    log_id: str = ""
    """Empty where the broker names its logs itself: a real Kafka."""
    fetch_wait_ms: int = 500
    otlp_endpoint: str = ""
    unsigned_events: bool = False
    prefixes: dict[str, Sequence[str]] = field(default_factory=dict)
    """What to put before a role's command line, such as a network namespace."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _start: Start | None = None

    def __enter__(self) -> Self:
        self._stack.enter_context(self.data.locked())
        node_id = one_machine.one_machine_keys(self.data.keys)
        (port,) = free_ports("127.0.0.1", 1)
        token = secrets.token_urlsafe(16)
        self._start = Start(self.bootstrap_servers, self.log_id, node_id, port, token, self.unsigned_events)
        yaml_files.write(self.data.rules, RULES)
        self.configure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        self._stack.close()

    @property
    def start_words(self) -> Start:
        """What the settings were made of."""
        assert self._start is not None
        return self._start

    @property
    def node_id(self) -> NodeId:
        """The one node."""
        return NodeId(self.start_words.node_id)

    @property
    def vault(self) -> Path:
        """Where the node keeps what it took away."""
        return self.data.root / "node" / "quarantine"

    @property
    def kafka(self) -> KafkaSettings:
        """How the workers reach the broker."""
        return KafkaSettings(
            bootstrap_servers=self.bootstrap_servers,
            security=KafkaSecurity(protocol="PLAINTEXT"),
            insecure_dev=True,
            fetch_wait_ms=self.fetch_wait_ms,
            log_id=self.log_id,
        )

    def configure(self) -> None:
        """Write every worker's settings for the broker as it is now."""
        self.data.write(replace(self.start_words, bootstrap_servers=self.bootstrap_servers, log_id=self.log_id))
        for role in ROLES:
            settings = dict(yaml_files.read_mapping(self.data.config(role)))
            settings["kafka"] = dict(settings["kafka"]) | {"fetch_wait_ms": self.fetch_wait_ms}
            if role == "responder":
                settings["member"] = "the-only-one"
            settings["telemetry"] = {"otlp_endpoint": self.otlp_endpoint, "log_level": "info"}
            yaml_files.write(self.data.config(role), settings)

    def http_client(self) -> httpx.Client:
        """A person with the admin's token."""
        headers = {"Authorization": f"Bearer {self.start_words.token}"}
        return httpx.Client(base_url=self.start_words.url, headers=headers, timeout=30.0)

    def wire(self) -> Wire:
        """Somebody who reads every topic from outside."""
        return Wire(self.bootstrap_servers, fetch_wait_ms=self.fetch_wait_ms)

    def up(self, roles: Sequence[str] = ROLES) -> Self:
        """Start workers, and wait until the node's heartbeat is in history."""
        for role in roles:
            self.spawn(role)
        self.await_ready()
        return self

    def await_ready(self, within_s: float = READY_S) -> None:
        """Until the gateway knows the node."""
        deadline = time.monotonic() + within_s
        with self.http_client() as client:
            while not self._answers(client):
                assert time.monotonic() < deadline, f"not ready within {within_s} s\n{self.log_tails()}"
                time.sleep(0.05)

    def spawn(self, role: str, failpoints: str = "") -> float:
        """Start one worker; the monotonic moment it was started. `node-x` is a node more, with settings of its own."""
        assert role not in self.running or self.running[role].poll() is not None, f"{role} runs already"
        command = [*self.prefixes.get(role, ()), sys.executable, "-m", "workers", role.partition("-")[0]]
        with self.data.log(role).open("ab") as log:
            self.running[role] = subprocess.Popen(
                [*command, "--config", str(self.data.config(role))],
                env={**os.environ, VARIABLE: failpoints},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return time.monotonic()

    def kill(self, role: str) -> None:
        """SIGKILL, and gone."""
        self.running[role].kill()
        self.running[role].wait()

    def freeze(self, role: str, seconds: float) -> None:
        """SIGSTOP for a while."""
        self.running[role].send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.running[role].send_signal(signal.SIGCONT)

    def stop(self, *roles: str) -> None:
        """SIGTERM; each must end well."""
        for role in roles:
            self.running[role].send_signal(signal.SIGTERM)
        for role in roles:
            status = self.running[role].wait(timeout=READY_S)
            assert status == 0, f"{role} ended with {status}\n{self.log_tails(role)}"

    def died_at_failpoint(self, role: str) -> bool:
        """Whether an armed worker has reached its place; it must not have ended in any other way."""
        status = self.running[role].poll()
        assert status in (None, KILLED), f"{role} ended with {status}\n{self.log_tails(role)}"
        return status == KILLED

    def all_alive(self) -> None:
        """Every worker runs."""
        ended = {role: process.returncode for role, process in self.running.items() if process.poll() is not None}
        assert not ended, f"ended by itself: {ended}\n{self.log_tails(*ended)}"

    def log_tails(self, *roles: str) -> str:
        """The end of the workers' logs; of every worker that ever ran where no role is named."""
        texts = []
        for role in roles or sorted(path.stem for path in self.data.log("any").parent.glob("*.log")):
            path = self.data.log(role)
            lines = path.read_text(errors="backslashreplace").splitlines()[-8:] if path.exists() else []
            texts += [f"--- {role}", *(line[:600] for line in lines)]
        return "\n".join(texts)

    def no_traceback(self) -> None:
        """No worker ever printed one."""
        for path in self.data.log("any").parent.glob("*.log"):
            text = path.read_text(errors="backslashreplace")
            assert "Traceback" not in text, f"{path.stem}:\n{text[text.index('Traceback') :][:3000]}"

    def _answers(self, client: httpx.Client) -> bool:
        self.all_alive()
        try:
            return client.get(f"/api/v1/nodes/{self.node_id}").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def fleet_on(cluster: KafkaCluster, root: Path, *, partitions: int = 0, **more: Any) -> Fleet:
    """A fleet for a real Kafka, whose topics it makes from the catalogue; `partitions` is the most of any but the
    commands' topic (fewer are quicker to make and to move)."""
    fleet = Fleet(DataDir(root), cluster.bootstrap_servers, **more)
    make_topics(fleet.kafka, replication=len(cluster.nodes), partitions=partitions)
    return fleet


def make_topics(kafka: KafkaSettings, *, replication: int = 1, partitions: int = 0) -> None:
    """The catalogue, made by our own admin adapter."""
    specs = load_topics()
    if partitions:
        specs = tuple(
            spec if "commands" in spec.name else replace(spec, partitions=min(spec.partitions, partitions))
            for spec in specs
        )
    admin = TopicAdmin(kafka, telemetry=FakeTelemetry(), clock=SystemClock(), replication=replication)
    admin.create(specs, zones=[ZONE])


def embedded_zones() -> Mapping[str, int]:
    """The zones of the embedded broker."""
    return {ZONE: COMMAND_PARTITIONS}
