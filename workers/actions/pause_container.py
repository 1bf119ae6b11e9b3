"""pause_container: all processes of one run of a container frozen, memory and connections kept.

Run by the node worker in the containment lane; undone by ``unpause_container``. A pause does not survive a restart of
the container or of a daemon without live-restore: the node looks again and again, and says when it is lost. Must never
freeze a run that the claim does not name.
"""

from typing import Final

from workers.actions.base import Done, Job, NoParameters, NotDone, Pending, Probe
from workers.actions.base.container import MAY_ACT_YET, ContainerAction, outputs_of, refusal, returns, runtimes
from workers.domain.errors import TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.targets.container import ContainerState, called, ref_of, same_run
from workers.host.ports import Host

FAILPOINTS: Final = ("pause_container.asked",)
"""Right after the runtime answered the pause."""


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
    watched = True
    reversible_by = "unpause_container"

    def execute(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """Freeze it, and look whether it is frozen."""
        containers, ref = runtimes(host), ref_of(claim)
        facts = containers.inspect(ref)
        if facts is None:
            return self.gone(claim)
        if not same_run(claim, facts):
            return self.superseded(claim, facts)
        if facts.state is ContainerState.PAUSED:
            return self.nothing(claim, "already_paused", "it is paused already")
        if not facts.alive:
            return self._idle(claim)
        refused = containers.pause(ref)
        host.failpoints.reach("pause_container.asked")
        facts = containers.inspect(ref)
        if facts is None:
            return self.gone(claim)
        if not same_run(claim, facts):
            return self.superseded(claim, facts)
        if facts.state is ContainerState.PAUSED:
            return self._paused(claim)
        if not facts.alive:
            return self._idle(claim)
        if refused is None or facts.state is ContainerState.RESTARTING:
            raise TransientFailure(f"{called(claim)} is {facts.state.value}, not paused", code="not_paused")
        raise refusal(refused, claim)

    def probe(self, job: Job[NoParameters], claim: Values, host: Host) -> Probe:
        """Paused is done, another run is superseded."""
        if not self.alive_at_claim(claim):
            return Done(self._idle(claim))
        if claim["state"] == ContainerState.PAUSED:
            return Done(self.nothing(claim, "already_paused", "it was paused already"))
        try:
            facts = runtimes(host).inspect(ref_of(claim))
        except TransientFailure as error:
            return Pending(self.silent(claim, error.message))
        if facts is None:
            return Done(self.gone(claim))
        if not same_run(claim, facts):
            return Done(self.superseded(claim, facts))
        if facts.state is ContainerState.PAUSED:
            return Done(self._paused(claim, cause="unproven"))
        if not facts.alive:
            return Done(self._idle(claim))
        return Pending(self.silent(claim, MAY_ACT_YET)) if facts.unsettled else NotDone()

    def dry_run_report(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """What would be frozen."""
        would = claim["state"] in (ContainerState.RUNNING, ContainerState.RESTARTING)
        message = (
            f"{called(claim)} would be paused{returns(claim)}; nothing was touched"
            if would
            else f"would do nothing: {called(claim)} is {claim['state']}"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=outputs_of(claim))

    def lost(self, held: Values, host: Host) -> str:
        """It runs again, or has ended."""
        facts = runtimes(host).inspect(ref_of(held))
        if facts is None:
            return "the container was removed"
        if not same_run(held, facts):
            return f"it was started again at {facts.started_at_ns} ns, and is not paused"
        return "" if facts.state is ContainerState.PAUSED else f"it is {facts.state.value}"

    def _paused(self, claim: Values, *, cause: str = "action") -> Report:
        detail = "it stands still"
        return self.report(
            Outcome.COMPLETED,
            "paused",
            f"{called(claim)} was paused: {detail}",
            outputs=outputs_of(claim),
            post_condition=PostCondition("paused", holds=True, detail=detail),
            effect_holds=True,
            cause=cause,
        )

    def _idle(self, claim: Values) -> Report:
        return self.nothing(claim, "not_running", "nothing of it runs that could be frozen")
