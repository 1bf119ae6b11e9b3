"""What unit tests of the actions on networks share: a host with a container, and commands about their networks."""

from __future__ import annotations

from typing import Any

from tests.container_bench import SECOND
from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainer, FakeContainers
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.network import FakeNamespace, FakeNetwork
from tests.fakes.processes import FakeProcesses
from workers.actions.base import AnyAction, Effect, Job
from workers.actions.isolate_network import IsolateClaim, IsolateNetwork, ReleaseNetwork
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.ids import NO_EXECUTION, EventId, ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Report
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.target import NetworkTarget, Target
from workers.host.ports import Host

FORWARD = ExecutionId("0199e0f7-0000-7000-8000-000000000001")
UNDO = ExecutionId("0199e0f7-0000-7000-8000-000000000002")
OTHER = ExecutionId("0199e0f7-0000-7000-8000-000000000003")

ISOLATE = IsolateNetwork()
RELEASE = ReleaseNetwork()


class World:
    """A host that has been up for a while, and one container on it that has run for ten seconds."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.processes = FakeProcesses(self.clock)
        self.containers = FakeContainers(self.clock)
        self.network = FakeNetwork()
        self.failpoints = FakeFailpoints()
        self.host = Host(self.processes, self.clock, self.failpoints, containers=self.containers, network=self.network)
        self.bare = Host(self.processes, self.clock, self.failpoints)
        self.container: FakeContainer = self.containers.spawn()
        self.space = self.settle()
        self.clock.advance(10)

    def settle(self) -> FakeNamespace:
        """The container's present run gets a network of its own."""
        pid = self.container.facts.pid
        self.space = self.network.by_pid[pid] = FakeNamespace(1000 + pid)
        return self.space

    @property
    def of_host(self) -> NetworkTarget:
        """This host's network, observed now."""
        return NetworkTarget(self.clock.now_ns())

    @property
    def of_container(self) -> NetworkTarget:
        """The container's network, observed now."""
        return NetworkTarget(self.clock.now_ns(), self.container.facts.ref.id[:12])

    def job(self, action: AnyAction, target: Target | None, *, undoes: Effect[Any] | None = None) -> Job[Any]:
        """A rule's command."""
        now = self.clock.now_ns()
        command = ActionCommand(
            command_id=UNDO if action.undo_only else FORWARD,
            node_id=NodeId("0" * 32),
            node_key=KeyId("1" * 32),
            incarnation=Incarnation("i"),
            action=action.name,
            target=target,
            parameters={},
            parameters_sha256=parameters_digest({}),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300 * SECOND,
            timeout_s=60,
            actor=Actor(ActorKind.RULE, "Terminal shell in container"),
            undo_of=FORWARD if action.undo_only else NO_EXECUTION,
            causation=Causation(event_id=EventId("event-1")),
        )
        return Job(command, action.parse({}), deadline_ns=now + 60 * SECOND, undoes=undoes)

    def bind(self, target: Target) -> tuple[Job[Any], Any]:
        """An isolation, admitted and bound."""
        job = self.job(ISOLATE, target)
        ISOLATE.admit(job, self.host)
        return job, ISOLATE.bind(job, self.host)

    def isolate(self, target: Target) -> Report:
        """From the command to the report."""
        job, claim = self.bind(target)
        return ISOLATE.execute(job, claim, self.host)

    def isolated(self, target: Target) -> Effect[IsolateClaim]:
        """What the journal would know of an isolation that is in place."""
        job, claim = self.bind(target)
        return Effect(claim, ISOLATE.execute(job, claim, self.host).outputs)

    def bind_release(self, undoes: Effect[Any] | None) -> tuple[Job[Any], Any]:
        """Its undo, admitted and bound."""
        job = self.job(RELEASE, None, undoes=undoes)
        RELEASE.admit(job, self.host)
        return job, RELEASE.bind(job, self.host)

    def release(self, undoes: Effect[Any]) -> Report:
        """From the undo to the report."""
        job, claim = self.bind_release(undoes)
        return RELEASE.execute(job, claim, self.host)
