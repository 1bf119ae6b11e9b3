"""file_unquarantine: put a quarantined file back under its name, with its content and everything it had.

Run by the node worker, only as the undo of ``file_quarantine``: the file and its path come from this node's own signed
manifest, never from the bus. Nothing is ever overwritten, and under the final name there is never
a half file.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from workers.actions.base import Action, Begun, Done, FieldSpec, Job, Lane, NoParameters, NotDone, Permission, Probe
from workers.actions.base.claims import claim_with
from workers.actions.base.files import CONTAINER, MOUNTS, present_run
from workers.actions.file_quarantine.steps import POISON, QuarantineClaim, hold, take_back
from workers.domain.admission import is_approved_like
from workers.domain.errors import CommandRejected, Indeterminate, PermanentFailure, WorkerError
from workers.domain.ids import NO_EXECUTION
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.target import FileTarget
from workers.domain.targets.file import Enclosure, Location, is_privileged, shown
from workers.domain.targets.manifest import UNFINISHED, Manifest, ManifestState
from workers.host.files.ports import Occupant, RestoreHandle, Vault
from workers.host.ports import Host

_RESTORABLE: Final = (ManifestState.DONE, ManifestState.RESTORING)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreClaim:
    """The claim on a quarantined file that is to be put back."""

    path: str
    quarantined_file_path: str
    sha256: str
    size: int
    mode: int
    user_id: int
    group_id: int
    modified_at: int
    container_id: str = ""
    container_started_at: int = 0
    present: bool
    """It was in the vault; False where it had been put back before."""


class FileUnquarantine(Action[NoParameters, RestoreClaim]):
    """Restores one quarantined file."""

    name = "file_unquarantine"
    summary = "Restore a quarantined file to its path, with all its metadata"
    drawbacks = (
        "If it was malware, it is back.",
        "Its inode number and change time are new; programs that go by those take it for another file.",
        "Further hard links that it had keep the inode they have, without execute permission.",
    )
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = FileTarget
    parameters = NoParameters
    claims = (RestoreClaim,)
    failpoints = tuple(f"file_unquarantine.r{step}" for step in (0, 2, 3, 4, 5, 6, 7))
    """Right after each step. R0 records that the undo has begun, R1 looks at what has the file's name now, R2 writes
    the content, not yet under that name, R3 sets the metadata, R4 syncs, R5 links the name, R6 sets the flags, and R7
    records the end. R1 leaves nothing that R2 does not, and R8 is the journal's commit."""
    outputs = (
        FieldSpec("path", "string", "Where the file is again"),
        FieldSpec("quarantined_file_path", "string", "The object in this node's vault, which is kept"),
        FieldSpec("sha256", "string", "SHA-256 of the content, in hex"),
        FieldSpec("size", "integer", "Bytes; holes count"),
        FieldSpec("mode", "integer", "Permission bits"),
        FieldSpec("user_id", "integer", "Its owner's user id"),
        FieldSpec("group_id", "integer", "Its group id"),
        FieldSpec("modified_at", "integer", "When it was last written to, nanoseconds since the epoch"),
        *CONTAINER,
    )
    privileges = (
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "LINUX_IMMUTABLE",
        "SETFCAP",
        "SYS_PTRACE",
    )
    mounts = MOUNTS
    undo_only = True
    ttl_s = 300
    timeout_s = 60
    example: ClassVar[Mapping[str, Any]] = {
        "target": FileTarget(path=b"/tmp/xmrig", observed_at_ns=1_783_198_004_180_672_852),
        "parameters": {},
    }

    def admit(self, job: Job[NoParameters], host: Host) -> None:
        """Refuse what names no quarantine; ``bind`` reads the manifest."""
        _vault(job, host)

    def bind(self, job: Job[NoParameters], host: Host) -> RestoreClaim:
        """What would come back."""
        vault = _vault(job, host)
        manifest = _manifest(job, vault)
        if isinstance(manifest, QuarantineClaim):
            return claim_with(RestoreClaim, manifest, quarantined_file_path="", sha256="", present=False)
        if manifest.state in (ManifestState.RESTORED, ManifestState.RETURNED):
            return _claim_on(manifest, vault, present=False)
        if manifest.state not in (*UNFINISHED, *_RESTORABLE):
            raise CommandRejected(f"quarantine {manifest.execution_id} holds nothing", code="nothing_to_revert")
        _refuse_unapproved(job, manifest)
        if manifest.state in UNFINISHED:
            return _claim_on(manifest, vault, present=True)
        inside = _inside(manifest, vault, host)
        held = vault.hold_for_restore(manifest, inside)
        if held is None:
            raise CommandRejected(_no_parent(manifest), code="restore_parent_missing")
        held.close()
        location = Location(manifest.path, inside, manifest.allow_remote)
        if manifest.state is ManifestState.DONE and vault.examine(location) is not None:
            raise CommandRejected(
                f"there is another {shown(manifest.path)} now, and nothing is ever overwritten; move it away",
                code="restore_conflict",
            )
        return _claim_on(manifest, vault, present=True)

    def execute(self, job: Job[NoParameters], claim: RestoreClaim, host: Host) -> Report:
        """From wherever it stands to the end, or back to where it was."""
        vault = _vault(job, host)
        manifest = _manifest(job, vault)
        if isinstance(manifest, QuarantineClaim) or manifest.state is ManifestState.RETURNED:
            return self._has_its_name(claim)
        if not claim.present or manifest.state is ManifestState.RESTORED:
            return self._restored(job, claim, manifest, vault)
        if manifest.state in UNFINISHED:
            ended = self._taken_back(claim, manifest, vault, host)
            if isinstance(ended, Report):
                return ended
            manifest = ended
        try:
            held = vault.hold_for_restore(manifest, _inside(manifest, vault, host))
        except CommandRejected as error:  # its container ended after the claim
            return self.failed(error.reason, error.message, claim)
        if held is None:
            return self.failed("restore_parent_missing", _no_parent(manifest), claim)
        try:
            return _Steps(self, job, claim, host, vault, held).run(manifest)
        finally:
            held.close()

    def probe(self, job: Job[NoParameters], claim: RestoreClaim, host: Host) -> Probe:
        """By the manifest: what is half done is finished by ``execute``."""
        vault = _vault(job, host)
        manifest = _manifest(job, vault)
        if isinstance(manifest, QuarantineClaim) or manifest.state is ManifestState.RETURNED:
            return Done(self._has_its_name(claim))
        if manifest.state is ManifestState.RESTORED:
            return Done(self._restored(job, claim, manifest, vault))
        mine = manifest.restored_by == job.command.command_id
        return Begun() if manifest.state is ManifestState.RESTORING and mine else NotDone()

    def conclude(self, job: Job[NoParameters], claim: RestoreClaim, host: Host) -> Report:
        """What has its name already is finished; else the file stays in the vault, and nothing is written."""
        vault = _vault(job, host)
        manifest = _manifest(job, vault)
        if isinstance(manifest, QuarantineClaim) or manifest.state is not ManifestState.RESTORING:
            return self.execute(job, claim, host)
        held = vault.hold_for_restore(manifest, _inside(manifest, vault, host))
        if held is None:
            return self.failed("restore_parent_missing", _no_parent(manifest), claim)
        try:
            if held.occupant(deadline_ns=job.deadline_ns) is Occupant.RESTORED:
                return _Steps(self, job, claim, host, vault, held).run(manifest)
        finally:
            held.close()
        vault.record(replace(manifest, state=ManifestState.DONE, restored_by=NO_EXECUTION))
        return self.failed(POISON, "the worker died again and again while it put the file back", claim)

    def dry_run_report(self, job: Job[NoParameters], claim: RestoreClaim, host: Host) -> Report:
        """What would come back."""
        message = (
            f"would put {claim.path} back ({claim.size} bytes); nothing was touched"
            if claim.present
            else f"would do nothing: {claim.path} is back already"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def done(self, manifest: Manifest, vault: Vault) -> Report:
        """The report of a file that is back."""
        return self.report(
            Outcome.COMPLETED,
            "restored",
            f"{shown(manifest.path)} is back ({manifest.size} bytes), with owner, mode, times and attributes it had",
            outputs=self.outputs_of(_claim_on(manifest, vault, present=True)),
            post_condition=PostCondition("content_equal", holds=True, detail=f"SHA-256 {manifest.sha256}"),
        )

    def failed(self, reason: str, message: str, claim: RestoreClaim) -> Report:
        """The report of a file that stays in the vault."""
        return self.report(Outcome.FAILED, reason, f"{message}; the vault keeps it", outputs=self.outputs_of(claim))

    def _taken_back(self, claim: RestoreClaim, manifest: Manifest, vault: Vault, host: Host) -> Manifest | Report:
        """A quarantine that ended half made: the file gets its name back from its parking directory. The manifest where
        only the object is left, to be restored from that."""
        held = hold(manifest, vault, host)
        if isinstance(held, CommandRejected):
            return self.failed(held.reason, held.message, claim)
        try:
            ended = take_back(held, vault, manifest, "undone")
        finally:
            held.close()
        if ended is None:
            return self.failed("restore_conflict", f"there is another {claim.path} now; the file stays parked", claim)
        return self._has_its_name(claim) if ended.state is ManifestState.RETURNED else ended

    def _has_its_name(self, claim: RestoreClaim) -> Report:
        """The quarantine never came so far that the file was copied back from the vault."""
        why = f"{claim.path} has its name, with everything it had: its quarantine did not get to the end"
        return self.report(
            Outcome.COMPLETED,
            "restored",
            why,
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("name_given_back", holds=True, detail=why),
        )

    def _restored(self, job: Job[NoParameters], claim: RestoreClaim, manifest: Manifest, vault: Vault) -> Report:
        if claim.present and manifest.restored_by == job.command.command_id:
            return self.done(manifest, vault)
        why = f"{shown(manifest.path)} was put back before, by {manifest.restored_by or 'another undo'}"
        return self.report(
            Outcome.NO_ACTION,
            "already_restored",
            why,
            outputs=self.outputs_of(_claim_on(manifest, vault, present=False)),
            post_condition=PostCondition("content_equal", holds=True, detail=why),
        )


@dataclass(frozen=True, slots=True)
class _Steps:
    """One run of the steps R0 to R7, with the file's directory open."""

    action: FileUnquarantine
    job: Job[NoParameters]
    claim: RestoreClaim
    host: Host
    vault: Vault
    file: RestoreHandle

    def run(self, manifest: Manifest) -> Report:
        """From where the manifest stands."""
        mine = manifest.restored_by == self.job.command.command_id
        resumed = manifest.state is ManifestState.RESTORING  # also by an undo that was given up
        if not (resumed and mine):
            manifest = replace(manifest, state=ManifestState.RESTORING, restored_by=self.job.command.command_id)
            self.vault.record(manifest)
            self._reach(0)
        try:
            self._back_under_its_name(resumed=resumed)
        except WorkerError as error:
            with contextlib.suppress(WorkerError):  # a full disk: the next undo begins from ``restoring`` as well
                self.vault.record(replace(manifest, state=ManifestState.DONE, restored_by=NO_EXECUTION))
            return self.action.failed(error.reason, error.message, self.claim)
        try:
            return self._end(manifest)
        except WorkerError as error:
            raise Indeterminate(
                f"the file is back, but not everything about it is durable yet: {error.message}", code="end_pending"
            ) from error

    def _back_under_its_name(self, *, resumed: bool) -> None:
        """R1 to R5, but for what a crash left done."""
        match self.file.occupant(deadline_ns=self.job.deadline_ns):
            case Occupant.RESTORED if resumed:
                return
            case Occupant.RESTORED | Occupant.OTHER:
                raise _conflict(self.claim)
            case Occupant.NONE:
                pass
        self.file.write(deadline_ns=self.job.deadline_ns)
        self._reach(2)
        self.file.set_metadata()
        self._reach(3)
        self.file.sync()
        self._reach(4)
        if not self.file.link():
            raise _conflict(self.claim)

    def _end(self, manifest: Manifest) -> Report:
        """R6 and R7."""
        self._reach(5)
        self.file.set_flags()
        self._reach(6)
        restored = replace(manifest, state=ManifestState.RESTORED)
        self.vault.record(restored)
        self._reach(7)
        return self.action.done(restored, self.vault)

    def _reach(self, step: int) -> None:
        self.host.failpoints.reach(f"file_unquarantine.r{step}")


def _vault(job: Job[NoParameters], host: Host) -> Vault:
    if not job.command.undo_of:
        raise CommandRejected("file_unquarantine runs only as the undo of a quarantine", code="undo_only")
    if host.vault is None:
        raise CommandRejected("this node keeps no quarantine", code="no_vault")
    return host.vault


def _refuse_unapproved(job: Job[NoParameters], manifest: Manifest) -> None:
    """Before anything else that would give the file its name back, also out of its parking directory.

    Raises:
        CommandRejected: ``approval_missing``.
    """
    privileged = is_privileged(manifest.mode, manifest.attributes)
    if privileged and not is_approved_like(job.command.approval_class, manifest.approval_class):
        raise CommandRejected(
            "the file is setuid, setgid or has capabilities, and was taken by a command of class "
            f"{manifest.approval_class!r}: bringing it back needs the same, not {job.command.approval_class!r}",
            code="approval_missing",
        )


def _manifest(job: Job[NoParameters], vault: Vault) -> Manifest | QuarantineClaim:
    """The manifest of the quarantine; its claim where it counts as held although it never came so far as to have one.

    Raises:
        CommandRejected: ``nothing_to_revert``.
    """
    manifest = vault.manifest(job.command.undo_of)
    if manifest is None:
        held = job.undoes
        if held is not None and isinstance(held.claim, QuarantineClaim) and not held.outputs.get("sha256"):
            return held.claim
        raise CommandRejected(f"the vault knows no quarantine {job.command.undo_of}", code="nothing_to_revert")
    return manifest


def _inside(manifest: Manifest, vault: Vault, host: Host) -> Enclosure | None:
    """The run that its container has now: the files of a container outlive its runs, and ``hold_for_restore`` compares
    the root.

    Raises:
        CommandRejected: ``restore_container_gone``.
        TransientFailure: its runtime does not answer.
    """
    if not manifest.container_id:
        return None
    try:
        return present_run(manifest.container_id, manifest.runtime, host)
    except CommandRejected as error:
        if error.reason == "container_not_running":
            advice = "start it and undo once more"
        else:
            advice = f"the content is kept as {vault.object_path(manifest.execution_id)} on this node"
        raise CommandRejected(f"{error.message}; {advice}", code="restore_container_gone") from error


def _claim_on(manifest: Manifest, vault: Vault, *, present: bool) -> RestoreClaim:
    return RestoreClaim(
        path=shown(manifest.path),
        quarantined_file_path=vault.object_path(manifest.execution_id),
        sha256=manifest.sha256,
        size=manifest.size,
        mode=manifest.mode,
        user_id=manifest.uid,
        group_id=manifest.gid,
        modified_at=manifest.mtime_ns,
        container_id=manifest.container_id,
        container_started_at=manifest.run_started_at_ns,
        present=present,
    )


def _no_parent(manifest: Manifest) -> str:
    return f"the directory that {shown(manifest.path)} was in is not there any more, and none is made in its place"


def _conflict(claim: RestoreClaim) -> PermanentFailure:
    return PermanentFailure(
        f"there is another {claim.path} now, and nothing is ever overwritten", code="restore_conflict"
    )
