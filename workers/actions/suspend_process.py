"""suspend_process and resume_process: SIGSTOP to exactly the process that the command names, and SIGCONT to undo it.

Run by the node worker in the containment lane. Memory, files and connections of the process stay as they are. Whatever
may signal the process can continue it: the node checks again and again, and reports when that happened. A process that
was stopped already is watched too, but an undo does not continue it. A resume takes its process from this node's own
journal, so that no later holder of the pid is ever touched. Must never signal a pid.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from workers.actions.base import Done, Effect, Job, NoParameters, NotDone, Probe
from workers.actions.base.claims import claim_with
from workers.actions.base.find_process import Found
from workers.actions.base.process import (
    AncestorParameters,
    EventProcessAction,
    GoneProcess,
    ProcessAction,
    ProcessClaim,
    claim_on_process,
)
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.targets.halting import Halt, ThreadFacts, all_stopped, halt_of, none_stopped
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess

PROMPT_S: Final = 0.05
"""A process that nothing holds up has stopped long before."""

ROUNDS: Final = 10
"""How often the signal is sent. A thread that executes another program just then makes the kernel forget a stop that it
had taken already, and a main thread that is held in a call keeps it from the others: so it is sent again, and to each
thread by itself. Half a second in all: a longer wait is left to the watch on effects."""

RESUME_WAIT_S: Final = 1.0
"""How long a process may take to leave its stop: waking a thread takes microseconds, unless it is stopped anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendClaim(ProcessClaim):
    """The claim on a process that is to be stopped, or was."""

    stopped_before: bool = False
    """It was stopped already."""


@dataclass(frozen=True, slots=True)
class _Observed:
    """The threads of the process, and whether any of them can run."""

    halt: Halt
    threads: Sequence[ThreadFacts]
    frozen: bool


