"""What the actions on files share where the file is inside a container: which run is meant, and which run is there now.

Called by the actions on files; knows core and ports only. As with the actions on containers, an id of at least 12
digits means one container, and its run is the one that was there when it was seen (``domain.targets.container``).
"""

from typing import Final

from workers.actions.base import FieldSpec
from workers.actions.base.container import runtimes
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Values
from workers.domain.target import FileTarget
from workers.domain.targets.container import ContainerFacts, ContainerRef, choose, protection
from workers.domain.targets.file import Enclosure
from workers.host.ports import Host

MOUNTS: Final = ("/var/run/docker.sock", "/run/podman/podman.sock")
"""Where the runtimes are asked which run a container has."""

CONTAINER: Final = (
    FieldSpec("container_id", "string", "The container whose path it is, its whole id; empty for the host's"),
    FieldSpec("container_started_at", "integer", "When the run of it that was meant started; 0 for the host's"),
)


def enclosed(target: FileTarget, host: Host, *, spare_protected: bool) -> dict[str, str | int | bool]:
    """What a claim says of the container that a target names: nothing in it for a path of the host.

    Raises:
        CommandRejected: as ``choose``; ``protected_target``, ``container_not_running``, ``no_runtime``.
        TransientFailure: its runtime does not answer.
    """
    if not target.container_id:
        return _claim(None)
    containers, now_ns = runtimes(host), host.clock.now_ns()
    found = containers.find(target.container_id)
    facts = choose(found, target.container_id, observed_at_ns=target.observed_at_ns, now_ns=now_ns)
    reason = protection(facts, own_ids=containers.own_ids(), own_line=host.processes.own_line())
    if spare_protected and reason is not None:
        raise CommandRejected(
            f"container {facts.ref.id[:12]} is protected on this node: {reason}", code="protected_target"
        )
    if facts.owner != 0:  # whose init it is would be that user's word alone
        raise CommandRejected(
            f"container {facts.ref.id[:12]} is one of user {facts.owner}'s own runtime; ask for its files by their "
            "path on the host",
            code="container_of_user",
        )
    return _claim(_running(facts))


def enclosure_of(claim: Values) -> Enclosure | None:
    """The run of a claim; None for a path of the host."""
    if not claim.get("container_id"):
        return None
    return Enclosure(str(claim["container_id"]), int(claim["container_started_at"]), int(claim["container_pid"]))


def present_run(container_id: str, runtime: str, host: Host) -> Enclosure:
    """The run that a container has now, whichever that is.

    Raises:
        CommandRejected: ``container_gone``, ``container_not_running``.
        TransientFailure: its runtime does not answer.
    """
    facts = runtimes(host).inspect(ContainerRef(runtime, container_id))
    if facts is None:
        raise CommandRejected(
            f"container {container_id[:12]} was removed, and its files with it", code="container_gone"
        )
    return Enclosure(facts.ref.id, facts.started_at_ns, _running(facts).pid)


def _running(facts: ContainerFacts) -> ContainerFacts:
    if not facts.pid:
        raise CommandRejected(
            f"container {facts.ref.id[:12]} does not run, and its files can be reached only while it does",
            code="container_not_running",
        )
    return facts


def _claim(facts: ContainerFacts | None) -> dict[str, str | int | bool]:
    return {
        "container_id": facts.ref.id if facts is not None else "",
        "container_runtime": facts.ref.runtime if facts is not None else "",
        "container_started_at": facts.started_at_ns if facts is not None else 0,
        "container_pid": facts.pid if facts is not None else 0,
    }
