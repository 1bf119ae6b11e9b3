"""kill_container: SIGKILL to all of one run of a container, its restart policy disabled first so that it stays dead.

Run by the node worker in the containment lane; the steps are ``workers.actions.base.container_end``'s. Where the
container's runtime does not answer, the kernel kills at once, and the outcome is UNKNOWN ``restart_pending`` until the
runtime answers: its restart policy may have started the container again, and may do so at any later time. Then the run
that the policy started is ended and the policy taken away. Must never kill any other run that the claim does not name.
"""

from typing import Final

from workers.actions.base import Begun, Done, Job, NoParameters, Pending, Probe
from workers.actions.base.container import ContainerClaim, refusal, runtimes
from workers.actions.base.container_end import WAIT_S, Ending, await_end
from workers.domain.errors import TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.retry import settle_by_ns
from workers.domain.targets.container import ContainerFacts, RestartPolicy, orchestrator, will_return
from workers.host.containers.ports import ContainerHandle, Refusal
from workers.host.ports import Host

_AGAIN_S: Final = 5.0
"""Between two questions to a runtime that hangs, each of at most a second: a run that it starts when it goes on lives
so long at most."""
_RETURN_S: Final = 1.5
"""How long a container that no trusted runtime serves is watched after its end: Podman without a daemon restarts
within a second."""