class SuspendProcess(EventProcessAction[AncestorParameters, SuspendClaim]):
    """Suspends one process."""

    name = "suspend_process"
    summary = "Stop the event's process, or one of its ancestors, with SIGSTOP, and keep its memory"
    drawbacks = (
        "Programs and users that need the process wait for it, and may time out.",
        "Its children run on.",
        "Its own user, root and its tracer can continue it; that is reported, not prevented.",
        "Its parent is notified of the stop; a supervisor or a watchdog may kill it and start another.",
        "A process that was stopped already is only watched: an undo does not resume it.",
        "Seen within 20 ms of its start, it is left alone unless the detector prints that start (deploy/falco does).",
    )
    parameters = AncestorParameters
    claims = (SuspendClaim, GoneProcess)
    failpoints = ("suspend_process.signalled",)
    """Right after the kernel took the signal, before anything is known of its effect."""
    reversible_by = "resume_process"
    post_condition = "process_stopped"
    verb = "suspend"
    participle = "suspended"

    def claim_on(self, job: Job[AncestorParameters], found: Found, host: Host) -> SuspendClaim:
        """The process, and whether it is stopped already."""
        stopped = all_stopped(found.handle.threads() or ())
        return claim_with(SuspendClaim, claim_on_process(found), stopped_before=stopped)

    def execute(self, job: Job[AncestorParameters], claim: SuspendClaim | GoneProcess, host: Host) -> Report:
        """Hold the claimed process again, stop it, and check that all of it has stopped."""
        if isinstance(claim, GoneProcess):
            return self.gone(claim)
        if claim.stopped_before:
            return self._already(claim)
        handle = claim.hold(host)
        if handle is None:
            return self.gone(claim, _BY_ITSELF)
        try:
            return self._stop(claim, host, handle)
        finally:
            handle.close()

    def probe(self, job: Job[AncestorParameters], claim: SuspendClaim | GoneProcess, host: Host) -> Probe:
        """Stopped is done, running is not done, and one that has ended needs no stopping."""
        if isinstance(claim, GoneProcess):
            return Done(self.gone(claim))
        if claim.stopped_before:
            return Done(self._already(claim))
        now = _observe_claimed(claim, host)
        if now is None:
            return Done(self.gone(claim, "it has ended"))
        return NotDone() if now.halt is Halt.RUNNING else Done(self._suspended(claim, now, cause="unproven"))

    def dry_run_report(self, job: Job[AncestorParameters], claim: SuspendClaim | GoneProcess, host: Host) -> Report:
        """What would be stopped."""
        if isinstance(claim, SuspendClaim) and claim.stopped_before:
            message = f"would do nothing: {claim} is stopped already"
            return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))
        return super().dry_run_report(job, claim, host)

    def holds(self, claim: SuspendClaim | GoneProcess) -> str:
        """The process."""
        return "" if isinstance(claim, GoneProcess) else claim.key

    def lost(self, effect: Effect[SuspendClaim | GoneProcess], host: Host) -> str:
        """It was continued, or it has ended."""
        if isinstance(effect.claim, GoneProcess):
            return effect.claim.gone
        now = _observe_claimed(effect.claim, host)
        if now is None:
            return f"{effect.claim} has ended"
        running = [thread for thread in now.threads if thread.state not in "TtZ"]
        states = ", ".join(sorted({thread.state for thread in running}))
        return f"{effect.claim} was continued by another process (state {states})" if now.halt is Halt.RUNNING else ""

    def _stop(self, claim: SuspendClaim, host: Host, handle: HeldProcess) -> Report:
        if not handle.signal(signal.SIGSTOP):
            return self.gone(claim, _BY_ITSELF)
        host.failpoints.reach("suspend_process.signalled")
        for _ in range(ROUNDS):
            threads = handle.wait_threads(all_stopped, PROMPT_S)
            if threads is None or all_stopped(threads) or not handle.signal(signal.SIGSTOP):
                break
            handle.signal_each(signal.SIGSTOP)
        now = _observe(handle)
        if now is None:
            return self.gone(claim, _BY_ITSELF)
        if now.halt is Halt.RUNNING:
            raise TransientFailure(
                f"SIGSTOP was sent to {claim}, and it runs on: another process continues it (SIGCONT), or its tracer "
                "keeps the signal from it. Suspend that process first, or kill this one",
                code="runs_on",
            )
        return self._suspended(claim, now)

    def _suspended(self, claim: SuspendClaim, now: _Observed, *, cause: str = "action") -> Report:
        detail = _describe(now)
        return self.report(
            Outcome.COMPLETED,
            "suspended",
            f"{claim} was suspended: {detail}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.post_condition, holds=True, detail=detail),
            effect_holds=True,
            cause=cause,
        )

    def _already(self, claim: SuspendClaim) -> Report:
        why = "it was stopped already by another process, which can continue it"
        report = self.no_action(claim, "already_suspended", f"{claim}: {why}; that would be reported", why)
        # Watched all the same: a process may stop itself just while it is read.
        return replace(report, effect_holds=True)


_BY_ITSELF: Final = "it ended by itself before it had stopped"


def _observe_claimed(claim: ProcessClaim, host: Host) -> _Observed | None:
    """The claimed process as it is now; None when it has ended."""
    handle = claim.hold(host)
    if handle is None:
        return None
    try:
        return _observe(handle)
    finally:
        handle.close()


def _observe(handle: HeldProcess) -> _Observed | None:
    """None when it has ended."""
    facts, threads = handle.refresh(), handle.threads()
    if facts is None or threads is None:
        return None
    return _Observed(halt_of(threads, frozen=facts.frozen), threads, facts.frozen)


def _describe(now: _Observed) -> str:
    """One line about a process of which nothing runs."""
    living = [thread for thread in now.threads if thread.state != "Z"]
    held = sum(thread.state not in "Tt" for thread in living)
    traced = sum(thread.state == "t" for thread in living)
    if now.halt is Halt.STOPPED:
        return f"all of it is stopped (threads in state T: {len(living)})"
    notes = []
    if held:
        where = "its frozen cgroup" if now.frozen else "a call that nothing interrupts (state D)"
        notes.append(f"{held} of {len(living)} threads are held in {where}, and stop before they run again")
    if traced:
        notes.append(
            f"{traced} of {len(living)} threads are stopped by the process that traces them (state t), which can "
            "continue them at any time"
        )
    return "; ".join(notes)


