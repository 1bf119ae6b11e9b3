"""What unit tests of the actions on processes share: a scripted process table, and commands for its processes."""

from __future__ import annotations

from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.processes import FakeProcess, FakeProcesses
from workers.actions.base import AnyAction, Effect, Job
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.event import ProcessRef
from workers.domain.ids import NO_EXECUTION, EventId, ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Report
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.target import ProcessTarget, Target
from workers.host.ports import Host

SECOND = 1_000_000_000
RULE = Actor(ActorKind.RULE, "Cryptominer")
PERSON = Actor(ActorKind.PERSON, "ada")


class World:
    """One action, and a host whose processes have all lived for ten seconds when they are observed."""

    def __init__(self, action: AnyAction) -> None:
        self.action = action
        self.clock = FakeClock()
        self.processes = FakeProcesses(self.clock)
        self.failpoints = FakeFailpoints()
        self.host = Host(processes=self.processes, clock=self.clock, failpoints=self.failpoints)

    def miner(self, **facts: Any) -> FakeProcess:
        """A process that has lived for ten seconds."""
        process = self.processes.spawn(**facts)
        self.clock.advance(10)
        return process

    def event(self, *pids: int, named_start_ns: int | None = None, boot_id: str = "") -> ProcessTarget:
        """What an event that happens now names."""
        return ProcessTarget(
            line=tuple(ProcessRef(pid, started_at_ns=named_start_ns) for pid in pids),
            observed_at_ns=self.clock.now_ns(),
            boot_id=boot_id,
        )

    def job(
        self,
        target: Target | None,
        *,
        actor: Actor = RULE,
        event: str = "event-1",
        undoes: Effect[Any] | None = None,
        **parameters: Any,
    ) -> Job[Any]:
        """A rule's command, or a person's."""
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
            actor=actor,
            undo_of=ExecutionId("0199e0f7-0000-7000-8000-000000000002") if self.action.undo_only else NO_EXECUTION,
            causation=Causation(event_id=EventId(event)),
        )
        return Job(command, self.action.parse(parameters), deadline_ns=now + 60 * SECOND, undoes=undoes)

    def bind(self, job: Job[Any]) -> Any:
        """Admitted and bound."""
        self.action.admit(job, self.host)
        return self.action.bind(job, self.host)

    def run(self, job: Job[Any]) -> Report:
        """From the command to the report."""
        return self.action.execute(job, self.bind(job), self.host)

    def observed(self, process: FakeProcess, **parameters: Any) -> Job[Any]:
        """A rule's command about a process that is observed now."""
        return self.job(self.event(process.facts.pid), **parameters)


def reason_of(report: Report) -> str:
    """The reason in a report's code."""
    return report.code.partition("_error_")[2] or report.code.partition("_success_")[2]
