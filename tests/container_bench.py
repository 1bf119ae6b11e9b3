"""What unit tests of the actions on containers share: scripted runtimes, and commands for what is in them."""

from __future__ import annotations

from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainer, FakeContainers
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.processes import FakeProcesses
from workers.actions.base import AnyAction, Effect, Job
from workers.actions.base.container import ContainerClaim
from workers.actions.pause_container import PauseContainer
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.ids import NO_EXECUTION, EventId, ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Report
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.target import ContainerTarget, Target
from workers.host.ports import Host

SECOND = 1_000_000_000


class World:
    """One action, and a host whose containers have all run for ten seconds when they are observed."""

    def __init__(self, action: AnyAction) -> None:
        self.action = action
        self.clock = FakeClock()
        self.processes = FakeProcesses(self.clock)
        self.containers = FakeContainers(self.clock)
        self.failpoints = FakeFailpoints()
        self.host = Host(self.processes, self.clock, self.failpoints, containers=self.containers)
        self.bare = Host(self.processes, self.clock, self.failpoints)

    def container(self, **facts: Any) -> FakeContainer:
        """One that has run for ten seconds."""
        made = self.containers.spawn(**facts)
        self.clock.advance(10)
        return made

    def target(self, container: FakeContainer) -> ContainerTarget:
        """What an event that happens now names."""
        return ContainerTarget(container.facts.ref.id[:12], self.clock.now_ns())

    def job(self, target: Target, *, undoes: Effect[Any] | None = None, **parameters: Any) -> Job[Any]:
        """A rule's command."""
        now = self.clock.now_ns()
        command = ActionCommand(
            command_id=ExecutionId("0199e0f7-0000-7000-8000-000000000001"),
            node_id=NodeId("0" * 32),
            node_key=KeyId("1" * 32),
            incarnation=Incarnation("i"),
            action=self.action.name,
            target=target,
            parameters=parameters,
            parameters_sha256=parameters_digest(parameters),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300 * SECOND,
            timeout_s=60,
            actor=Actor(ActorKind.RULE, "Terminal shell in container"),
            undo_of=ExecutionId("0199e0f7-0000-7000-8000-000000000002") if self.action.undo_only else NO_EXECUTION,
            causation=Causation(event_id=EventId("event-1")),
        )
        return Job(command, self.action.parse(parameters), deadline_ns=now + 60 * SECOND, undoes=undoes)

    def bind(self, container: FakeContainer, **parameters: Any) -> tuple[Job[Any], Any]:
        """Admitted and bound."""
        job = self.job(self.target(container), **parameters)
        self.action.admit(job, self.host)
        return job, self.action.bind(job, self.host)

    def run(self, container: FakeContainer, **parameters: Any) -> Report:
        """From the command to the report."""
        job, claim = self.bind(container, **parameters)
        return self.action.execute(job, claim, self.host)


def code_of(report: Report) -> str:
    """The reason in a report's code."""
    return report.code.partition("_error_")[2] or report.code.partition("_success_")[2]


def effect_of(report: Report) -> Effect[ContainerClaim]:
    """What the journal knows of an effect: the outputs of an action on a container hold its claim."""
    return Effect(PauseContainer.claim_of(report.outputs), report.outputs)
