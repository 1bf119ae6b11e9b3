"""stop_container and start_container: stop a container without a restart, and start it again to undo that.

Run by the node worker in the containment lane. A stop is the container's own stop signal, then SIGKILL after a grace;
its steps are in ``base.container_end``. The undo takes container and restart policy from this node's own journal; it
starts first and gives the restart policy back last, so that one that cannot be started stays contained. Must never stop
a run that the claim does not name, nor start one that has run and ended since.
"""

from dataclasses import dataclass, replace
from typing import Final

from workers.actions.base import Begun, Done, Effect, Job, NoParameters, NotDone, Pending, Probe, parameter
from workers.actions.base.container import (
    MAY_ACT_YET,
    ContainerAction,
    ContainerClaim,
    claim_on_run,
    refusal,
    runtimes,
)
from workers.actions.base.container_end import Ending
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.targets.container import ContainerFacts, ContainerState
from workers.host.containers.ports import ContainerHandle, Refusal
from workers.host.ports import Host

_SPARE_S: Final = 5
"""What must be left of a run's time when its grace is over: the runtime's own limit beyond it."""


@dataclass(frozen=True, slots=True)
class StopParameters:
    """Its parameters."""

    grace_s: int = parameter(
        "Seconds between the stop signal and SIGKILL; less where the action's time is shorter", default=10, maximum=3600
    )


class StopContainer(Ending[StopParameters]):
    """Stops one container."""

    name = "stop_container"
    summary = "Stop a container: its stop signal, SIGKILL after a grace, and no restart until this is undone"
    drawbacks = (
        "During the grace an intruder in it goes on, and is warned; kill_container does not wait.",
        "Kubernetes, Swarm, Nomad, ECS and systemd start another in its place; Compose does at its next up.",
        "A container that is removed when it ends takes its writable layer with it, and cannot be started again.",
        "Podman before 5 cannot change a restart policy: podman-restart.service may bring it back at boot.",
    )
    parameters = StopParameters
    failpoints = ("stop_container.restrained", "stop_container.asked")
    """Right after the restart policy was taken away; right after the runtime answered the stop."""
    reversible_by = "start_container"
    needs_runtime = True
    done = "stopped"

    def end(
        self, job: Job[StopParameters], host: Host, container: ContainerHandle, facts: ContainerFacts
    ) -> Refusal | None:
        """Stop it. What is paused or between two runs can take no signal: that is killed, without a useless grace."""
        if facts.state is not ContainerState.RUNNING:
            return container.kill()
        left_s = (job.deadline_ns - host.clock.now_ns()) // 1_000_000_000 - _SPARE_S
        return container.stop(grace_s=max(0, min(job.parameters.grace_s, left_s)))

    def holds(self, claim: ContainerClaim) -> str:
        """The run that was stopped, or would have been."""
        return f"{claim.container_id}/{claim.started_at}"

    def lost(self, effect: Effect[ContainerClaim], host: Host) -> str:
        """It was started again, or removed."""
        facts = runtimes(host).open(effect.claim.ref).inspect()
        if facts is None:
            return "the container was removed"
        if not facts.alive and effect.claim.is_run_of(facts):
            return ""
        if effect.claim.is_run_of(facts):
            return f"it is {facts.state.value}: the run that was to be stopped goes on"
        why = f"it was started again at {facts.started_at_ns} ns by another program"
        if not facts.alive:
            why += ", and has ended since"
        if effect.outputs.get("restart_disabled") and not facts.policy.restarts:
            why += f"; its restart policy {effect.claim.restart_policy!r} was not given back"
        return why

    def weakened(self, effect: Effect[ContainerClaim], host: Host) -> str:
        """It has a restart policy again, by which its runtime may start it."""
        facts = runtimes(host).open(effect.claim.ref).inspect()
        taken = effect.outputs.get("restart_disabled") or not effect.claim.policy.restarts
        if facts is None or not taken or not facts.policy.restarts:
            return ""
        return f"another program gave it the restart policy {facts.policy.name!r}, by which its runtime may start it"

    def why_irreversible(self, claim: ContainerClaim) -> str:
        """By Kubernetes: until an undo could come the kubelet has made another container, and removed this one."""
        if claim.orchestrator == "kubernetes":
            return "its orchestrator has replaced it by then"
        return "" if claim.starts_again else "its runtime cannot start it again once it has ended"


