"""pause_container and unpause_container: freeze all processes of one run of a container, and thaw them to undo that.

Run by the node worker in the containment lane. Memory and connections are kept. A pause does not survive a restart of
the container or of a daemon without live-restore: the node checks again and again, and reports when it is lost. An
unpause takes container and run from this node's own journal. Must never touch a run that the claim does not name.
"""

from workers.actions.base import Done, Effect, Job, NoParameters, NotDone, Pending, Probe
from workers.actions.base.container import (
    MAY_ACT_YET,
    ContainerAction,
    ContainerClaim,
    claim_on_run,
    refusal,
    returns,
    runtimes,
)
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.targets.container import ContainerState
from workers.host.ports import Host


class PauseContainer(ContainerAction[NoParameters]):
    """Pauses one container."""

    name = "pause_container"
    summary = "Freeze all processes of a container, and keep their memory and connections"
    drawbacks = (
        "Whoever needs the container waits for it, and may time out.",
        "A liveness probe fails: Kubernetes kills and restarts the container, and the pause is lost.",
        "A restart of the daemon ends the pause, unless live-restore is on; the loss is reported, not prevented.",
    )
    parameters = NoParameters
    failpoints = ("pause_container.asked",)
    """Right after the runtime answered the pause."""
    reversible_by = "unpause_container"

    def execute(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """Freeze it, and look whether it is frozen."""
        container = runtimes(host).open(claim.ref)
        facts = container.inspect()
        if facts is None:
            return self.gone(claim)
        if not claim.is_run_of(facts):
            return self.superseded(claim, facts)
        if facts.state is ContainerState.PAUSED:
            return self.nothing(claim, "already_paused", "it is paused already")
        if not facts.alive:
            return self._idle(claim)
        refused = container.pause()
        host.failpoints.reach("pause_container.asked")
        facts = container.inspect()
        if facts is None:
            return self.gone(claim)
        if not claim.is_run_of(facts):
            return self.superseded(claim, facts)
        if facts.state is ContainerState.PAUSED:
            return self._paused(claim)
        if not facts.alive:
            return self._idle(claim)
        if refused is None or facts.state is ContainerState.RESTARTING:
            raise TransientFailure(f"{claim} is {facts.state.value}, not paused", code="not_paused")
        raise refusal(refused, claim)

    def probe(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Probe:
        """Paused is done, another run is superseded."""
        if not claim.alive:
            return Done(self._idle(claim))
        if claim.state == ContainerState.PAUSED:
            return Done(self.nothing(claim, "already_paused", "it was paused already"))
        try:
            facts = runtimes(host).open(claim.ref).inspect()
        except TransientFailure as error:
            return Pending(self.silent(claim, error.message))
        if facts is None:
            return Done(self.gone(claim))
        if not claim.is_run_of(facts):
            return Done(self.superseded(claim, facts))
        if facts.state is ContainerState.PAUSED:
            return Done(self._paused(claim, cause="unproven"))
        if not facts.alive:
            return Done(self._idle(claim))
        return Pending(self.silent(claim, MAY_ACT_YET)) if facts.unsettled else NotDone()

    def dry_run_report(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """What would be frozen."""
        would = claim.state in (ContainerState.RUNNING, ContainerState.RESTARTING)
        message = (
            f"{claim} would be paused{returns(claim)}; nothing was touched"
            if would
            else f"would do nothing: {claim} is {claim.state}"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def holds(self, claim: ContainerClaim) -> str:
        """The run."""
        return f"{claim.container_id}/{claim.started_at}"

    def lost(self, effect: Effect[ContainerClaim], host: Host) -> str:
        """It runs again, or has ended."""
        facts = runtimes(host).open(effect.claim.ref).inspect()
        if facts is None:
            return "the container was removed"
        if not effect.claim.is_run_of(facts):
            return f"it was started again at {facts.started_at_ns} ns, and is not paused"
        return "" if facts.state is ContainerState.PAUSED else f"it is {facts.state.value}"

    def _paused(self, claim: ContainerClaim, *, cause: str = "action") -> Report:
        detail = "it stands still"
        return self.report(
            Outcome.COMPLETED,
            "paused",
            f"{claim} was paused: {detail}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("paused", holds=True, detail=detail),
            effect_holds=True,
            cause=cause,
        )

    def _idle(self, claim: ContainerClaim) -> Report:
        return self.nothing(claim, "not_running", "nothing of it runs that could be frozen")


class UnpauseContainer(ContainerAction[NoParameters]):
    """Unpauses one container."""

    name = "unpause_container"
    summary = "Let a paused container go on where it stood"
    drawbacks = (
        "What made it dangerous goes on with it.",
        "Connections that timed out meanwhile stay broken.",
    )
    parameters = NoParameters
    failpoints = ("unpause_container.asked",)
    """Right after the runtime answered."""
    undo_only = True

    def bind(self, job: Job[NoParameters], host: Host) -> ContainerClaim:
        """The paused run, if it is that still."""
        paused, facts = self.undone(job, host)
        if not paused.is_run_of(facts):
            raise CommandRejected(f"{paused} was started again since, and its pause was lost then", code="superseded")
        if not facts.alive:
            raise CommandRejected(f"{paused} has ended since", code="nothing_to_revert")
        return claim_on_run(facts)

    def execute(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """Thaw it, and look whether it runs."""
        container = runtimes(host).open(claim.ref)
        facts = container.inspect()
        if facts is None:
            return self.gone(claim)
        if not claim.is_run_of(facts):
            return self.superseded(claim, facts)
        if facts.state is not ContainerState.PAUSED:
            return self._not_paused(claim)
        refused = container.unpause()
        host.failpoints.reach("unpause_container.asked")
        facts = container.inspect()
        if facts is None:
            return self.gone(claim)
        if not claim.is_run_of(facts):
            return self.superseded(claim, facts)
        if facts.state is not ContainerState.PAUSED:
            return self._running(claim)
        if refused is None:
            raise TransientFailure(f"{claim} is still paused, and its runtime gives no reason")
        raise refusal(refused, claim)

    def probe(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Probe:
        """Running is done, another run is superseded."""
        if claim.state != ContainerState.PAUSED:
            return Done(self._not_paused(claim))
        try:
            facts = runtimes(host).open(claim.ref).inspect()
        except TransientFailure as error:
            return Pending(self.silent(claim, error.message))
        if facts is None:
            return Done(self.gone(claim))
        if not claim.is_run_of(facts):
            return Done(self.superseded(claim, facts))
        if facts.state is not ContainerState.PAUSED:
            return Done(self._running(claim, cause="unproven"))
        return Pending(self.silent(claim, MAY_ACT_YET)) if facts.unsettled else NotDone()

    def dry_run_report(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """What would go on."""
        message = f"{claim} would go on; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def _running(self, claim: ContainerClaim, *, cause: str = "action") -> Report:
        detail = "it is not paused any more"
        return self.report(
            Outcome.COMPLETED,
            "unpaused",
            f"{claim} goes on: {detail}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("not_paused", holds=True, detail=detail),
            cause=cause,
        )

    def _not_paused(self, claim: ContainerClaim) -> Report:
        return self.nothing(claim, "not_paused", "it is not paused")
