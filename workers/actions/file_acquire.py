"""file_acquire: copy a file's content, as it is now, to the object store, with the proof of where it came from.

Run by the node worker in the gathering lane. The upload from the spool to the store is in ``base.gathering``; here is
which file may be read, and what its custody record has. Must never read what is not a regular file, nor what is secret
without two people's approval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from workers.actions.base import FieldSpec, Job, parameter
from workers.actions.base.files import CONTAINER, MOUNTS, FileClaim, FileSettings, PathClaim, container_fields, signed
from workers.actions.base.gathering import OBJECT, GatheringAction, failpoints_of, stores
from workers.domain.errors import CommandRejected, PermanentFailure
from workers.domain.outcome import Outcome, Report, Values
from workers.domain.pace import Pace
from workers.domain.target import FileTarget, ReviewedFile
from workers.domain.targets.custody import Custody
from workers.domain.targets.file import FileFacts, FileKind, Location, shown
from workers.domain.targets.protected_files import is_remote
from workers.domain.targets.secret_files import secrecy, untouchable
from workers.host.evidence.ports import Spool
from workers.host.ports import Host
from workers.settings import setting

_TWO: Final = "two"


@dataclass(frozen=True, slots=True)
class AcquireParameters:
    """Its parameters."""

    allow_remote: bool = parameter("Also on network and FUSE filesystems, which may never answer", default=False)


class AcquireSettings(FileSettings):
    """A switch, a limit, and what a copy must leave free."""

    reserve_mb: int = setting(256, minimum=0, maximum=1_073_741_824)
    """What must stay free on the data directory's filesystem beside the copy that waits there for its upload."""


class FileAcquire(GatheringAction[AcquireParameters, FileClaim]):
    """Acquires one file."""

    name = "file_acquire"
    summary = "Copy a file to the object store, with a signed record of where it came from"
    drawbacks = (
        "Its content leaves the machine: anyone who may download acquired files can read it.",
        "Of a file that is being written to, the copy has what could be read.",
        "It costs disk, network and time; nothing is contained by it.",
    )
    target = FileTarget
    parameters = AcquireParameters
    claims = (FileClaim,)
    settings = AcquireSettings
    failpoints = failpoints_of("file_acquire")
    outputs = (
        FieldSpec("path", "string", "Where the content was read"),
        *OBJECT,
        FieldSpec("mode", "integer", "Permission bits"),
        FieldSpec("user_id", "integer", "Its owner's user id"),
        FieldSpec("group_id", "integer", "Its group id"),
        FieldSpec("modified_at", "integer", "When it was last written to, nanoseconds since the epoch"),
        FieldSpec("links", "integer", "Hard links it has"),
        FieldSpec("identity", "string", "How it was identified: reviewed or path_at_intake"),
        FieldSpec("content_changed", "boolean", "It was written to between intake and copy; it was taken as found"),
        *CONTAINER,
    )
    privileges = ("DAC_READ_SEARCH", "FOWNER", "SYS_PTRACE")
    mounts = MOUNTS
    example: ClassVar[Mapping[str, Any]] = {
        "target": FileTarget(path=b"/tmp/xmrig", observed_at_ns=1_783_198_004_180_672_852),
        "parameters": {"allow_remote": True},
    }

    def admit(self, job: Job[AcquireParameters], host: Host) -> None:
        """Refuse what can be refused without reading the file; ``bind`` reads it once, and refuses by identity and
        secrecy."""
        _target_and_spool(job, host)

    def bind(self, job: Job[AcquireParameters], host: Host) -> FileClaim:
        """The file that has the path now."""
        target, spool = _target_and_spool(job, host)
        container = container_fields(target, host, spare_protected=False)
        path = PathClaim(path=shown(target.path), **container)
        facts = spool.examine(_location(job, target, path))
        if facts is None:
            raise CommandRejected(f"there is no {path.path}", code="missing")
        _refuse(facts, target.path, job, spool)
        if target.reviewed is not None and (changed := _differs(facts, target.reviewed)):
            raise CommandRejected(
                f"its {changed} is not what was reviewed; review it again and send a new request", code="target_changed"
            )
        return FileClaim(
            path=path.path,
            device=signed(facts.identity.device),
            inode=signed(facts.identity.inode),
            size=facts.size,
            modified_at=facts.mtime_ns,
            changed_at=facts.ctime_ns,
            identity="path_at_intake" if target.reviewed is None else "reviewed",
            **container,
        )

    def take(self, job: Job[AcquireParameters], claim: FileClaim, host: Host, spool: Spool, pace: Pace) -> Custody:
        """A copy of its content."""
        target, _ = _target_and_spool(job, host)
        spool.check_capacity(claim.size)
        location = _location(job, target, claim)
        copy = spool.copy(job.command.command_id, location, claim.file, pace=pace)
        if copy is None:
            raise PermanentFailure("another file, or none, has its name now; nothing was taken", code="target_changed")
        reviewed, facts = target.reviewed, copy.facts
        if reviewed is not None and (copy.sha256, copy.size) != (reviewed.sha256, reviewed.size):
            raise PermanentFailure("its content is not what was reviewed", code="target_changed")
        return self.custody(
            job,
            host,
            size=copy.size,
            sha256=copy.sha256,
            path=target.path,
            file=facts.identity,
            mode=facts.mode,
            uid=facts.uid,
            gid=facts.gid,
            links=facts.links,
            mtime_ns=facts.mtime_ns,
            ctime_ns=facts.ctime_ns,
            content_changed=not (copy.steady and claim.unchanged(facts)),
            container_id=claim.container_id,
            run_started_at_ns=claim.container_started_at,
            root=facts.root,
        )

    def size_of(self, claim: FileClaim) -> int:
        """As the file was at the claim."""
        return claim.size

    def dry_run_report(self, job: Job[AcquireParameters], claim: FileClaim, host: Host) -> Report:
        """What would be copied."""
        message = f"would copy {claim.path} ({claim.size} bytes) to the object store; nothing was read"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def subject(self, claim: FileClaim) -> str:
        """The file."""
        return claim.path

    def custody_outputs(self, claim: FileClaim, custody: Custody) -> Values:
        """What the file was."""
        return {
            "mode": custody.mode,
            "user_id": custody.uid,
            "group_id": custody.gid,
            "modified_at": custody.mtime_ns,
            "links": custody.links,
            "content_changed": custody.content_changed,
            "container_id": custody.container_id,
            "container_started_at": custody.run_started_at_ns,
        }


