"""kill_process: SIGKILL to exactly the process that the command names, through a pidfd.

Run by the node worker in the containment lane. What the target can write (argv, exe, name, cgroup) is evidence and
never a reason to refuse. With ``tree`` all its descendants die with it (``actions.base.process_tree``), or none where
one of them is protected. It must never signal a pid."""

import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from workers.actions.base import Begun, Done, FieldSpec, Job, NotDone, Pending, Probe, parameter
from workers.actions.base.descendants import Named, TreeClaim, claim_on_tree
from workers.actions.base.find_process import Found
from workers.actions.base.process import (
    FACTS,
    AncestorParameters,
    EventProcessAction,
    GoneProcess,
    ProcessClaim,
    claim_on_process,
    short,
)
from workers.actions.base.process_tree import MOST_HELD, Tree, TreeResult, waiting_for
from workers.domain.outcome import Outcome, PostCondition, Report, Scalar
from workers.domain.targets.process import ProcessFacts
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess

WAIT_S: Final = 5.0
"""How long a signalled process may take to end before the outcome is UNKNOWN: a large one frees gigabytes first."""

_BY_ITSELF: Final = "it ended by itself before it could be killed"


@dataclass(frozen=True, slots=True)
class KillParameters(AncestorParameters):
    """Its parameters."""

    tree: bool = parameter("Kill all its descendants with it, or none if one is protected", default=False)