class StartContainer(ContainerAction[NoParameters]):
    """Starts one stopped container again."""

    name = "start_container"
    summary = "Start a stopped container again, with the restart policy that it had"
    drawbacks = (
        "What made it dangerous is back with it.",
        "It begins anew: what its processes held in memory is gone.",
    )
    parameters = NoParameters
    failpoints = ("start_container.started", "start_container.released")
    """Right after the runtime started it; right after it had its restart policy again."""
    undo_only = True

    def bind(self, job: Job[NoParameters], host: Host) -> ContainerClaim:
        """The container as it is now, and the policy to give back."""
        stopped, facts = self.undone(job, host)
        if not facts.alive and not stopped.is_run_of(facts):
            raise CommandRejected(f"{stopped} was started since, and has ended again by other means", code="superseded")
        claim = claim_on_run(facts)
        if job.undoes is not None and job.undoes.outputs.get("restart_disabled"):
            return replace(claim, restart_policy=stopped.restart_policy, restart_maximum=stopped.restart_maximum)
        return claim

    def execute(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """Start it, look whether it did, and give its restarts back."""
        container = runtimes(host).open(claim.ref)
        facts = container.inspect()
        if facts is None:
            return self._gone(claim)
        if not _started(claim, facts):
            refused = container.start()
            host.failpoints.reach("start_container.started")
            facts = container.inspect()
            if facts is None:
                return self._gone(claim)
            if not _started(claim, facts):
                if refused is None:
                    raise TransientFailure(f"{claim} did not start, and its runtime gives no reason")
                raise refusal(refused, claim)
        elif not claim.alive and not facts.alive:
            return self.superseded(claim, facts)
        touched = not claim.alive
        policy = claim.policy
        if facts.policy != policy:
            touched = True
            refused = container.restrain(policy)
            host.failpoints.reach("start_container.released")
            if refused is not None:
                raise refusal(refused, claim)
        return self._running(claim, facts) if touched else self.nothing(claim, "already_running", "it runs already")

    def probe(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Probe:
        """A newer run, with its policy, is done."""
        try:
            facts = runtimes(host).open(claim.ref).inspect()
        except TransientFailure as error:
            return Pending(self.silent(claim, error.message))
        if facts is None:
            return Done(self._gone(claim))
        if facts.unsettled:
            return Pending(self.silent(claim, MAY_ACT_YET))
        if not _started(claim, facts):
            return NotDone()
        if facts.policy == claim.policy:
            return Done(self._running(claim, facts, cause="unproven"))
        return NotDone() if claim.alive else Begun()

    def dry_run_report(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """What would be started."""
        policy = claim.policy
        message = f"{claim} would be started, with restart policy {policy.name!r}; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def _running(self, claim: ContainerClaim, facts: ContainerFacts, *, cause: str = "action") -> Report:
        detail = (
            f"it runs since {facts.started_at_ns} ns"
            if facts.alive
            else f"it was started at {facts.started_at_ns} ns, and has ended again by itself"
        )
        by = "had been started by another program" if claim.alive else "was started"
        return self.report(
            Outcome.COMPLETED,
            "started",
            f"{claim} {by}: {detail}; its restart policy is {claim.policy.name!r}",
            outputs=self.outputs_of(claim) | {"started_at": facts.started_at_ns, "pid": facts.pid},
            post_condition=PostCondition("newer_run", holds=True, detail=detail),
            cause=cause,
        )

    def _gone(self, claim: ContainerClaim) -> Report:
        message = f"{claim} was removed, so there is nothing to start"
        return self.report(Outcome.FAILED, "container_gone", message, outputs=self.outputs_of(claim))


def _started(claim: ContainerClaim, facts: ContainerFacts) -> bool:
    return facts.alive or not claim.is_run_of(facts)
