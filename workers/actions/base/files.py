"""What the actions on files share: the claim on a path, which may be inside a container, and which run that is.

Called by the actions on files; knows the domain and ports only. As with the actions on containers, an id of at least 12
digits means one container, and its run is the one that was there when it was seen (``domain.targets.container``).
"""

from dataclasses import dataclass
from typing import Final, TypedDict

from workers.actions.base import FieldSpec
from workers.actions.base.container import runtimes
from workers.domain.errors import CommandRejected
from workers.domain.target import FileTarget
from workers.domain.targets.container import ContainerFacts, ContainerRef, choose, protection
from workers.domain.targets.file import Enclosure, FileFacts, FileIdentity
from workers.host.ports import Host
from workers.settings import ActionSettings, setting

MOUNTS: Final = ("/var/run/docker.sock", "/run/podman/podman.sock")
"""Sockets of the runtimes, which know the run that a container has."""

CONTAINER: Final = (
    FieldSpec("container_id", "string", "Id of the container that the path is in; empty for a path of the host"),
    FieldSpec("container_started_at", "integer", "When the container's run started; 0 for a path of the host"),
)


class FileSettings(ActionSettings):
    """A switch, and the largest file that is taken."""

    max_file_size_mb: int = setting(50, minimum=1, maximum=1_048_576)
    """A larger file is refused before anything is read."""


class ContainerFields(TypedDict):
    """The container of a claim on a path; empty for a path of the host."""

    container_id: str
    container_runtime: str
    container_started_at: int
    container_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PathClaim:
    """The claim on a path, with what all actions on files share."""

    path: str
    container_id: str = ""
    container_runtime: str = ""
    container_started_at: int = 0
    container_pid: int = 0

    @property
    def enclosure(self) -> Enclosure | None:
        """The run that it is in; None for a path of the host."""
        if not self.container_id:
            return None
        return Enclosure(self.container_id, self.container_started_at, self.container_pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileClaim(PathClaim):
    """The claim on the file that had the path."""

    device: int
    inode: int
    size: int
    modified_at: int
    changed_at: int
    identity: str

    @property
    def file(self) -> FileIdentity:
        """Device and inode as the kernel has them."""
        return FileIdentity(self.device % (1 << 64), self.inode % (1 << 64))

    def unchanged(self, facts: FileFacts) -> bool:
        """Whether a file has the size and the times of the claim."""
        claimed = (self.size, self.modified_at, self.changed_at)
        return claimed == (facts.size, facts.mtime_ns, facts.ctime_ns)


def signed(number: int) -> int:
    """An unsigned 64-bit number as the journal holds it: in two's complement."""
    return number - (1 << 64) if number >= 1 << 63 else number


def container_fields(target: FileTarget, host: Host, *, spare_protected: bool) -> ContainerFields:
    """The container that a target names, for its claim.

    Raises:
        CommandRejected: as ``choose``; ``protected_target``, ``container_not_running``, ``no_runtime``.
        TransientFailure: its runtime does not answer.
    """
    if not target.container_id:
        return _fields(None)
    containers, now_ns = runtimes(host), host.clock.now_ns()
    found = containers.find(target.container_id)
    facts = choose(found, target.container_id, observed_at_ns=target.observed_at_ns, now_ns=now_ns)
    reason = protection(facts, own_ids=containers.own_ids(), own_line=host.processes.own_line())
    if spare_protected and reason is not None:
        raise CommandRejected(
            f"container {facts.ref.id[:12]} is protected on this node: {reason}", code="protected_target"
        )
    if facts.owner != 0:  # which process is its init, only that user's runtime states
        raise CommandRejected(
            f"container {facts.ref.id[:12]} is one of user {facts.owner}'s own runtime; ask for its files by their "
            "path on the host",
            code="container_of_user",
        )
    return _fields(_running(facts))


def present_run(container_id: str, runtime: str, host: Host) -> Enclosure:
    """The run that a container has now, also if it is a later one.

    Raises:
        CommandRejected: ``container_gone``, ``container_not_running``.
        TransientFailure: its runtime does not answer.
    """
    facts = runtimes(host).open(ContainerRef(runtime, container_id)).inspect()
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


def _fields(facts: ContainerFacts | None) -> ContainerFields:
    return {
        "container_id": facts.ref.id if facts is not None else "",
        "container_runtime": facts.ref.runtime if facts is not None else "",
        "container_started_at": facts.started_at_ns if facts is not None else 0,
        "container_pid": facts.pid if facts is not None else 0,
    }
