"""What killing and stopping a container share: the order of steps that keeps it ended, and how its end is proved.

Subclassed by two actions. The restart policy goes first, and the run is looked at again after it: from then on nothing
but a person or an orchestrator can put another run in its place. What happened is told by the state that
the runtime shows, never by its answers. Must never end a run that the claim does not name.
"""

from abc import abstractmethod
from typing import ClassVar, Final, TypeVar

from workers.actions.base import Begun, Done, FieldSpec, Job, NotDone, Pending, Probe
from workers.actions.base.container import (
    FACTS,
    MAY_ACT_YET,
    ContainerAction,
    ContainerClaim,
    refusal,
    returns,
    runtimes,
)
from workers.domain.errors import TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.targets.container import ContainerFacts, RestartPolicy
from workers.host.containers.ports import ContainerHandle, Refusal
from workers.host.ports import Host
from workers.system.ports import Clock

P = TypeVar("P")

WAIT_S: Final = 5.0
"""How long a run that was killed may take to be over before the outcome is UNKNOWN."""
_POLL_S: Final = 0.02
_LONGEST_POLL_S: Final = 0.5


class Ending(ContainerAction[P]):
    """Ends one run of one container, and keeps it ended."""

    outputs = (*FACTS, FieldSpec("restart_disabled", "boolean", "The policy was taken away, so that it stays ended"))
    done: ClassVar[str]
    """``killed``."""

    @abstractmethod
    def end(self, job: Job[P], host: Host, container: ContainerHandle, facts: ContainerFacts) -> Refusal | None:
        """The one call that ends it. Raises as ``ContainerHandle``."""

    def why_irreversible(self, claim: ContainerClaim) -> str:
        """Why no undo could lift the effect; empty where one can."""
        del claim
        return "it has no undo"

    def execute(self, job: Job[P], claim: ContainerClaim, host: Host) -> Report:
        """Take its restarts away, look again, end it, and look whether it has ended."""
        container = runtimes(host).open(claim.ref)
        facts = container.inspect()
        if facts is None:
            return self.gone(claim)
        if not facts.alive:
            return self._nothing(claim)
        if not claim.is_run_of(facts):
            return self._superseded(claim, facts, container)
        kept = ""
        if facts.policy.restarts:
            refused = container.restrain(RestartPolicy())
            kept = refused.message if refused is not None else ""
            host.failpoints.reach(f"{self.name}.restrained")
            facts = container.inspect()
            if facts is None or not facts.alive:
                return self._ended(claim, facts, kept)
            if not claim.is_run_of(facts):
                return self._superseded(claim, facts, container)
        refused = self.end(job, host, container, facts)
        host.failpoints.reach(f"{self.name}.asked")
        left_s = (job.deadline_ns - host.clock.now_ns()) / 1e9
        timeout_s = max(0.0, min(WAIT_S, left_s)) if refused is None else 0.0
        after = await_end(container, host.clock, started_at_ns=facts.started_at_ns, timeout_s=timeout_s)
        if after is None or not after.alive:
            return self._ended(claim, after, kept)
        if not claim.is_run_of(after):
            return self._back(claim, after, kept)
        if refused is not None:
            raise refusal(refused, claim)
        return self._pending(claim, "it has not ended yet")

    def probe(self, job: Job[P], claim: ContainerClaim, host: Host) -> Probe:
        """Ended or gone is done, another run is superseded, running is not done."""
        if not claim.alive:
            return Done(self._nothing(claim))
        try:
            facts = runtimes(host).open(claim.ref).inspect()
        except TransientFailure as error:
            return Pending(self.silent(claim, error.message))
        if facts is None or (claim.is_run_of(facts) and not facts.alive):
            return Done(self._ended(claim, facts, cause="unproven"))
        restrained = claim.policy.restarts and not facts.policy.restarts
        if not claim.is_run_of(facts):
            return Begun() if restrained else Done(self.superseded(claim, facts))
        if facts.unsettled:
            return Pending(self.silent(claim, MAY_ACT_YET))
        if waits := _kill_waits(facts, host):
            return Pending(self._pending(claim, waits))
        return Begun() if restrained else NotDone()

    def dry_run_report(self, job: Job[P], claim: ContainerClaim, host: Host) -> Report:
        """What would be ended, and who would bring it back."""
        if not claim.alive:
            message = f"would do nothing: {claim} does not run"
        else:
            policy = claim.policy
            first = f", and its restart policy {policy.name!r} disabled first" if policy.restarts else ""
            message = f"{claim} would be {self.done}{first}{returns(claim)}; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def _superseded(self, claim: ContainerClaim, facts: ContainerFacts, container: ContainerHandle) -> Report:
        """Another run: what an attempt before this one took from it is given back, and nothing else is done."""
        policy = claim.policy
        if policy.restarts and not facts.policy.restarts:
            refused = container.restrain(policy)
            if refused is not None:
                raise refusal(refused, claim)
        return self.superseded(claim, facts)

    def _nothing(self, claim: ContainerClaim) -> Report:
        return self.nothing(claim, "already_ended", "it does not run")

    def _ended(
        self, claim: ContainerClaim, facts: ContainerFacts | None, kept: str = "", *, cause: str = "action"
    ) -> Report:
        policy = claim.policy
        disabled = policy.restarts and facts is not None and not facts.policy.restarts
        detail = "its run is over" if facts is not None else "it is gone"
        notes = returns(claim)
        if policy.restarts and facts is not None and not disabled:
            notes += f"; its restart policy {policy.name!r} stays{f' ({kept})' if kept else ''}, and may bring it back"
        why_irreversible = self.why_irreversible(claim)
        if facts is not None and self.reversible_by and why_irreversible:
            notes += f"; no undo is offered, because {why_irreversible}"
        return self.report(
            Outcome.COMPLETED,
            self.done,
            f"{claim} was {self.done}: {detail}{notes}",
            outputs=self.outputs_of(claim) | {"restart_disabled": disabled},
            post_condition=PostCondition("run_over", holds=True, detail=detail),
            effect_holds=facts is not None and not why_irreversible,
            cause=cause,
        )

    def _back(self, claim: ContainerClaim, facts: ContainerFacts, kept: str) -> Report:
        """It has ended and runs again, because its restarts could not be taken away or somebody started it."""
        when = f" at {facts.started_at_ns} ns" if facts.started_at_ns else ""
        why = f"it was started again{when}{f', since {kept}' if kept else ''}"
        return self.report(
            Outcome.PARTIAL,
            "started_again",
            f"{claim} was {self.done}, but {why}{returns(claim)}",
            outputs=self.outputs_of(claim) | {"restart_disabled": not facts.policy.restarts and claim.policy.restarts},
            post_condition=PostCondition("run_over", holds=False, detail=why),
        )

    def _pending(self, claim: ContainerClaim, waits: str) -> Report:
        return self.report(
            Outcome.UNKNOWN,
            "kill_pending",
            f"{claim} is being ended, but {waits}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("run_over", holds=False, detail=waits),
        )


def await_end(
    container: ContainerHandle, clock: Clock, *, started_at_ns: int, timeout_s: float
) -> ContainerFacts | None:
    """Inspect it, less and less often, until the run that started then is over or the time is; its last facts, None
    when it is gone. Raises ``TransientFailure``."""
    until_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
    pause_s = _POLL_S
    while True:
        facts = container.inspect()
        if facts is None or not facts.alive or facts.started_at_ns != started_at_ns:
            return facts
        if clock.monotonic_ns() >= until_ns:
            return facts
        clock.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_POLL_S)


def _kill_waits(facts: ContainerFacts, host: Host) -> str:
    """Why a SIGKILL that its init has already got is not taken yet; empty where none waits."""
    handle = host.processes.open(facts.pid) if facts.pid else None
    if handle is None:
        return ""
    try:
        init = handle.facts
    finally:
        handle.close()
    if init.kill_pending and init.frozen:
        return "its cgroup is frozen from outside: it dies when it is thawed"
    if init.kill_pending and init.state == "D":
        return "its init is in a call that nothing interrupts (state D): it dies when the call returns"
    return ""
