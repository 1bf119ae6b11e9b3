"""What tests of actions on real containers share: orders without a node or to one, a socket that never answers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from tests.fakes.failpoints import FakeFailpoints
from tests.integration.node_process import NodeSite
from workers.actions import by_name
from workers.actions.base import AnyAction, Effect, Job
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.ids import ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Report
from workers.domain.request import Actor, ActorKind
from workers.domain.target import ContainerTarget
from workers.host.containers.ports import Containers
from workers.host.ports import Host
from workers.host.processes.system import SystemProcesses
from workers.system.clock import SystemClock

SECOND = 1_000_000_000


class ActionRunner:
    """The node's side of some runtimes, without a node."""

    def __init__(self, containers: Containers) -> None:
        self.clock = SystemClock()
        self.containers = containers
        self.failpoints = FakeFailpoints()
        self.host = Host(SystemProcesses(), self.clock, self.failpoints, containers=self.containers)

    def job(
        self, name: str, container_id: str, *, undoes: Effect[Any] | None = None, seen_ns: int = 0, **parameters: Any
    ) -> Job[Any]:
        """A person's order of this moment, about what was seen now or then."""
        now = self.clock.now_ns()
        command = ActionCommand(
            command_id=ExecutionId("0199e0f7-0000-7000-8000-000000000001"),
            node_id=NodeId("0" * 32),
            node_key=KeyId("1" * 32),
            incarnation=Incarnation("i"),
            action=name,
            target=ContainerTarget(container_id, seen_ns or now),
            parameters=parameters,
            parameters_sha256=parameters_digest(parameters),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300 * SECOND,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "ada"),
            undo_of=ExecutionId("0199e0f7-0000-7000-8000-000000000002" if undoes else ""),
        )
        return Job(command, action(name).parse(parameters), now + 60 * SECOND, undoes)

    def bind(self, name: str, container_id: str, **more: Any) -> tuple[Job[Any], Any]:
        """Admitted and bound."""
        job = self.job(name, container_id, **more)
        action(name).admit(job, self.host)
        return job, action(name).bind(job, self.host)

    def run(self, name: str, container_id: str, **more: Any) -> Report:
        """From the order to the report."""
        job, claim = self.bind(name, container_id, **more)
        return action(name).execute(job, claim, self.host)


def action(name: str) -> AnyAction:
    found = by_name(name)
    assert found is not None
    return found


def order(site: NodeSite, name: str, container_id: str, **more: Any) -> ActionCommand:
    target = ContainerTarget(container_id, site.clock.now_ns())
    return site.kill(0, **{"action": name, "target": target, **more})


class DeafSocket:
    """Takes connections, and never answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Path:
        self._socket.bind(str(self.path))
        self._socket.listen()
        return self.path

    def __exit__(self, *_: object) -> None:
        self._socket.close()