class ResumeProcess(ProcessAction[NoParameters, SuspendClaim]):
    """Resumes one process."""

    name = "resume_process"
    summary = "Resume a suspended process where it was stopped"
    drawbacks = (
        "What made it dangerous resumes with it.",
        "Connections that timed out meanwhile stay broken.",
    )
    parameters = NoParameters
    claims = (SuspendClaim,)
    failpoints = ("resume_process.signalled",)
    """Right after the kernel took the signal."""
    undo_only = True
    post_condition = "process_not_stopped"

    def admit(self, job: Job[NoParameters], host: Host) -> None:
        """Only as an undo: to continue a process that this node did not stop is not its decision."""
        if not job.command.undo_of:
            raise CommandRejected("resume_process runs only as an undo", code="undo_only")

    def bind(self, job: Job[NoParameters], host: Host) -> SuspendClaim:
        """The process that was suspended, if it is still there."""
        claim = job.undone_claim(SuspendClaim, missing="this node's journal knows no process to resume")
        if claim.stopped_before:
            why = f"{claim} had been stopped by another process before, and is not resumed by Douse"
            raise CommandRejected(why, code="nothing_to_revert")
        handle = claim.hold(host)
        if handle is None:
            raise CommandRejected(f"{claim} has ended since", code="nothing_to_revert")
        handle.close()
        return claim

    def execute(self, job: Job[NoParameters], claim: SuspendClaim, host: Host) -> Report:
        """Hold it again, continue it, and check that it runs."""
        handle = claim.hold(host)
        if handle is None:
            return self._ended(claim)
        try:
            return self._resume(claim, host, handle)
        finally:
            handle.close()

    def probe(self, job: Job[NoParameters], claim: SuspendClaim, host: Host) -> Probe:
        """Running is done, stopped is not done, and one that has ended stays so."""
        handle = claim.hold(host)
        if handle is None:
            return Done(self._ended(claim))
        try:
            threads = handle.threads()
        finally:
            handle.close()
        if threads is None:
            return Done(self._ended(claim))
        return Done(self._resumed(claim, cause="unproven")) if none_stopped(threads) else NotDone()

    def dry_run_report(self, job: Job[NoParameters], claim: SuspendClaim, host: Host) -> Report:
        """What would be resumed."""
        message = f"{claim} would be resumed; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def _resume(self, claim: SuspendClaim, host: Host, handle: HeldProcess) -> Report:
        threads = handle.threads()
        if threads is None:
            return self._ended(claim)
        if none_stopped(threads):
            return self.no_action(claim, "not_suspended", f"{claim}: it is not stopped", "it is not stopped")
        if not handle.signal(signal.SIGCONT):
            return self._ended(claim)
        host.failpoints.reach("resume_process.signalled")
        threads = handle.wait_threads(none_stopped, RESUME_WAIT_S)
        if threads is None:
            return self._ended(claim)
        if not none_stopped(threads):
            raise TransientFailure(
                f"SIGCONT was sent to {claim}, and it is stopped again by another process", code="stopped_again"
            )
        return self._resumed(claim)

    def _resumed(self, claim: SuspendClaim, *, cause: str = "action") -> Report:
        detail = "none of it is stopped"
        return self.report(
            Outcome.COMPLETED,
            "resumed",
            f"{claim} was resumed: {detail}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.post_condition, holds=True, detail=detail),
            cause=cause,
        )

    def _ended(self, claim: SuspendClaim) -> Report:
        return self.no_action(claim, "target_gone", f"{claim} has ended meanwhile", "it has ended")
