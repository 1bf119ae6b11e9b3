"""resume_process: SIGCONT to the process that a suspension stopped.

Run by the node worker as the undo of ``suspend_process`` and in no other way: which process, by what no process can
change, stands in this node's own journal, so that no later holder of its pid is ever touched. A process that this node
did not stop is not its to let go on, and who stopped it may have had a reason; a person with root has SIGCONT.
"""

import signal
from typing import Final

from workers.actions.base import Done, Job, NoParameters, NotDone, Probe
from workers.actions.base.process import ProcessAction, called, reopen
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.targets.halting import none_stopped
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess

FAILPOINTS: Final = ("resume_process.signalled",)
"""Right after the kernel took the signal."""

WAIT_S: Final = 1.0
"""How long a process may take to leave its stop: waking a thread takes microseconds, unless somebody stops it anew."""


class ResumeProcess(ProcessAction[NoParameters]):
    """Resumes one process."""

    name = "resume_process"
    summary = "Let a suspended process go on where it stood"
    drawbacks = (
        "What made it dangerous goes on with it.",
        "Connections that timed out meanwhile stay broken.",
    )
    parameters = NoParameters
    undo_only = True
    wanted = "process_not_stopped"

    def admit(self, job: Job[NoParameters], host: Host) -> None:
        """Only as an undo."""
        if not job.command.undo_of:
            raise CommandRejected("resume_process runs only as an undo", code="undo_only")

    def bind(self, job: Job[NoParameters], host: Host) -> Values:
        """The process that was suspended, if it is still there."""
        if "start_ticks" not in job.undoes:
            raise CommandRejected("this node's journal knows no process to let go on", code="nothing_to_revert")
        if job.undoes.get("stopped_before"):
            why = f"{called(job.undoes)} had been stopped by somebody else before: theirs to let go on"
            raise CommandRejected(why, code="nothing_to_revert")
        handle = reopen(job.undoes, host)
        if handle is None:
            raise CommandRejected(f"{called(job.undoes)} has ended since", code="nothing_to_revert")
        handle.close()
        return dict(job.undoes)

    def execute(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """Take hold of it again, let it go on, and look whether it does."""
        handle = reopen(claim, host)
        if handle is None:
            return self._ended(claim)
        try:
            return self._go_on(claim, host, handle)
        finally:
            handle.close()

    def probe(self, job: Job[NoParameters], claim: Values, host: Host) -> Probe:
        """Going on is done, stopped is not done, and one that has ended stays so."""
        handle = reopen(claim, host)
        if handle is None:
            return Done(self._ended(claim))
        try:
            threads = handle.threads()
        finally:
            handle.close()
        if threads is None:
            return Done(self._ended(claim))
        return Done(self._resumed(claim, cause="unproven")) if none_stopped(threads) else NotDone()

    def dry_run_report(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """What would go on."""
        message = f"{called(claim)} would go on; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def _go_on(self, claim: Values, host: Host, handle: HeldProcess) -> Report:
        threads = handle.threads()
        if threads is None:
            return self._ended(claim)
        if none_stopped(threads):
            return self.nothing(claim, "not_suspended", f"{called(claim)}: it is not stopped", "it is not stopped")
        if not handle.signal(signal.SIGCONT):
            return self._ended(claim)
        host.failpoints.reach("resume_process.signalled")
        threads = handle.wait_threads(none_stopped, WAIT_S)
        if threads is None:
            return self._ended(claim)
        if not none_stopped(threads):
            raise TransientFailure(
                f"SIGCONT was sent to {called(claim)}, and it is stopped again: somebody stops it", code="stopped_again"
            )
        return self._resumed(claim)

    def _resumed(self, claim: Values, *, cause: str = "action") -> Report:
        detail = "none of it is stopped"
        return self.report(
            Outcome.COMPLETED,
            "resumed",
            f"{called(claim)} goes on: {detail}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.wanted, holds=True, detail=detail),
            cause=cause,
        )

    def _ended(self, claim: Values) -> Report:
        return self.nothing(claim, "target_gone", f"{called(claim)} has ended meanwhile", "it has ended")
