"""file_quarantine: take a file's name away at once, its content into the vault, and only then the file itself.

Run by the node worker in the containment lane; calls ``steps`` once the file's directory is open.
A run after a crash continues from the manifest. What fails before a verified object exists is taken back. Must never
unlink what is not in the vault.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from workers.actions.base import Action, Begun, Done, Effect, FieldSpec, Job, Lane, NotDone, Permission, Probe
from workers.actions.base.files import (
    CONTAINER,
    MOUNTS,
    PathClaim,
    container_fields,
    signed,
)
from workers.actions.file_quarantine.limits import QuarantineParameters, QuarantineSettings, differs, is_fixed, refuse
from workers.actions.file_quarantine.steps import FAILPOINTS, POISON, QuarantineClaim, Steps, hold, take_back
from workers.domain.errors import CommandRejected, PermanentFailure, WorkerError
from workers.domain.outcome import Outcome, PostCondition, Report, Scalar
from workers.domain.target import FileTarget
from workers.domain.targets.file import OVERLAY, FileFacts, Holders, Location, shown
from workers.domain.targets.manifest import UNFINISHED, Manifest, ManifestState, intent
from workers.host.files.ports import Vault
from workers.host.ports import Host


class FileQuarantine(Action[QuarantineParameters, QuarantineClaim]):
    """Quarantines one file."""

    name = "file_quarantine"
    summary = "Move a file into the vault, compressed and unreadable, until it is restored"
    drawbacks = (
        "Programs, services and users that need the file no longer find it.",
        "A process that runs it or has it open runs on; kill that process too.",
        "A container that is made anew from its image has the file again.",
        "Of a file with further hard links only the named one goes.",
        "What is written to the open file after it was copied is lost.",
    )
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = FileTarget
    parameters = QuarantineParameters
    claims = (QuarantineClaim,)
    settings = QuarantineSettings
    failpoints = FAILPOINTS
    outputs = (
        FieldSpec("path", "string", "Where the file was"),
        FieldSpec("quarantined_file_path", "string", "The object in this node's vault"),
        FieldSpec("sha256", "string", "SHA-256 of the content, in hex"),
        FieldSpec("size", "integer", "Bytes; holes count"),
        FieldSpec("mode", "integer", "Permission bits"),
        FieldSpec("user_id", "integer", "Its owner's user id"),
        FieldSpec("group_id", "integer", "Its group id"),
        FieldSpec("modified_at", "integer", "When it was last written to, nanoseconds since the epoch"),
        FieldSpec("links", "integer", "Hard links it had"),
        FieldSpec("identity", "string", "How it was identified: reviewed or path_at_intake"),
        FieldSpec("content_changed", "boolean", "The content changed between intake and copy; it was taken as found"),
        FieldSpec("open_handles", "integer", "How often other processes had it open"),
        FieldSpec("mappings", "integer", "How often other processes had it mapped, as a running program is"),
        FieldSpec("open_by", "string", "Ids of those processes, at most 32"),
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
    reversible_by = "file_unquarantine"
    ttl_s = 300
    timeout_s = 60
    example: ClassVar[Mapping[str, Any]] = {
        "target": FileTarget(path=b"/tmp/xmrig", observed_at_ns=1_783_198_004_180_672_852),
        "parameters": {"allow_immutable": True},
    }

    def admit(self, job: Job[QuarantineParameters], host: Host) -> None:
        """Refuse what can be refused without reading the file; ``bind`` reads it once, and refuses by identity and
        protection."""
        _target_and_vault(job, host)

    def bind(self, job: Job[QuarantineParameters], host: Host) -> QuarantineClaim:
        """The file that has the path now."""
        target, vault = _target_and_vault(job, host)
        container = container_fields(target, host, spare_protected=True)
        path = PathClaim(path=shown(target.path), **container)
        facts = vault.examine(_location(job, target, path))
        if facts is None:
            raise CommandRejected(f"there is no {path.path}", code="missing")
        refuse(facts, target, job.parameters, vault)
        if target.reviewed is not None and (changed := differs(facts, target.reviewed)):
            raise CommandRejected(
                f"its {changed} is not what was reviewed; review it again and send a new request", code="target_changed"
            )
        return QuarantineClaim(
            path=path.path,
            device=signed(facts.identity.device),
            inode=signed(facts.identity.inode),
            size=facts.size,
            mode=facts.mode,
            user_id=facts.uid,
            group_id=facts.gid,
            modified_at=facts.mtime_ns,
            changed_at=facts.ctime_ns,
            links=facts.links,
            identity="path_at_intake" if target.reviewed is None else "reviewed",
            **container,
        )

    def execute(self, job: Job[QuarantineParameters], claim: QuarantineClaim, host: Host) -> Report:
        """From wherever it stands to the end, or back."""
        target, vault = _target_and_vault(job, host)
        manifest = vault.manifest(job.command.command_id)
        resumed = manifest is not None
        if manifest is None:
            begun = self._begin(job, claim, host, target, vault)
            if isinstance(begun, Report):
                return begun
            manifest = begun
        if manifest.state not in UNFINISHED:
            return self._ended(manifest, claim, vault)
        held = hold(manifest, vault, host)
        if isinstance(held, WorkerError):
            return self._without_directory(manifest, claim, vault, held, resumed=resumed)
        try:
            return Steps(self, job, claim, host, vault, held).run(manifest)
        finally:
            held.close()

    def probe(self, job: Job[QuarantineParameters], claim: QuarantineClaim, host: Host) -> Probe:
        """By the manifest: what is half done is finished by ``execute``."""
        _, vault = _target_and_vault(job, host)
        manifest = vault.manifest(job.command.command_id)
        if manifest is None:
            return NotDone()
        return Begun() if manifest.state in UNFINISHED else Done(self._ended(manifest, claim, vault))

    def conclude(self, job: Job[QuarantineParameters], claim: QuarantineClaim, host: Host) -> Report:
        """The file gets its name back; its content, which may be what ends the worker, is not read. Where only the
        object is left, the quarantine is done."""
        _, vault = _target_and_vault(job, host)
        manifest = vault.manifest(job.command.command_id)
        if manifest is None:
            return self.failed(POISON, "the worker died again and again; nothing was touched", claim)
        if manifest.state not in UNFINISHED:
            return self._ended(manifest, claim, vault)
        held = hold(manifest, vault, host)
        if isinstance(held, WorkerError):
            return self._without_directory(manifest, claim, vault, held, resumed=True)
        try:
            ended = take_back(held, vault, manifest, POISON)
        finally:
            held.close()
        if ended is None:
            where = f"{shown(manifest.parking)}/file beside it"
            message = f"the worker died again and again; another file has its name, so it stays in {where}"
            return self.still_parked(POISON, message, claim)
        return self._ended(ended, claim, vault)

    def lost(self, effect: Effect[QuarantineClaim], host: Host) -> str:
        """The vault has not what would come back. A quarantine that ended half made is left to its undo."""
        if "quarantined_file_path" not in effect.outputs:
            return ""
        missing = _kept(host).missing(effect.execution_id)
        return f"{missing} was removed from the vault: the file cannot come back" if missing else ""

    def weakened(self, effect: Effect[QuarantineClaim], host: Host) -> str:
        """Another file has its path. Not looked for in containers, which may have ended, nor on filesystems that need
        not answer."""
        target = effect.target
        if not isinstance(target, FileTarget) or target.container_id or "quarantined_file_path" not in effect.outputs:
            return ""
        try:
            found = _kept(host).examine(Location(target.path))
        except CommandRejected:  # a link, or another filesystem, is on the way now
            return ""
        return f"there is a file at {shown(target.path)} again" if found is not None else ""

    def dry_run_report(self, job: Job[QuarantineParameters], claim: QuarantineClaim, host: Host) -> Report:
        """What would be taken."""
        message = f"would take {claim.path} away ({claim.size} bytes); nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def done(self, manifest: Manifest, claim: QuarantineClaim, vault: Vault, holders: Holders | None = None) -> Report:
        """The report of a file that is in the vault."""
        message = f"{claim.path} is in the vault ({manifest.size} bytes), and its name is free"
        if manifest.links > 1:
            message += f"; {manifest.links - 1} more hard link(s) of it remain, without execute permission"
        if (torn := claim.links - manifest.links) > 0:
            message += f"; {torn} more name(s) that it had in its image remain, as they were"
        outputs: dict[str, Scalar] = {
            **self.outputs_of(claim),
            "quarantined_file_path": vault.object_path(manifest.execution_id),
            "sha256": manifest.sha256,
            "size": manifest.size,
            "content_changed": manifest.content_changed,
        }
        if holders is not None:
            outputs |= {
                "open_handles": holders.handles,
                "mappings": holders.mappings,
                "open_by": ",".join(map(str, holders.pids)),
            }
            if holders.handles or holders.mappings:
                message += f"; processes {outputs['open_by']} still hold it: kill them too"
        return self.report(
            Outcome.COMPLETED,
            "quarantined",
            message,
            outputs=outputs,
            post_condition=PostCondition("object_verified", holds=True, detail=f"SHA-256 {manifest.sha256}"),
            effect_holds=manifest.state is not ManifestState.RESTORED,
        )

    def failed(self, reason: str, message: str, claim: QuarantineClaim) -> Report:
        """The report of a file that has its name still, or again."""
        outcome = Outcome.TIMED_OUT if reason == "timed_out" else Outcome.FAILED
        return self.report(outcome, reason, message, outputs=self.outputs_of(claim))

    def still_parked(self, reason: str, message: str, claim: QuarantineClaim) -> Report:
        """The report of a file that is in its parking directory: out of reach, and given back by an undo."""
        return self.report(Outcome.PARTIAL, reason, message, outputs=self.outputs_of(claim), effect_holds=True)

    def _begin(
        self, job: Job[QuarantineParameters], claim: QuarantineClaim, host: Host, target: FileTarget, vault: Vault
    ) -> Manifest | Report:
        """Q0: everything that has to come back is durable before anything is touched."""
        location = _location(job, target, claim)
        facts = vault.examine(location)
        if facts is None:
            return self._absent(claim)
        changed = "" if _is_claimed(facts, claim) else "identity"
        if target.reviewed is not None:
            changed = changed or differs(facts, target.reviewed)
        if changed:
            return self.failed("target_changed", f"its {changed} changed; nothing was touched", claim)
        refuse(facts, target, job.parameters, vault)
        vault.check_capacity(facts.size)
        found = facts
        if facts.filesystem == OVERLAY and not is_fixed(facts.flags):
            lifted = vault.copy_up(location, facts.identity)
            if lifted is None:
                return self.failed("target_changed", "another file has its name now; nothing was touched", claim)
            facts = lifted
        manifest = intent(
            job.command.command_id,
            facts,
            location,
            runtime=claim.container_runtime,
            parking=vault.parking_name(),
            now_ns=host.clock.now_ns(),
            clear_flags=is_fixed(facts.flags),
            approval_class=job.command.approval_class,
        )
        manifest = replace(manifest, content_changed=not claim.unchanged(found))
        vault.record(manifest)
        host.failpoints.reach(FAILPOINTS[0])
        return manifest

    def _ended(self, manifest: Manifest, claim: QuarantineClaim, vault: Vault) -> Report:
        """The report that follows from a manifest in its last state."""
        if manifest.state is ManifestState.RETURNED:
            why = "the worker died again and again" if manifest.reason == POISON else "it was given up"
            return self.failed(manifest.reason, f"{why}, and the file has its name again", claim)
        return self.done(manifest, claim, vault)

    def _without_directory(
        self, manifest: Manifest, claim: QuarantineClaim, vault: Vault, why: WorkerError, *, resumed: bool
    ) -> Report:
        """The directory cannot be opened: another has its path now, or its container has ended. ``resumed``: an attempt
        that a crash ended may have parked the file without having recorded that."""
        removed = why.reason == "container_gone"
        match manifest.state:
            case ManifestState.INTENT if not resumed or removed:
                with contextlib.suppress(WorkerError):
                    vault.record(replace(manifest, state=ManifestState.RETURNED, reason=why.reason))
                gone = f"if it was in {shown(manifest.parking)} already, it went with its container"
                return self.failed(
                    why.reason, f"{why.message}; {gone if removed else 'the file was not touched'}", claim
                )
            case ManifestState.STORED:
                stored = self.done(manifest, claim, vault)
                return replace(
                    stored,
                    outcome=Outcome.PARTIAL,
                    code="file_quarantine_error_parked_file_lost",
                    message=f"{stored.message}; {why.message}, and the parked file is in it still (in "
                    f"{shown(manifest.parking)}, readable for root only)",
                )
            case _:
                message = (
                    f"{why.message} while the file was being parked; it is in it, in {shown(manifest.parking)}, "
                    "readable for root only"
                )
                if removed:
                    raise PermanentFailure(message, code="parked_file_lost")
                message += "; an undo gives its name back once the directory can be reached"
                return self.still_parked("parked_file_lost", message, claim)

    def _absent(self, claim: QuarantineClaim) -> Report:
        why = f"{claim.path} was removed meanwhile"
        return self.report(
            Outcome.NO_ACTION,
            "target_gone",
            why,
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("name_free", holds=True, detail=why),
        )


def _target_and_vault(job: Job[QuarantineParameters], host: Host) -> tuple[FileTarget, Vault]:
    target = job.target
    if not isinstance(target, FileTarget):
        raise CommandRejected("file_quarantine needs a file as its target", code="invalid_target")
    if host.vault is None:
        raise CommandRejected("this node keeps no quarantine", code="no_vault")
    return target, host.vault


def _kept(host: Host) -> Vault:
    if host.vault is None:
        raise PermanentFailure("this node keeps no quarantine any more", code="no_vault")
    return host.vault


def _location(job: Job[QuarantineParameters], target: FileTarget, claim: PathClaim) -> Location:
    return Location(target.path, claim.enclosure, job.parameters.allow_remote)


def _is_claimed(facts: FileFacts, claim: QuarantineClaim) -> bool:
    """Whether it is the file of the claim. A crash after a file was copied up, and before that was recorded, leaves it
    another inode: there the other facts must do, as they would for a command that names a path."""
    if facts.identity == claim.file:
        return True
    then = (claim.size, claim.modified_at, claim.mode, claim.user_id)
    return facts.filesystem == OVERLAY and then == (facts.size, facts.mtime_ns, facts.mode, facts.uid)
