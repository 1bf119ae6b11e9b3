"""The deadline watch: notices a run that does not return, and an outcome that stays unknown too long.

``attempts`` registers what runs; the loop steps it. A thread cannot be ended from outside, so an overdue run is never
repeated or probed while it may still act: the execution becomes UNKNOWN, later an alarm is raised, and it ends when the
run returns or, after a restart, by probe.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from workers.actions.base import Job
from workers.domain.command import ActionCommand
from workers.domain.errors import JournalUnavailable
from workers.domain.ids import ExecutionId
from workers.domain.outcome import Outcome, Report, code
from workers.domain.pace import Pace
from workers.domain.result import UNSETTLED
from workers.domain.retry import settle_by_ns
from workers.node.gate import Gate
from workers.node.services import Services
from workers.node.transitions import Transitions

GRACE_NS: Final = 2_000_000_000
"""What a run may take beyond its deadline to notice the deadline itself: two seconds, the granted heartbeat gap."""

ALARM: Final = UNSETTLED


@dataclass(slots=True)
class _Run:
    command: ActionCommand
    pace: Pace
    reported: bool = False
    alarmed: bool = False


class DeadlineWatch:
    """Written by the lane threads, each its own key; read by one thread."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions) -> None:
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._runs: dict[ExecutionId, _Run] = {}

    @contextmanager
    def over(self, job: Job[Any]) -> Iterator[None]:
        """While the block runs, it is watched."""
        command, pace = job.command, job.pace or Pace(self._services.time.now_ns, job.deadline_ns)
        self._runs[command.command_id] = _Run(command, pace)
        try:
            yield
        finally:
            del self._runs[command.command_id]

    @property
    def running(self) -> frozenset[ExecutionId]:
        """What is inside an action right now."""
        return frozenset(self._runs.copy())

    def step(self) -> None:
        """Report every run that is overdue, once. What the journal did not take is tried again at the next step."""
        now_ns = self._services.time.now_ns()
        for run in list(self._runs.copy().values()):
            try:
                if not run.reported and run.pace.late_ns > GRACE_NS:
                    self._report_overdue(run.command)
                    run.reported = True
                if (
                    run.reported
                    and not run.alarmed
                    and now_ns > settle_by_ns(run.command, self._gate.timeout_s(run.command))
                ):
                    self.alarm(run.command)
                    run.alarmed = True
            except JournalUnavailable:
                return

    def alarm(self, command: ActionCommand) -> None:
        """The outcome is unknown beyond its time: raise the alarm once, and go on probing.

        Raises:
            JournalUnavailable: not raised yet.
        """
        with self._transitions.commit() as tx:
            entry = self._transitions.open(tx, command.command_id)
            if entry is not None:
                self._transitions.alarm(tx, entry, command, ALARM)

    def _report_overdue(self, command: ActionCommand) -> None:
        with self._transitions.commit() as tx:
            entry = self._transitions.open(tx, command.command_id)
            if entry is not None:
                message = "the run did not return in time; it is not repeated, its effect will be probed"
                overdue = Report(Outcome.UNKNOWN, code(command.action, Outcome.UNKNOWN, "overdue"), message)
                self._transitions.end(tx, entry, command, overdue, returned=False)
