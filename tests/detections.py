"""Detections of real processes, as a detector would send them, and actions run on them.

Used by the integration tests, guarantees and measurements of the actions on processes: the only identity that reaches
the action is what stands in the Falco JSON.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from workers.actions.base import AnyAction, Effect, Job, Probe
from workers.actions.kill_process import KillProcess
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.falco.alert import event_from
from workers.domain.ids import NO_EXECUTION, EventId, ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Report, Values
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.target import ProcessTarget
from workers.host.ports import Host
from workers.host.processes.system import SystemProcesses
from workers.system.clock import SystemClock
from workers.system.failpoints import NoFailpoints
from workers.wire.event_reader import decoded


def falco_json(pid: int, *, start_ns: int | None = None, parent_pid: int | None = None) -> bytes:
    """An alert about a process, now; ``start_ns`` is what the detector prints as proc.pid.ts."""
    now = time.time_ns()
    fields: dict[str, object] = {"proc.pid": pid, "proc.exepath": "/tmp/xmrig", "proc.name": "xmrig"}
    if start_ns is not None:
        fields["proc.pid.ts"] = start_ns
    if parent_pid is not None:
        fields["proc.ppid"] = parent_pid
    seconds = datetime.fromtimestamp(now // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return json.dumps(
        {
            "output": "A miner runs",
            "priority": "Critical",
            "rule": "Detect crypto miners",
            "source": "syscall",
            "time": f"{seconds}.{now % 1_000_000_000:09d}Z",
            "output_fields": fields,
        }
    ).encode()


def target_in(alert: bytes) -> ProcessTarget:
    """All that the action will know."""
    event = event_from(decoded(alert))
    return ProcessTarget(line=event.process_line, observed_at_ns=event.occurred_at_ns)


def this_machine(*, fine_start: bool = True) -> Host:
    """The real one."""
    return Host(processes=SystemProcesses(fine_start=fine_start), clock=SystemClock(), failpoints=NoFailpoints())


@dataclass(slots=True)
class Order:
    """One run of one action in its steps, as a rule orders it."""

    host: Host
    target: ProcessTarget
    ancestor: int = 0
    within_s: float = 10.0
    claim: Any = field(default_factory=dict)
    action: AnyAction = field(default_factory=KillProcess)
    more: Values = field(default_factory=dict)
    """Further parameters."""
    undoes: Effect[Any] | None = None
    """For an undo."""

    def job(self) -> Job[Any]:
        """The verified command."""
        now = time.time_ns()
        parameters: Values = {} if self.undoes else {"ancestor": self.ancestor, **self.more}
        command = ActionCommand(
            command_id=ExecutionId("0199e0f7-0000-7000-8000-000000000001"),
            node_id=NodeId("0" * 32),
            node_key=KeyId("1" * 32),
            incarnation=Incarnation("0d9c1f6e-7d0f-4a7c-9c53-2f2f4f3b1a10"),
            action=self.action.name,
            target=self.target,
            parameters=parameters,
            parameters_sha256=parameters_digest(parameters),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300_000_000_000,
            timeout_s=60,
            actor=Actor(ActorKind.RULE, "Detect crypto miners"),
            undo_of=ExecutionId("0199e0f7-0000-7000-8000-000000000002") if self.undoes else NO_EXECUTION,
            causation=Causation(event_id=EventId("event-1")),
        )
        deadline_ns = now + round(self.within_s * 1e9)
        return Job(command, self.action.parse(parameters), deadline_ns=deadline_ns, undoes=self.undoes)

    def bind(self) -> Any:
        """Admit and bind, as the node does before its claim."""
        job = self.job()
        self.action.admit(job, self.host)
        self.claim = self.action.bind(job, self.host)
        return self.claim

    def execute(self) -> Report:
        """Act on what was bound."""
        return self.action.execute(self.job(), self.claim, self.host)

    def run(self) -> Report:
        """Bind and execute."""
        self.bind()
        return self.execute()

    def probe(self) -> Probe:
        """Look whether the effect is there."""
        return self.action.probe(self.job(), self.claim, self.host)


Kill = Order
"""An order that names no other action."""
