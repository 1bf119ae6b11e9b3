"""stop_container: a container's own stop signal, SIGKILL after a grace, and no restart until the stop is undone.

Run by the node worker in the containment lane; the steps are ``workers.actions.base.container_end``'s. Undone by
``start_container``, which finds in this node's journal what was taken away. Must never stop a run that the claim does
not name.
"""

from dataclasses import dataclass
from typing import Final

from workers.actions.base import Job, parameter
from workers.actions.base.container import runtimes
from workers.actions.base.container_end import Ending
from workers.domain.outcome import Values
from workers.domain.targets.container import ContainerFacts, ContainerState
from workers.host.containers.ports import Refusal
from workers.host.ports import Host

FAILPOINTS: Final = ("stop_container.restrained", "stop_container.asked")
"""Right after the restart policy was taken away; right after the runtime answered the stop."""

_SPARE_S: Final = 5
"""What must be left of a run's time when its grace is over: the runtime's own limit beyond it (SAFETY D15)."""


@dataclass(frozen=True, slots=True)
class StopParameters:
    """What may be chosen."""

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
    reversible_by = "start_container"
    needs_runtime = True
    done = "stopped"

    def ask(self, job: Job[StopParameters], host: Host, facts: ContainerFacts) -> Refusal | None:
        """Stop it. What is paused or between two runs can take no signal: that is killed, without waiting in vain."""
        if facts.state is not ContainerState.RUNNING:
            return runtimes(host).kill(facts.ref)
        left_s = (job.deadline_ns - host.clock.now_ns()) // 1_000_000_000 - _SPARE_S
        return runtimes(host).stop(facts.ref, grace_s=max(0, min(job.parameters.grace_s, left_s)))

    def why_irreversible(self, claim: Values) -> str:
        """By Kubernetes: until an undo could come the kubelet has made another container, and removed this one."""
        if claim["orchestrator"] == "kubernetes":
            return "its orchestrator has replaced it by then"
        return "" if claim.get("starts_again", True) else "its runtime cannot start it again once it has ended"
