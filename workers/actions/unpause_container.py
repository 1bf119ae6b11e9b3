"""unpause_container: a paused container goes on where it stood.

Run by the node worker as the undo of ``pause_container`` and in no other way: which container, and which run, stands in
this node's own journal. Must never touch a run that was not paused by it.
"""

from typing import Final

from workers.actions.base import Done, Job, NoParameters, NotDone, Pending, Probe
from workers.actions.base.container import MAY_ACT_YET, ContainerAction, outputs_of, refusal, runtimes
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.targets.container import ContainerState, bound, called, ref_of, same_run
from workers.host.ports import Host

FAILPOINTS: Final = ("unpause_container.asked",)
"""Right after the runtime answered."""


class UnpauseContainer(ContainerAction[NoParameters]):
    """Unpauses one container."""

    name = "unpause_container"
    summary = "Let a paused container go on where it stood"
    drawbacks = (
        "What made it dangerous goes on with it.",
        "Connections that timed out meanwhile stay broken.",
    )
    parameters = NoParameters
    undo_only = True

    def bind(self, job: Job[NoParameters], host: Host) -> Values:
        """The paused run, if it is that still."""
        facts = self.undone(job, host)
        if not same_run(job.undoes, facts):
            raise CommandRejected(
                f"{called(job.undoes)} was started again since, and its pause was lost then", code="superseded"
            )
        if not facts.alive:
            raise CommandRejected(f"{called(job.undoes)} has ended since", code="nothing_to_revert")
        return bound(facts)

    def execute(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """Thaw it, and look whether it runs."""
        containers, ref = runtimes(host), ref_of(claim)
        facts = containers.inspect(ref)
        if facts is None:
            return self.gone(claim)
        if not same_run(claim, facts):
            return self.superseded(claim, facts)
        if facts.state is not ContainerState.PAUSED:
            return self._not_paused(claim)
        refused = containers.unpause(ref)
        host.failpoints.reach("unpause_container.asked")
        facts = containers.inspect(ref)
        if facts is None:
            return self.gone(claim)
        if not same_run(claim, facts):
            return self.superseded(claim, facts)
        if facts.state is not ContainerState.PAUSED:
            return self._running(claim)
        if refused is None:
            raise TransientFailure(f"{called(claim)} is still paused, and its runtime gives no reason")
        raise refusal(refused, claim)

    def probe(self, job: Job[NoParameters], claim: Values, host: Host) -> Probe:
        """Running is done, another run is superseded."""
        if claim["state"] != ContainerState.PAUSED:
            return Done(self._not_paused(claim))
        try:
            facts = runtimes(host).inspect(ref_of(claim))
        except TransientFailure as error:
            return Pending(self.silent(claim, error.message))
        if facts is None:
            return Done(self.gone(claim))
        if not same_run(claim, facts):
            return Done(self.superseded(claim, facts))
        if facts.state is not ContainerState.PAUSED:
            return Done(self._running(claim, cause="unproven"))
        return Pending(self.silent(claim, MAY_ACT_YET)) if facts.unsettled else NotDone()

    def dry_run_report(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """What would go on."""
        message = f"{called(claim)} would go on; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=outputs_of(claim))

    def _running(self, claim: Values, *, cause: str = "action") -> Report:
        detail = "it is not paused any more"
        return self.report(
            Outcome.COMPLETED,
            "unpaused",
            f"{called(claim)} goes on: {detail}",
            outputs=outputs_of(claim),
            post_condition=PostCondition("not_paused", holds=True, detail=detail),
            cause=cause,
        )

    def _not_paused(self, claim: Values) -> Report:
        return self.nothing(claim, "not_paused", "it is not paused")