def _target_and_spool(job: Job[AcquireParameters], host: Host) -> tuple[FileTarget, Spool]:
    target = job.target
    if not isinstance(target, FileTarget):
        raise CommandRejected("file_acquire needs a file as its target", code="invalid_target")
    return target, stores(host)[0]


def _location(job: Job[AcquireParameters], target: FileTarget, claim: PathClaim) -> Location:
    return Location(target.path, claim.enclosure, job.parameters.allow_remote)


def _refuse(facts: FileFacts, path: bytes, job: Job[AcquireParameters], spool: Spool) -> None:
    """What must not or cannot be read. Nothing was opened."""
    reason = untouchable(facts, spool.own_paths())
    if reason is not None:
        raise CommandRejected(f"the file may not be read through this node: {reason}", code="protected_target")
    if facts.kind is not FileKind.REGULAR:
        raise CommandRejected(f"it is a {facts.kind}; only regular files are taken", code="not_regular")
    if is_remote(facts.filesystem) and not job.parameters.allow_remote:
        raise CommandRejected(
            f"it is on {facts.filesystem}, which may never answer; allow_remote takes it all the same",
            code="remote_filesystem",
        )
    if facts.size > spool.largest:
        raise CommandRejected(
            f"it has {facts.size} bytes; this node takes at most {spool.largest} (file_acquire.max_file_size_mb)",
            code="too_large",
        )
    secret = secrecy(facts, path, spool.secret_paths())
    if secret is not None and job.command.approval_class != _TWO:
        raise CommandRejected(
            f"the file is secret: {secret}; taking it needs two people's signatures, which this version cannot verify "
            "yet",
            code="approval_missing",
        )


def _differs(facts: FileFacts, reviewed: ReviewedFile) -> str:
    """The first thing that is not as it was reviewed; empty when all is. The content is compared when it is read."""
    pairs: tuple[tuple[str, int, int], ...] = (
        ("device", facts.identity.device, reviewed.device),
        ("inode", facts.identity.inode, reviewed.inode),
        ("size", facts.size, reviewed.size),
        ("modification time", facts.mtime_ns, reviewed.mtime_ns),
        ("change time", facts.ctime_ns, reviewed.ctime_ns),
    )
    return next((name for name, now, then in pairs if now != then), "")
