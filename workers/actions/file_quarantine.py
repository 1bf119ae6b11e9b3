"""file_quarantine: a file's name taken away at once, its content into the vault, and only then the file itself.

Run by the node worker in the containment lane, step by step (SAFETY section 3.1) through the port ``Vault``; each step
is durable before the next, and a run after a crash goes on where the manifest says. What fails before a verified object
exists is taken back. Must never unlink what is not in the vault.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from workers.actions.base import Action, Begun, Done, FieldSpec, Job, Lane, NotDone, Permission, Probe
from workers.actions.base.container_files import CONTAINER, MOUNTS, enclosed, enclosure_of, present_run
from workers.actions.base.file_limits import Allowances, differs, held_fast, refuse
from workers.actions.base.quarantine_steps import PLACES, Steps
from workers.domain.errors import (
    CommandRejected,
    Indeterminate,
    PermanentFailure,
    WorkerError,
)
from workers.domain.outcome import NOTHING, Outcome, PostCondition, Report, Values
from workers.domain.target import FileTarget
from workers.domain.targets.file import OVERLAY, Enclosure, FileFacts, Holders, Location, shown
from workers.domain.targets.manifest import Manifest, ManifestState, intent
from workers.host.files.ports import QuarantineHandle, Vault
from workers.host.ports import Host

FAILPOINTS: Final = PLACES
"""Right after each step of SAFETY section 3.1."""


class FileQuarantine(Action[Allowances]):
    """Quarantines one file."""

    name = "file_quarantine"
    summary = "Take a file away and keep it, compressed and unreadable, until it is restored"
    drawbacks = (
        "Whoever needs the file misses it: a program, a service, a user.",
        "A process that runs it or has it open goes on; kill that process too.",
        "A container that is made anew from its image has the file again.",
        "Of a file with further hard links only the named one goes.",
        "What is written to the open file after it was copied is lost.",
    )
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = FileTarget
    parameters = Allowances
    outputs = (
        FieldSpec("path", "string", "Where the file was"),
        FieldSpec("quarantined_file_path", "string", "The object in this node's vault"),
        FieldSpec("sha256", "string", "SHA-256 of the content, in hex"),
        FieldSpec("size", "integer", "Bytes; holes count"),
        FieldSpec("mode", "integer", "Permission bits"),
        FieldSpec("user_id", "integer", "Whose it was"),
        FieldSpec("group_id", "integer", "Its group"),
        FieldSpec("modified_at", "integer", "When it was last written to, nanoseconds since the epoch"),
        FieldSpec("links", "integer", "Hard links it had"),
        FieldSpec("identity", "string", "By what it was recognised: reviewed or path_at_intake"),
        FieldSpec("content_changed", "boolean", "The content changed between intake and copy; it was taken as found"),
        FieldSpec("open_handles", "integer", "How often others had it open"),
        FieldSpec("mappings", "integer", "How often it was in others' memory; a program that runs is"),
        FieldSpec("open_by", "string", "Process ids of those others, at most 32"),
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

    def admit(self, job: Job[Allowances], host: Host) -> None:
        """Refuse what needs no look at the file; ``bind`` looks once, and refuses by identity and protection."""
        _meant(job, host)

    def bind(self, job: Job[Allowances], host: Host) -> Values:
        """The file that has the path now; ``present`` says whether there is one."""
        target, vault = _meant(job, host)
        container = enclosed(target, host, spare_protected=True)
        facts = vault.examine(_location(job, target, container))
        if facts is None:
            return {"path": shown(target.path), "present": False, **container}
        refuse(facts, target, job.parameters, vault)
        if target.reviewed is not None and (changed := differs(facts, target.reviewed)):
            raise CommandRejected(
                f"its {changed} is not what was reviewed; look at it again and ask again", code="target_changed"
            )
        return {
            "path": shown(target.path),
            "present": True,
            "device": _signed(facts.identity.device),
            "inode": _signed(facts.identity.inode),
            "size": facts.size,
            "mode": facts.mode,
            "user_id": facts.uid,
            "group_id": facts.gid,
            "modified_at": facts.mtime_ns,
            "changed_at": facts.ctime_ns,
            "links": facts.links,
            "identity": "path_at_intake" if target.reviewed is None else "reviewed",
            **container,
        }

    def execute(self, job: Job[Allowances], claim: Values, host: Host) -> Report:
        """From wherever it stands to the end, or back."""
        if not claim["present"]:
            return self._gone(claim)
        target, vault = _meant(job, host)
        manifest = vault.manifest(job.command.command_id)
        if manifest is None:
            begun = self._begin(job, claim, host, target, vault)
            if isinstance(begun, Report):
                return begun
            manifest = begun
        if manifest.state not in (ManifestState.INTENT, ManifestState.PARKED, ManifestState.STORED):
            return self._told(manifest, claim, vault)
        place = _place(manifest, vault, host)
        if isinstance(place, WorkerError):
            return self._without_place(manifest, claim, vault, place)
        try:
            return Steps(self, job, claim, host, vault, place).go(manifest)
        finally:
            place.close()

    def probe(self, job: Job[Allowances], claim: Values, host: Host) -> Probe:
        """By the manifest: what is half done is finished by ``execute``."""
        if not claim["present"]:
            return Done(self._gone(claim))
        _, vault = _meant(job, host)
        manifest = vault.manifest(job.command.command_id)
        if manifest is None:
            return NotDone()
        if manifest.state in (ManifestState.INTENT, ManifestState.PARKED, ManifestState.STORED):
            return Begun()
        return Done(self._told(manifest, claim, vault))

    def dry_run_report(self, job: Job[Allowances], claim: Values, host: Host) -> Report:
        """What would be taken."""
        path = claim["path"]
        message = (
            f"would take {path} away ({claim['size']} bytes); nothing was touched"
            if claim["present"]
            else f"would do nothing: nothing is called {path}"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=_known(claim))

    def done(self, manifest: Manifest, claim: Values, vault: Vault, holders: Holders | None = None) -> Report:
        """The report of a file that is in the vault."""
        message = f"{claim['path']} is in the vault ({manifest.size} bytes), and its name is free"
        if manifest.links > 1:
            message += f"; {manifest.links - 1} more hard link(s) of it remain, without execute permission"
        if (torn := int(claim["links"]) - manifest.links) > 0:
            message += f"; {torn} more name(s) that it had in its image remain, as they were"
        outputs: dict[str, str | int | bool] = {
            **_known(claim),
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

    def failed(self, reason: str, message: str, claim: Values) -> Report:
        """The report of a file that has its name still, or again."""
        outcome = Outcome.TIMED_OUT if reason == "timed_out" else Outcome.FAILED
        return self.report(outcome, reason, message, outputs=_known(claim))

    def _begin(
        self, job: Job[Allowances], claim: Values, host: Host, target: FileTarget, vault: Vault
    ) -> Manifest | Report:
        """Q0: everything that has to come back is durable before anything is touched."""
        where = _location(job, target, claim)
        facts = vault.examine(where)
        if facts is None:
            return self._gone(claim)
        changed = "" if _is_claimed(facts, claim) else "identity"
        if target.reviewed is not None:
            changed = changed or differs(facts, target.reviewed)
        if changed:
            return self.failed("target_changed", f"its {changed} changed; nothing was touched", claim)
        refuse(facts, target, job.parameters, vault)
        vault.check_capacity(facts.size)
        found = facts
        if facts.filesystem == OVERLAY and not held_fast(facts.flags):
            lifted = vault.copy_up(where, facts.identity)
            if lifted is None:
                return self.failed("target_changed", "another file has its name now; nothing was touched", claim)
            facts = lifted
        manifest = intent(
            job.command.command_id,
            facts,
            where,
            runtime=str(claim.get("container_runtime", "")),
            parking=vault.parking_name(),
            now_ns=host.clock.now_ns(),
            clear_flags=held_fast(facts.flags),
        )
        as_claimed = (claim["size"], claim["modified_at"], claim["changed_at"])
        manifest = replace(manifest, content_changed=as_claimed != (found.size, found.mtime_ns, found.ctime_ns))
        vault.record(manifest)
        host.failpoints.reach(PLACES[0])
        return manifest

    def _told(self, manifest: Manifest, claim: Values, vault: Vault) -> Report:
        """What a manifest that has come to its end says."""
        if manifest.state is ManifestState.RETURNED:
            return self.failed(manifest.reason, "it was given up, and the file has its name again", claim)
        return self.done(manifest, claim, vault)

    def _without_place(self, manifest: Manifest, claim: Values, vault: Vault, why: WorkerError) -> Report:
        """The directory is not to be had: another has its path now, or its container has ended."""
        match manifest.state:
            case ManifestState.INTENT:
                with contextlib.suppress(WorkerError):
                    vault.record(replace(manifest, state=ManifestState.RETURNED, reason=why.reason))
                message = f"{why.message}; the file has its name, or is in {shown(manifest.parking)} beside it"
                return self.failed(why.reason, message, claim)
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
                raise PermanentFailure(
                    f"{why.message} while the file was parked; it is in it, in {shown(manifest.parking)}, readable "
                    "for root only",
                    code="parked_file_lost",
                )

    def _gone(self, claim: Values) -> Report:
        why = f"nothing is called {claim['path']}"
        return self.report(
            Outcome.NO_ACTION,
            "target_gone",
            why,
            outputs=_known(claim),
            post_condition=PostCondition("name_free", holds=True, detail=why),
        )


def _meant(job: Job[Allowances], host: Host) -> tuple[FileTarget, Vault]:
    target = job.target
    if not isinstance(target, FileTarget):
        raise CommandRejected("file_quarantine needs a file as its target", code="invalid_target")
    if host.vault is None:
        raise CommandRejected("this node keeps no quarantine", code="no_vault")
    return target, host.vault


def _location(job: Job[Allowances], target: FileTarget, claim: Values) -> Location:
    return Location(target.path, enclosure_of(claim), job.parameters.allow_remote)


def _place(manifest: Manifest, vault: Vault, host: Host) -> QuarantineHandle | CommandRejected:
    """The file's directory, or why it is not to be had; a link that was put in its way is no directory of ours."""
    try:
        return _opened(manifest, vault, host)
    except CommandRejected as error:
        return error
    except WorkerError as error:
        raise Indeterminate(f"its directory cannot be opened: {error.message}", code="half_done") from error


