"""kill_process: SIGKILL to exactly the process that was meant, through a descriptor that can become no other.

Run by the node worker in the containment lane. What the target can write (argv, exe, name, cgroup) is evidence and
never a reason to refuse. It must never signal a pid.
"""

import signal
from typing import Final

from workers.action import Done, Job, NotDone, Pending, Probe
from workers.action.processes import Chosen, SightedAction, called, reopen
from workers.core.outcome import Outcome, PostCondition, Report, Values
from workers.core.process import ProcessFacts
from workers.ports import HeldProcess, Host

FAILPOINTS: Final = ("kill_process.signalled",)
"""Right after the kernel took the signal, before anything is known of its effect."""

WAIT_S: Final = 5.0
"""How long a signalled process may take to end before the outcome is UNKNOWN: a large one frees gigabytes first."""

KillParameters = Chosen


class KillProcess(SightedAction[KillParameters]):
    """Kills one process."""

    name = "kill_process"
    summary = "Kill the event's process, or one of its ancestors, with SIGKILL"
    drawbacks = (
        "The process gets no chance to save, flush or clean up.",
        "Its memory is lost as evidence; its children live on.",
        "A supervisor (systemd, a container runtime, a cron job) may start it again.",
        "Killing a container's init ends the container, and its restart policy may bring it back.",
        "Seen within 20 ms of its start, it is left alone unless the detector prints that start (deploy/falco does).",
    )
    parameters = KillParameters
    wanted = "process_gone"
    do = "kill"
    done = "killed"

    def execute(self, job: Job[KillParameters], claim: Values, host: Host) -> Report:
        """Take hold of the claimed process again, kill it, and wait until it has ended."""
        if not claim["present"]:
            return self.gone(claim)
        handle = reopen(claim, host)
        if handle is None:
            return self.gone(claim, _BY_ITSELF)
        try:
            return self._kill(job, claim, host, handle)
        finally:
            handle.close()

    def probe(self, job: Job[KillParameters], claim: Values, host: Host) -> Probe:
        """SAFETY section 4: gone is done, alive is not done, unless a SIGKILL is already waiting for it to wake."""
        if not claim["present"]:
            return Done(self.gone(claim))
        handle = reopen(claim, host)
        if handle is None:
            return Done(self._killed(claim, "it is no longer there", cause="unproven"))
        try:
            facts = handle.refresh()
        finally:
            handle.close()
        if facts is None:
            return Done(self._killed(claim, "it is no longer there", cause="unproven"))
        waits = facts.kill_pending and (facts.frozen or facts.state == "D")
        return Pending(self._pending(claim, facts)) if waits else NotDone()

    def _kill(self, job: Job[KillParameters], claim: Values, host: Host, handle: HeldProcess) -> Report:
        before = host.clock.monotonic_ns()
        if not handle.signal(signal.SIGKILL):
            return self.gone(claim, _BY_ITSELF)
        host.failpoints.reach("kill_process.signalled")
        left_s = (job.deadline_ns - host.clock.now_ns()) / 1_000_000_000
        if handle.wait_gone(max(0.0, min(WAIT_S, left_s))):
            took_ms = (host.clock.monotonic_ns() - before) / 1_000_000
            return self._killed(claim, f"it ended {took_ms:.1f} ms after the signal")
        facts = handle.refresh()
        return self._killed(claim, "it ended") if facts is None else self._pending(claim, facts)

    def _killed(self, claim: Values, detail: str, *, cause: str = "action") -> Report:
        more = (
            "; it was a container's init, so the container has ended and its restart policy may bring it back"
            if claim["container_init"]
            else ""
        )
        return self.report(
            Outcome.COMPLETED,
            "killed",
            f"{called(claim)} was killed: {detail}{more}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.wanted, holds=True, detail=detail),
            cause=cause,
        )

    def _pending(self, claim: Values, facts: ProcessFacts) -> Report:
        waits = (
            "its cgroup is frozen: it dies when it is thawed"
            if facts.frozen
            else "it is in a call that nothing interrupts (state D): it dies when the call returns"
            if facts.state == "D"
            else f"it has not ended yet (state {facts.state})"
        )
        return self.report(
            Outcome.UNKNOWN,
            "kill_pending",
            f"SIGKILL was sent to {called(claim)}, but {waits}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.wanted, holds=False, detail=waits),
        )


_BY_ITSELF: Final = "it ended by itself before it could be killed"
