"""kill_container: SIGKILL to all of one run of a container, its restart policy disabled first so that it stays dead.

Run by the node worker in the containment lane; the steps are ``workers.actions.base.container_end``'s. Must never
kill a run that the claim does not name."""

from workers.actions.base import Job, NoParameters
from workers.actions.base.container_end import Ending
from workers.domain.targets.container import ContainerFacts
from workers.host.containers.ports import ContainerHandle, Refusal
from workers.host.ports import Host


class KillContainer(Ending[NoParameters]):
    """Kills one container."""

    name = "kill_container"
    summary = "Kill a container with SIGKILL, its restart policy disabled first so that it stays dead"
    drawbacks = (
        "Its processes get no chance to save, flush or clean up; their memory is lost as evidence.",
        "Kubernetes, Swarm, Nomad, ECS and systemd start another in its place; Compose does at its next up.",
        "A container that is removed when it ends takes its writable layer with it.",
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