class KillContainer(Ending[NoParameters]):
    """Kills one container."""

    name = "kill_container"
    summary = "Kill a container with SIGKILL, its restart policy disabled first so that it stays dead"
    drawbacks = (
        "Its processes get no chance to save, flush or clean up; their memory is lost as evidence.",
        "Kubernetes, Swarm, Nomad, ECS and systemd start another in its place; Compose does at its next up.",
        "A container that is removed when it ends takes its writable layer with it.",
        "While its runtime does not answer it is killed all the same, but may come back: UNKNOWN until that is known.",
        "Podman before 5 cannot change a restart policy: podman-restart.service may bring it back at boot.",
    )
    parameters = NoParameters
    failpoints = ("kill_container.restrained", "kill_container.asked")
    """Right after the restart policy was taken away; right after the runtime took the kill."""
    done = "killed"

    def end(
        self, job: Job[NoParameters], host: Host, container: ContainerHandle, facts: ContainerFacts
    ) -> Refusal | None:
        """SIGKILL."""
        return container.kill()

    def execute(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """As every ending; of a runtime that did not answer, then what keeps it ended."""
        if not _may_return(claim):
            report = super().execute(job, claim, host)
            ended = report.outcome is Outcome.COMPLETED
            return (self._back_soon(claim, host) if ended and claim.unserved else None) or report
        if not _over(claim, runtimes(host).open(claim.ref).inspect()):
            report = super().execute(job, claim, host)
            if report.outcome is Outcome.UNKNOWN:
                return report
        try:
            return self._kept_ended(job, claim, host)
        except TransientFailure as error:
            return self._restart_pending(claim, error.message)

    def probe(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Probe:
        """As of every ending; of a runtime that did not answer, whether it does now, and what it has made of it."""
        if not _may_return(claim):
            return super().probe(job, claim, host)
        containers = runtimes(host)
        present = containers.open(claim.ref).inspect()
        if not _over(claim, present):
            return super().probe(job, claim, host)
        try:
            served = containers.served(claim.container_id)
        except TransientFailure as error:
            overdue = host.clock.now_ns() > settle_by_ns(job.command, job.command.timeout_s)
            if error.reason == "no_runtime" and overdue:
                return Done(self._restart_unknown(claim, error.message))
            return Pending(self._restart_pending(claim, error.message, runs=present is not None), within_s=_AGAIN_S)
        if served is None:
            return Done(self._ended(claim, None) if present is None else self._back(claim, present, ""))
        if served.policy.restarts:
            return Begun()
        if not served.alive:
            return Done(self._ended(claim, served))
        if present is None:
            why = "its runtime answers, and has not noticed its end yet"
            return Pending(self._restart_pending(claim, why), within_s=_AGAIN_S)
        return Done(self._back(claim, served, ""))

    def _kept_ended(self, job: Job[NoParameters], claim: ContainerClaim, host: Host) -> Report:
        """End what its restart policy has started since, then take the policy away. In this order a crash between the
        two leaves the policy, by which the probe knows that the run was the policy's. Raises as ``execute``."""
        containers = runtimes(host)
        served = containers.served(claim.container_id)
        if served is None or not served.policy.restarts:
            return self._restart_pending(claim, "its runtime is asked once more")
        container, began_ns = containers.open(served.ref), served.started_at_ns
        if served.alive:
            refused = container.kill()
            host.failpoints.reach("kill_container.asked")
            left_s = max(0.0, (job.deadline_ns - host.clock.now_ns()) / 1e9)
            after = await_end(container, host.clock, started_at_ns=began_ns, timeout_s=min(WAIT_S, left_s))
            if after is not None and after.alive:
                if refused is not None:
                    raise refusal(refused, claim)
                return self._restart_pending(claim, "the run that its restart policy began has not ended yet")
        refused = container.restrain(RestartPolicy())
        host.failpoints.reach("kill_container.restrained")
        after = container.inspect()
        if after is not None and after.alive:
            return self._restart_pending(claim, "its restart policy has just started it once more")
        if refused is not None and refused.may_pass:
            raise refusal(refused, claim)
        kept = refused.message if refused is not None else ""
        return self._settled(claim, after, served, kept)

    def _settled(
        self, claim: ContainerClaim, after: ContainerFacts | None, served: ContainerFacts, kept: str
    ) -> Report:
        """Its runtime answers again, and it is ended. ``served`` is what the runtime showed before."""
        policy = served.policy.name
        stays = f"its restart policy {policy!r} stays ({kept}), and may bring it back at boot" if kept else ""
        detail = stays or f"its runtime answers again, and its restart policy {policy!r} is taken away"
        also = will_return(orchestrator(served.labels))
        if served.alive:
            detail += "; a run that the policy had begun meanwhile was ended too"
        disabled = after is not None and not after.policy.restarts
        return self.report(
            Outcome.COMPLETED,
            self.done,
            f"{claim} was {self.done}: its run is over; {detail}{f'; {also}' if also else ''}",
            outputs=self.outputs_of(claim)
            | {"restart_policy": policy, "restart_maximum": served.policy.maximum, "restart_disabled": disabled},
            post_condition=PostCondition("run_over", holds=True, detail=detail),
        )

    def _restart_pending(self, claim: ContainerClaim, why: str, *, runs: bool = False) -> Report:
        """Ended, and not known to stay so."""
        state = "but it was started again" if runs else "but it may be started again"
        promise = "once its runtime answers, its restart policy is taken away, and a run that it began is ended"
        return self.report(
            Outcome.UNKNOWN,
            "restart_pending",
            f"{claim} was {self.done}, {state} ({why}); {promise}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("stays_ended", holds=False, detail=why),
        )

    def _restart_unknown(self, claim: ContainerClaim, why: str) -> Report:
        """There is no runtime to ask, and none has come in time."""
        return self.report(
            Outcome.PARTIAL,
            "restart_unknown",
            f"{claim} was {self.done}, and whoever started it may start it again: {why}; mount its runtime's socket",
            outputs=self.outputs_of(claim) | {"restart_disabled": False},
            post_condition=PostCondition("stays_ended", holds=False, detail=why),
        )

    def _back_soon(self, claim: ContainerClaim, host: Host) -> Report | None:
        """Whether a container that no trusted runtime serves comes back at once, as a user's Podman lets it."""
        if claim.orchestrator == "kubernetes":
            return None
        container = runtimes(host).open(claim.ref)
        until_ns = host.clock.monotonic_ns() + round(_RETURN_S * 1e9)
        while host.clock.monotonic_ns() < until_ns:
            facts = container.inspect()
            if facts is not None and facts.alive:
                return self._back(claim, facts, "")
            host.clock.sleep(0.1)
        return None


def _may_return(claim: ContainerClaim) -> bool:
    """Whether a runtime that did not answer may start it again. A kubelet never starts the same container again."""
    return claim.unheard and claim.orchestrator != "kubernetes"


def _over(claim: ContainerClaim, present: ContainerFacts | None) -> bool:
    """Whether the claimed run is over, by what the kernel shows of the container now."""
    return present is None or not present.alive or not claim.is_run_of(present)
