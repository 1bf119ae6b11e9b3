"""suspend_process: SIGSTOP to exactly the process that was meant; memory, files and connections stay as they are.

Run by the node worker in the containment lane; undone by ``resume_process``. Whoever may signal the process can let it
go on: the node looks again and again, and says when that happened. What is stopped already is theirs who stopped it:
nothing is done and an undo gives nothing back, but it is looked after all the same. It must never signal a pid.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from workers.actions.base import Done, Job, NotDone, Probe
from workers.actions.base.process import Chosen, SightedAction, called, reopen
from workers.domain.errors import TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.targets.halting import Halt, ThreadFacts, all_stopped, halt_of
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess, ProcessHandle

FAILPOINTS: Final = ("suspend_process.signalled",)
"""Right after the kernel took the signal, before anything is known of its effect."""

PROMPT_S: Final = 0.05
"""A process that nothing holds up has stopped long before."""

ROUNDS: Final = 10
"""How often it is told. A thread that executes another program just then makes the kernel forget a stop that it had
taken already, and a main thread that is held in a call keeps it from the others: so it is told again, and each
thread by itself. Half a second in all: longer is said, not waited for, because the vigil looks on."""


@dataclass(frozen=True, slots=True)
class _Look:
    """How still the process is."""

    halt: Halt
    threads: Sequence[ThreadFacts]
    frozen: bool


class SuspendProcess(SightedAction[Chosen]):
    """Suspends one process."""

    name = "suspend_process"
    summary = "Stop the event's process, or one of its ancestors, with SIGSTOP, and keep its memory"
    drawbacks = (
        "Whoever needs the process waits for it, and may time out.",
        "Its children run on.",
        "Whoever may signal it (its own user, root, its tracer) can let it go on; that is reported, not prevented.",
        "Its parent is told that it was stopped; a supervisor or a watchdog may kill it and start another.",
        "A process that somebody else has stopped already is only looked after: they can let it go on, an undo can't.",
        "Seen within 20 ms of its start, it is left alone unless the detector prints that start (deploy/falco does).",
    )
    parameters = Chosen
    watched = True
    reversible_by = "resume_process"
    wanted = "process_stopped"
    do = "suspend"
    done = "suspended"

    def before(self, job: Job[Chosen], handle: ProcessHandle, host: Host) -> dict[str, str | int | bool]:
        """Whether somebody else has stopped it already."""
        return {"stopped_before": all_stopped(handle.threads() or ())}

    def execute(self, job: Job[Chosen], claim: Values, host: Host) -> Report:
        """Take hold of the claimed process again, stop it, and look whether all of it has stopped."""
        if not claim["present"]:
            return self.gone(claim)
        if claim["stopped_before"]:
            return self._already(claim)
        handle = reopen(claim, host)
        if handle is None:
            return self.gone(claim, _BY_ITSELF)
        try:
            return self._stop(claim, host, handle)
        finally:
            handle.close()

    def probe(self, job: Job[Chosen], claim: Values, host: Host) -> Probe:
        """Stopped is done, running is not done, and one that has ended needs no stopping."""
        if not claim["present"]:
            return Done(self.gone(claim))
        if claim["stopped_before"]:
            return Done(self._already(claim))
        look = _look_again(claim, host)
        if look is None:
            return Done(self.gone(claim, "it has ended"))
        return NotDone() if look.halt is Halt.RUNNING else Done(self._suspended(claim, look, cause="unproven"))

    def dry_run_report(self, job: Job[Chosen], claim: Values, host: Host) -> Report:
        """What would be stopped."""
        if claim["present"] and claim["stopped_before"]:
            message = f"would do nothing: {called(claim)} is stopped already"
            return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))
        return SightedAction.dry_run_report(self, job, claim, host)

    def lost(self, held: Values, host: Host) -> str:
        """Somebody let it go on, or it has ended."""
        look = _look_again(held, host)
        if look is None:
            return f"{called(held)} has ended"
        running = [thread for thread in look.threads if thread.state not in "TtZ"]
        states = ", ".join(sorted({thread.state for thread in running}))
        return f"somebody let {called(held)} go on (state {states})" if look.halt is Halt.RUNNING else ""

    def _stop(self, claim: Values, host: Host, handle: HeldProcess) -> Report:
        if not handle.signal(signal.SIGSTOP):
            return self.gone(claim, _BY_ITSELF)
        host.failpoints.reach("suspend_process.signalled")
        for _ in range(ROUNDS):
            threads = handle.wait_threads(all_stopped, PROMPT_S)
            if threads is None or all_stopped(threads) or not handle.signal(signal.SIGSTOP):
                break
            handle.signal_each(signal.SIGSTOP)
        look = _look(handle)
        if look is None:
            return self.gone(claim, _BY_ITSELF)
        if look.halt is Halt.RUNNING:
            raise TransientFailure(
                f"SIGSTOP was sent to {called(claim)}, and it runs on: somebody lets it go on (SIGCONT), or its tracer "
                "keeps the signal from it. Suspend that one first, or kill the process",
                code="runs_on",
            )
        return self._suspended(claim, look)

    def _suspended(self, claim: Values, look: _Look, *, cause: str = "action") -> Report:
        detail = _how_still(look)
        return self.report(
            Outcome.COMPLETED,
            "suspended",
            f"{called(claim)} was suspended: {detail}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.wanted, holds=True, detail=detail),
            effect_holds=True,
            cause=cause,
        )

    def _already(self, claim: Values) -> Report:
        why = "it was stopped already, by somebody else, who can let it go on"
        told = self.nothing(claim, "already_suspended", f"{called(claim)}: {why}; that would be told", why)
        return replace(told, effect_holds=True)  # or whoever stops himself for the moment of our look got away unseen


_BY_ITSELF: Final = "it ended by itself before it had stopped"


def _look_again(claim: Values, host: Host) -> _Look | None:
    """The claimed process as it is now; None when it has ended."""
    handle = reopen(claim, host)
    if handle is None:
        return None
    try:
        return _look(handle)
    finally:
        handle.close()


def _look(handle: HeldProcess) -> _Look | None:
    """None when it has ended."""
    facts, threads = handle.refresh(), handle.threads()
    if facts is None or threads is None:
        return None
    return _Look(halt_of(threads, frozen=facts.frozen), threads, facts.frozen)


def _how_still(look: _Look) -> str:
    """One line about a process of which nothing runs."""
    living = [thread for thread in look.threads if thread.state != "Z"]
    held = sum(thread.state not in "Tt" for thread in living)
    traced = sum(thread.state == "t" for thread in living)
    if look.halt is Halt.STOPPED:
        return f"all of it is stopped (threads in state T: {len(living)})"
    notes = []
    if held:
        where = "its frozen cgroup" if look.frozen else "a call that nothing interrupts (state D)"
        notes.append(f"{held} of {len(living)} threads are held in {where}, and stop before they run again")
    if traced:
        notes.append(
            f"{traced} of {len(living)} threads are stopped by the process that traces them (state t), which can let "
            "them go on at any time"
        )
    return "; ".join(notes)