def _opened(manifest: Manifest, vault: Vault, host: Host) -> QuarantineHandle:
    """In the run that it was taken from; where that has ended, in the one that its container has now."""
    inside: Enclosure | None = manifest.enclosure
    try:
        place = vault.hold_for_quarantine(manifest, inside)
    except CommandRejected as error:
        if error.reason != "container_gone":
            raise
        place = vault.hold_for_quarantine(manifest, present_run(manifest.container_id, manifest.runtime, host))
    if place is None:
        raise CommandRejected("the directory of the file is another one now", code="target_changed")
    return place


def _is_claimed(facts: FileFacts, claim: Values) -> bool:
    """A crash after a file was copied up, and before anything was written down, leaves it another inode: there what
    else is known of it must do, as it would for whoever names a path."""
    if (_signed(facts.identity.device), _signed(facts.identity.inode)) == (claim["device"], claim["inode"]):
        return True
    then = (claim["size"], claim["modified_at"], claim["mode"], claim["user_id"])
    return facts.filesystem == OVERLAY and then == (facts.size, facts.mtime_ns, facts.mode, facts.uid)


def _signed(number: int) -> int:
    """A 64-bit number without a sign as the journal holds it: two's complement."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _known(claim: Values) -> Values:
    """What the catalogue promises, out of the claim; of a file that was gone only its path is known."""
    promised = {spec.name for spec in FileQuarantine.outputs}
    return {name: value for name, value in claim.items() if name in promised} or NOTHING
