"""The watch: notices a run that does not come back, and an outcome that stays unknown too long.

Told by ``attempts`` what runs; stepped by the loop. A thread cannot be ended from outside, so an overdue run is never
repeated or probed under its feet: the execution is told UNKNOWN, later an alarm is raised, and it ends when the run
returns or, after a restart, by probe.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from workers.domain.command import ActionCommand
from workers.domain.errors import JournalAway
from workers.domain.ids import ExecutionId
from workers.domain.outcome import Outcome, Report, code
from workers.domain.result import UNSETTLED
from workers.domain.retry import settle_by_ns
from workers.node.services import Services
from workers.node.transitions import Transitions

GRACE_NS: Final = 2_000_000_000
"""What a run may take beyond its deadline to notice the deadline itself: two seconds, the granted heartbeat gap."""

ALARM: Final = UNSETTLED


@dataclass(slots=True)
class _Run:
    command: ActionCommand
    deadline_ns: int
    told: bool = False
    alarmed: bool = False


class DeadlineWatch:
    """Written by the lane threads, each its own key; read by one thread."""

    def __init__(self, services: Services, transitions: Transitions) -> None:
        """Shares the room's equipment."""
        self._services = services
        self._transitions = transitions
        self._runs: dict[ExecutionId, _Run] = {}

    @contextmanager
    def over(self, command: ActionCommand, deadline_ns: int) -> Iterator[None]:
        """While the block runs, it is watched."""
        self._runs[command.command_id] = _Run(command, deadline_ns)
        try:
            yield
        finally:
            del self._runs[command.command_id]

    @property
    def running(self) -> frozenset[ExecutionId]:
        """What is inside an action right now."""
        return frozenset(self._runs.copy())

    def step(self) -> None:
        """Tell of every run that is overdue; once each. A journal that is away is asked again at the next step."""
        now_ns = self._services.time.now_ns()
        for run in list(self._runs.copy().values()):
            try:
                if not run.told and now_ns > run.deadline_ns + GRACE_NS:
                    self._tell(run.command)
                    run.told = True
                if run.told and not run.alarmed and now_ns > settle_by_ns(run.command, run.command.timeout_s):
                    self.alarm(run.command)
                    run.alarmed = True
            except JournalAway:
                return

    def alarm(self, command: ActionCommand) -> None:
        """The outcome is unknown beyond its time: say so, and go on looking.

        Raises:
            JournalAway: not said yet.
        """
        with self._transitions.commit() as tx:
            entry = self._transitions.open(tx, command.command_id)
            if entry is not None:
                self._transitions.alarm(tx, entry, command, ALARM)

    def _tell(self, command: ActionCommand) -> None:
        with self._transitions.commit() as tx:
            entry = self._transitions.open(tx, command.command_id)
            if entry is not None:
                message = "the run has not come back in its time; it is not repeated, its effect will be looked for"
                overdue = Report(Outcome.UNKNOWN, code(command.action, Outcome.UNKNOWN, "overdue"), message)
                self._transitions.end(tx, entry, command, overdue)