class KillProcess(EventProcessAction[KillParameters, ProcessClaim]):
    """Kills one process."""

    name = "kill_process"
    summary = "Kill the event's process, or one of its ancestors, with SIGKILL"
    drawbacks = (
        "The process gets no chance to save, flush or clean up.",
        "Its memory is lost as evidence; its children live on, unless tree is chosen.",
        "With tree, all are stopped for a moment before any dies; a process that init took over is no descendant.",
        "A supervisor (systemd, a container runtime, a cron job) may start it again.",
        "Killing a container's init ends the container, and its restart policy may bring it back.",
        "Seen within 20 ms of its start, it is left alone unless the detector prints that start (deploy/falco does).",
    )
    parameters = KillParameters
    claims = (TreeClaim, ProcessClaim, GoneProcess)
    outputs: ClassVar[tuple[FieldSpec, ...]] = (
        *FACTS,
        FieldSpec("killed", "integer", "How many processes ended"),
        FieldSpec("left", "integer", "How many of the processes to kill had not ended"),
        FieldSpec("others", "string", "Pid and name of the descendants that ended, as many as fit"),
    )
    failpoints = ("kill_process.stopped", "kill_process.at_rest", "kill_process.begun", "kill_process.signalled")
    """Of a tree: its root is stopped; all of it is; the first process has got SIGKILL. Of both: all have, and nothing
    is known yet of its effect."""
    most_held: ClassVar[int] = MOST_HELD
    post_condition = "process_gone"
    verb = "kill"
    participle = "killed"

    def claim_on(self, job: Job[KillParameters], found: Found, host: Host) -> ProcessClaim:
        """The process, and with ``tree`` its descendants."""
        claim = claim_on_process(found)
        return claim_on_tree(claim, found.handle.facts, found.handle, host) if job.parameters.tree else claim

    def execute(self, job: Job[KillParameters], claim: ProcessClaim | GoneProcess, host: Host) -> Report:
        """Hold the claimed process again, kill it, and wait until it has ended."""
        if isinstance(claim, GoneProcess):
            return self.gone(claim)
        handle = claim.hold(host)
        try:
            if isinstance(claim, TreeClaim):
                return self._kill_tree(job, claim, host, handle)
            return self._kill(job, claim, host, handle) if handle is not None else self.gone(claim, _BY_ITSELF)
        finally:
            if handle is not None:
                handle.close()

    def probe(self, job: Job[KillParameters], claim: ProcessClaim | GoneProcess, host: Host) -> Probe:
        """Gone is done, alive is not done, unless a SIGKILL is already waiting for it to wake."""
        if isinstance(claim, GoneProcess):
            return Done(self.gone(claim))
        living = list(_living(claim, host))
        if not living:
            result = TreeResult(killed=[str(claim.pid), *map(str, _named(claim))])
            return Done(self._killed(claim, "it is no longer there", cause="unproven", result=result))
        if all(_dies_when_it_wakes(facts) for facts, _ in living):
            return Pending(self._pending(claim, living[0][0], left=len(living)))
        half_done = isinstance(claim, TreeClaim) and _stopped_by_an_attempt(living)
        return Begun() if half_done else NotDone()

    def conclude(self, job: Job[KillParameters], claim: ProcessClaim | GoneProcess, host: Host) -> Report:
        """A tree that stands stopped is killed as far as the claim names it, without looking for more of it."""
        if not isinstance(claim, TreeClaim):
            return self.execute(job, claim, host)
        pids = (claim.pid, *_named(claim))
        held = [(pid, each) for pid, (each, _) in zip(pids, _held(claim, host), strict=True) if each is not None]
        try:
            for _, handle in reversed(held):  # the root last
                handle.signal(signal.SIGKILL)
            until_ns = host.clock.monotonic_ns() + round(WAIT_S * 1e9)
            result = TreeResult()
            for pid, handle in held:
                gone = handle.wait_gone(max(0.0, (until_ns - host.clock.monotonic_ns()) / 1e9))
                (result.killed if gone else result.left).append(str(pid))
        finally:
            for _, handle in held:
                handle.close()
        result.why = "it has not ended yet"
        if result.left:
            return self._partly(claim, result)
        why = f"all of its tree that is known have ended ({len(result.killed)} processes)"
        return self._killed(claim, why, result=result)

    def dry_run_report(self, job: Job[KillParameters], claim: ProcessClaim | GoneProcess, host: Host) -> Report:
        """Which processes would be killed."""
        report = super().dry_run_report(job, claim, host)
        if not isinstance(claim, TreeClaim):
            return report
        count = f"{claim.descendants}{'' if claim.descendants_named_all else ' or more'}"
        message = f"would kill {claim} and its descendants, {count} at present; nothing was touched"
        return replace(report, message=message)

    def _kill(self, job: Job[KillParameters], claim: ProcessClaim, host: Host, handle: HeldProcess) -> Report:
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

    def _kill_tree(self, job: Job[KillParameters], claim: TreeClaim, host: Host, root: HeldProcess | None) -> Report:
        begun = _stopped_by_an_attempt(_living(claim, host))
        tree = Tree(claim, root, host, begun=begun, most=self.most_held)
        now_ns = host.clock.now_ns()
        spare_ns = min(_SPARE_NS, (job.deadline_ns - now_ns) // 2)
        result = tree.kill(deadline_ns=job.deadline_ns - spare_ns, wait_s=min(WAIT_S, spare_ns / 1e9))
        if result.protected:
            return self._spared(claim, result)
        if not result.killed and not result.left:
            return self.gone(claim, _BY_ITSELF)
        untouched = root is not None and len(result.left) > len(claim.named())
        if not result.killed and result.denied is not None and untouched:
            raise result.denied
        if result.left or not result.complete:
            return self._partly(claim, result)
        return self._killed(claim, f"all of its tree have ended ({len(result.killed)} processes)", result=result)

    def _outputs(self, claim: ProcessClaim, result: TreeResult) -> dict[str, Scalar]:
        others = [each for each in result.killed if each.partition(" ")[0] != str(claim.pid)]
        counts = {"killed": len(result.killed), "left": len(result.left)}
        return self.outputs_of(claim) | counts | {"others": short(", ".join(others))}

    def _killed(
        self, claim: ProcessClaim, detail: str, *, cause: str = "action", result: TreeResult | None = None
    ) -> Report:
        more = (
            "; it was a container's init, so the container has ended and its restart policy may start it again"
            if claim.container_init
            else ""
        )
        return self.report(
            Outcome.COMPLETED,
            "killed",
            f"{claim} was killed: {detail}{more}",
            outputs=self._outputs(claim, result or TreeResult(killed=[str(claim.pid)])),
            post_condition=PostCondition(self.post_condition, holds=True, detail=detail),
            cause=cause,
        )

    def _partly(self, claim: ProcessClaim, result: TreeResult) -> Report:
        """Some are left, or some may be."""
        if result.left:
            left, total = len(result.left), len(result.left) + len(result.killed)
            why = f"{left} of {total} are left, first {result.left[0]}: {result.why}"
        else:
            why = "its tree grew faster than it could be stopped, or was too large to be held; some may have escaped"
        outcome, reason = (Outcome.UNKNOWN, "kill_pending") if result.pending else (Outcome.PARTIAL, "partly_killed")
        return self.report(
            outcome,
            reason,
            f"{claim} and its descendants were sent SIGKILL, but {why}",
            outputs=self._outputs(claim, result),
            post_condition=PostCondition(self.post_condition, holds=False, detail=why),
        )

    def _spared(self, claim: ProcessClaim, result: TreeResult) -> Report:
        """One that was found only when the tree was stopped is protected."""
        why = f"of its tree {result.protected}, and so it is protected on this node"
        if result.killed:
            consequence = f"{len(result.killed)} were killed before that was found; the rest runs on"
            outcome = Outcome.PARTIAL
        else:
            consequence, outcome = "none was killed, and those that were stopped run on", Outcome.FAILED
        return self.report(
            outcome,
            "protected_target",
            f"{claim} was not killed: {why}; {consequence}. Kill the one process alone, or a smaller tree",
            outputs=self._outputs(claim, result),
            post_condition=PostCondition(self.post_condition, holds=False, detail=why),
        )

    def _pending(self, claim: ProcessClaim, facts: ProcessFacts, *, left: int = 1) -> Report:
        waits = waiting_for(facts)
        return self.report(
            Outcome.UNKNOWN,
            "kill_pending",
            f"SIGKILL was sent to {claim}, but {waits}",
            outputs=self._outputs(claim, TreeResult(left=[str(claim.pid)] * left)),
            post_condition=PostCondition(self.post_condition, holds=False, detail=waits),
        )


_SPARE_NS: Final = 6_000_000_000
"""Of a run's time, what is reserved for the kills after all were stopped: ``WAIT_S`` and a little, or half of it."""


def _living(claim: ProcessClaim, host: Host) -> Iterator[tuple[ProcessFacts, bool]]:
    """Each process that the claim names and that has not ended, and whether it was stopped before the claim."""
    for handle, stopped_before in _held(claim, host):
        facts = handle.refresh() if handle is not None else None
        if handle is not None:
            handle.close()
        if facts is not None:
            yield facts, stopped_before


def _held(claim: ProcessClaim, host: Host) -> Iterator[tuple[HeldProcess | None, bool]]:
    """Each in turn, the root first."""
    yield claim.hold(host), isinstance(claim, TreeClaim) and claim.stopped_before
    for one in _named(claim).values():
        yield host.processes.reopen(one.pid, one.identity), one.stopped_before


def _named(claim: ProcessClaim) -> Mapping[int, Named]:
    return claim.named() if isinstance(claim, TreeClaim) else {}


def _dies_when_it_wakes(facts: ProcessFacts) -> bool:
    return facts.kill_pending and (facts.frozen or facts.state == "D")


def _stopped_by_an_attempt(living: Iterable[tuple[ProcessFacts, bool]]) -> bool:
    """Whether an earlier attempt began to stop them."""
    return any(facts.state == "T" and not stopped_before for facts, stopped_before in living)
