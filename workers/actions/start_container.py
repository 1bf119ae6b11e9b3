"""start_container: a stopped container runs again, and has the restart policy that it had.

Run by the node worker as the undo of ``stop_container`` and in no other way: which container, and which policy, stands
in this node's own journal. Starts first and gives the restarts back last, so that one which cannot be started stays
contained. Must never start one that ran and ended since by somebody else's hand.
"""

from typing import Final

from workers.actions.base import Begun, Done, Job, NoParameters, NotDone, Pending, Probe
from workers.actions.base.container import MAY_ACT_YET, ContainerAction, outputs_of, refusal, runtimes
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.targets.container import ContainerFacts, bound, called, policy_of, ref_of, same_run
from workers.host.ports import Host

FAILPOINTS: Final = ("start_container.started", "start_container.released")
"""Right after the runtime started it; right after it had its restart policy again."""


class StartContainer(ContainerAction[NoParameters]):
    """Starts one stopped container again."""

    name = "start_container"
    summary = "Start a stopped container again, with the restart policy that it had"
    drawbacks = (
        "What made it dangerous is back with it.",
        "It begins anew: what its processes held in memory is gone.",
    )
    parameters = NoParameters
    undo_only = True

    def bind(self, job: Job[NoParameters], host: Host) -> Values:
        """The container as it is now, and the policy to give back."""
        facts = self.undone(job, host)
        if not facts.alive and not same_run(job.undoes, facts):
            raise CommandRejected(
                f"{called(job.undoes)} was started since, and has ended again without us", code="superseded"
            )
        claim = bound(facts)
        if job.undoes.get("restart_disabled"):
            claim |= {name: job.undoes[name] for name in ("restart_policy", "restart_maximum")}
        return claim

    def execute(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """Start it, look whether it did, and give its restarts back."""
        containers, ref = runtimes(host), ref_of(claim)
        facts = containers.inspect(ref)
        if facts is None:
            return self._gone(claim)
        if not _started(claim, facts):
            refused = containers.start(ref)
            host.failpoints.reach("start_container.started")
            facts = containers.inspect(ref)
            if facts is None:
                return self._gone(claim)
            if not _started(claim, facts):
                if refused is None:
                    raise TransientFailure(f"{called(claim)} did not start, and its runtime gives no reason")
                raise refusal(refused, claim)
        elif not self.alive_at_claim(claim) and not facts.alive:
            return self.superseded(claim, facts)
        touched = not self.alive_at_claim(claim)
        policy = policy_of(claim)
        if facts.policy != policy:
            touched = True
            refused = containers.restrain(ref, policy)
            host.failpoints.reach("start_container.released")
            if refused is not None:
                raise refusal(refused, claim)
        return self._running(claim, facts) if touched else self.nothing(claim, "already_running", "it runs already")

    def probe(self, job: Job[NoParameters], claim: Values, host: Host) -> Probe:
        """A newer run, with its policy, is done."""
        try:
            facts = runtimes(host).inspect(ref_of(claim))
        except TransientFailure as error:
            return Pending(self.silent(claim, error.message))
        if facts is None:
            return Done(self._gone(claim))
        if facts.unsettled:
            return Pending(self.silent(claim, MAY_ACT_YET))
        if not _started(claim, facts):
            return NotDone()
        if facts.policy == policy_of(claim):
            return Done(self._running(claim, facts, cause="unproven"))
        return NotDone() if self.alive_at_claim(claim) else Begun()

    def dry_run_report(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """What would be started."""
        policy = policy_of(claim)
        message = f"{called(claim)} would be started, with restart policy {policy.name!r}; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=outputs_of(claim))

    def _running(self, claim: Values, facts: ContainerFacts, *, cause: str = "action") -> Report:
        detail = (
            f"it runs since {facts.started_at_ns} ns"
            if facts.alive
            else f"it was started at {facts.started_at_ns} ns, and has ended again by itself"
        )
        return self.report(
            Outcome.COMPLETED,
            "started",
            f"{called(claim)} was started: {detail}; its restart policy is {policy_of(claim).name!r}",
            outputs=outputs_of(claim) | {"started_at": facts.started_at_ns, "pid": facts.pid},
            post_condition=PostCondition("newer_run", holds=True, detail=detail),
            cause=cause,
        )

    def _gone(self, claim: Values) -> Report:
        message = f"{called(claim)} was removed, so there is nothing to start"
        return self.report(Outcome.FAILED, "container_gone", message, outputs=outputs_of(claim))


def _started(claim: Values, facts: ContainerFacts) -> bool:
    return facts.alive or not same_run(claim, facts)
