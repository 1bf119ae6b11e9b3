"""file_quarantine: a file's name taken away at once, its content into the vault, and only then the file itself.

Run by the node worker in the containment lane, step by step (SAFETY section 3.1) through the port ``Vault``; each step
is durable before the next, and a run after a crash goes on where the manifest says. What fails before a verified object
exists is taken back. Must never unlink what is not in the vault.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from workers.action import Action, Begun, Done, FieldSpec, Job, Lane, NotDone, Permission, Probe, parameter
from workers.action.enclosing import CONTAINER, MOUNTS, enclosed, enclosure_of, present_run
from workers.core.errors import (
    CommandRejected,
    Indeterminate,
    PermanentFailure,
    WorkerError,
    reason_of,
)
from workers.core.file import OVERLAY, Enclosure, FileFacts, FileKind, Holders, Location, shown
from workers.core.manifest import Manifest, ManifestState, intent
from workers.core.outcome import NOTHING, Outcome, PostCondition, Report, Values
from workers.core.protected_files import is_remote, kernels_own, protection
from workers.core.target import FileTarget, ReviewedFile
from workers.ports import Host, Place, Vault, Whereabouts

FAILPOINTS: Final = tuple(f"file_quarantine.q{step}" for step in range(7))
"""Right after each step of SAFETY section 3.1."""

_LOOK_NS: Final = 2_000_000_000
"""How long looking for those who have the file open may take: the granted heartbeat gap."""
_IMMUTABLE: Final = 0x10
_APPEND_ONLY: Final = 0x20
_LARGEST_ATTRIBUTES: Final = 512 * 1024
"""A signed manifest has at most 1 MB (``core.envelope``)."""


@dataclass(frozen=True, slots=True)
class QuarantineParameters:
    """What may be chosen."""

    force_hardlinked: bool = parameter(
        "Take this name of a file that has others too; execute permission is taken from all of them", default=False
    )
    allow_immutable: bool = parameter("Lift the immutable or append-only flag to do it", default=False)
    allow_remote: bool = parameter("Also on network and FUSE filesystems, which may never answer", default=False)


class FileQuarantine(Action[QuarantineParameters]):
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
    parameters = QuarantineParameters
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

    def admit(self, job: Job[QuarantineParameters], host: Host) -> None:
        """Refuse what needs no look at the file; ``bind`` looks once, and refuses by identity and protection."""
        _meant(job, host)

    def bind(self, job: Job[QuarantineParameters], host: Host) -> Values:
        """The file that has the path now; ``present`` says whether there is one."""
        target, vault = _meant(job, host)
        container = enclosed(target, host, spare_protected=True)
        facts = vault.examine(_location(job, target, container))
        if facts is None:
            return {"path": shown(target.path), "present": False, **container}
        _refuse(facts, job, vault)
        if target.reviewed is not None and (changed := _differs(facts, target.reviewed)):
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

    def execute(self, job: Job[QuarantineParameters], claim: Values, host: Host) -> Report:
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
            return _Run(self, job, claim, host, vault, place).go(manifest)
        finally:
            place.close()

    def probe(self, job: Job[QuarantineParameters], claim: Values, host: Host) -> Probe:
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

    def rehearse(self, job: Job[QuarantineParameters], claim: Values, host: Host) -> Report:
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
        self, job: Job[QuarantineParameters], claim: Values, host: Host, target: FileTarget, vault: Vault
    ) -> Manifest | Report:
        """Q0: everything that has to come back is durable before anything is touched."""
        where = _location(job, target, claim)
        facts = vault.examine(where)
        if facts is None:
            return self._gone(claim)
        changed = "" if _is_claimed(facts, claim) else "identity"
        if target.reviewed is not None:
            changed = changed or _differs(facts, target.reviewed)
        if changed:
            return self.failed("target_changed", f"its {changed} changed; nothing was touched", claim)
        _refuse(facts, job, vault)
        vault.make_room(facts.size)
        found = facts
        if facts.filesystem == OVERLAY and not facts.flags & (_IMMUTABLE | _APPEND_ONLY):
            lifted = vault.lift(where, facts.identity)
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
            clear_flags=bool(facts.flags & (_IMMUTABLE | _APPEND_ONLY)),
        )
        as_claimed = (claim["size"], claim["modified_at"], claim["changed_at"])
        manifest = replace(manifest, content_changed=as_claimed != (found.size, found.mtime_ns, found.ctime_ns))
        vault.record(manifest)
        host.failpoints.reach("file_quarantine.q0")
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


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the steps Q1 to Q6, with the file's directory in hand."""

    action: FileQuarantine
    job: Job[QuarantineParameters]
    claim: Values
    host: Host
    vault: Vault
    place: Place

    def go(self, manifest: Manifest) -> Report:
        """On from where the manifest stands."""
        try:
            manifest = self._sound(manifest)
        except WorkerError as error:
            if error.reason == "object_damaged":
                raise
            raise Indeterminate(f"the object could not be read back yet: {error.message}", code="half_done") from error
        if manifest.state is not ManifestState.STORED:
            try:
                manifest = self._store(self._parked(manifest))
            except Indeterminate:
                raise
            except WorkerError as error:
                return self._take_back(manifest, error)
        try:
            return self._end(manifest)
        except WorkerError as error:
            raise Indeterminate(
                f"the object is in the vault, but the parked file is not removed yet: {error.message}",
                code="removal_pending",
            ) from error

    def _sound(self, manifest: Manifest) -> Manifest:
        """After a crash at Q4 or Q5: an object that is not what was stored is made again while the file is there."""
        if manifest.state is not ManifestState.STORED:
            return manifest
        try:
            self.place.verify(manifest, deadline_ns=self.job.deadline_ns)
        except PermanentFailure as error:
            if error.reason != "object_damaged" or self.place.where() is not Whereabouts.PARKED:
                raise
            return self._record(manifest, ManifestState.PARKED)
        return manifest

    def _parked(self, manifest: Manifest) -> Manifest:
        """Q1."""
        if manifest.state is ManifestState.PARKED and self.place.where() is Whereabouts.PARKED:
            return manifest
        if not self.place.park():
            raise PermanentFailure("another file has its name now; nothing was touched", code="target_changed")
        self._reach(1)
        return self._record(manifest, ManifestState.PARKED)

    def _store(self, manifest: Manifest) -> Manifest:
        """Q2 to Q4. A file that is written to meanwhile is copied once more, and then taken as it is."""
        self.place.discard()
        drafted, steady = self._copied(manifest)
        if not (steady and self.place.unchanged()):
            self.place.discard()
            drafted, _ = self._copied(replace(manifest, content_changed=True))
        self._reach(3)
        target = self.job.target
        reviewed = target.reviewed if isinstance(target, FileTarget) else None
        if reviewed is not None and (reviewed.sha256, reviewed.size) != (drafted.sha256, drafted.size):
            raise PermanentFailure("its content is not what was reviewed", code="target_changed")
        self.place.store()
        stored = self._record(drafted, ManifestState.STORED)
        self._reach(4)
        return stored

    def _copied(self, manifest: Manifest) -> tuple[Manifest, bool]:
        copied = self.place.copy(limit=self.vault.limits.max_file, deadline_ns=self.job.deadline_ns)
        self._reach(2)
        drafted = replace(
            manifest,
            size=copied.size,
            sha256=copied.sha256,
            object_size=copied.object_size,
            object_sha256=copied.object_sha256,
            extents=copied.extents,
        )
        self.place.verify(drafted, deadline_ns=self.job.deadline_ns)
        return drafted, copied.steady

    def _end(self, manifest: Manifest) -> Report:
        """Q5 and Q6."""
        look_until_ns = min(self.job.deadline_ns, self.host.clock.now_ns() + _LOOK_NS)
        holders = self.place.holders(deadline_ns=look_until_ns)
        self.place.remove()
        self._reach(5)
        done = self._record(manifest, ManifestState.DONE)
        self._reach(6)
        return self.action.done(done, self.claim, self.vault, holders)

    def _take_back(self, manifest: Manifest, error: WorkerError) -> Report:
        """Nothing verified is in the vault: the file gets its name again."""
        try:
            self.place.discard()
            back = self.place.unpark()
        except WorkerError as second:
            raise Indeterminate(
                f"{error.message}; and the file could not be given its name back yet: {second.message}",
                code="return_pending",
            ) from error
        if not back:
            where = f"{shown(manifest.parking)}/file beside it"
            message = f"{error.message}; its name was taken meanwhile, so it stays in {where}, readable for root only"
            return self.action.failed(reason_of(error), message, self.claim)
        reason = reason_of(error)
        with contextlib.suppress(WorkerError):  # a full disk: the journal has the outcome, and a rerun would find it so
            self.vault.record(replace(manifest, state=ManifestState.RETURNED, reason=reason))
        return self.action.failed(reason, f"{error.message}; the file has its name again", self.claim)

    def _record(self, manifest: Manifest, state: ManifestState) -> Manifest:
        moved = replace(manifest, state=state)
        self.vault.record(moved)
        return moved

    def _reach(self, step: int) -> None:
        self.host.failpoints.reach(f"file_quarantine.q{step}")


def _meant(job: Job[QuarantineParameters], host: Host) -> tuple[FileTarget, Vault]:
    target = job.target
    if not isinstance(target, FileTarget):
        raise CommandRejected("file_quarantine needs a file as its target", code="invalid_target")
    if host.vault is None:
        raise CommandRejected("this node keeps no quarantine", code="no_vault")
    return target, host.vault


def _location(job: Job[QuarantineParameters], target: FileTarget, claim: Values) -> Location:
    return Location(target.path, enclosure_of(claim), job.parameters.allow_remote)


def _place(manifest: Manifest, vault: Vault, host: Host) -> Place | CommandRejected:
    """The file's directory, or why it is not to be had; a link that was put in its way is no directory of ours."""
    try:
        return _opened(manifest, vault, host)
    except CommandRejected as error:
        return error
    except WorkerError as error:
        raise Indeterminate(f"its directory cannot be opened: {error.message}", code="half_done") from error


def _opened(manifest: Manifest, vault: Vault, host: Host) -> Place:
    """In the run that it was taken from; where that has ended, in the one that its container has now."""
    inside: Enclosure | None = manifest.enclosure
    try:
        place = vault.place(manifest, inside)
    except CommandRejected as error:
        if error.reason != "container_gone":
            raise
        place = vault.place(manifest, present_run(manifest.container_id, manifest.runtime, host))
    if place is None:
        raise CommandRejected("the directory of the file is another one now", code="target_changed")
    return place


def _refuse(facts: FileFacts, job: Job[QuarantineParameters], vault: Vault) -> None:
    """What must not or cannot be taken. Nothing was touched."""
    chosen = job.parameters
    inside = isinstance(job.target, FileTarget) and bool(job.target.container_id)
    path = job.target.path if isinstance(job.target, FileTarget) else b""
    reason = protection(facts, vault.protected_places()) or (kernels_own(path) if inside else None)
    if reason is not None:
        raise CommandRejected(f"the file is protected on this node: {reason}", code="protected_target")
    if facts.kind is not FileKind.REGULAR:
        raise CommandRejected(f"it is a {facts.kind}; only regular files are taken", code="not_regular")
    if facts.read_only:
        raise CommandRejected("it is on a read-only mount, which is never remounted", code="refused_readonly")
    if is_remote(facts.filesystem) and not chosen.allow_remote:
        raise CommandRejected(
            f"it is on {facts.filesystem}, which may never answer; allow_remote takes it all the same",
            code="remote_filesystem",
        )
    if facts.links > 1 and not chosen.force_hardlinked:
        raise CommandRejected(
            f"it has {facts.links} names (hard links), and only this one would go; force_hardlinked takes it, and "
            "execute permission from the others",
            code="hardlinked",
        )
    if facts.flags & (_IMMUTABLE | _APPEND_ONLY) and not chosen.allow_immutable:
        raise CommandRejected("it is immutable or append-only; allow_immutable lifts that", code="immutable")
    if facts.parent_flags & (_IMMUTABLE | _APPEND_ONLY):
        raise CommandRejected("its directory is immutable or append-only", code="directory_immutable")
    _refuse_burden(facts, vault)


def _refuse_burden(facts: FileFacts, vault: Vault) -> None:
    if any(attribute.name.startswith(b"trusted.") for attribute in facts.attributes):
        raise CommandRejected(
            "it has trusted.* attributes, which this worker may not give back", code="trusted_attributes"
        )
    if sum(len(a.name) + len(a.value) for a in facts.attributes) > _LARGEST_ATTRIBUTES:
        raise CommandRejected("its extended attributes do not fit a manifest", code="too_many_attributes")
    if facts.size > vault.limits.max_file:
        raise CommandRejected(
            f"it has {facts.size} bytes; this node takes at most {vault.limits.max_file} "
            "(file_quarantine.max_file_size_mb)",
            code="too_large",
        )


def _differs(facts: FileFacts, reviewed: ReviewedFile) -> str:
    """The first thing that is not as it was reviewed; empty when all is. The content is compared when it is read."""
    pairs: tuple[tuple[str, int, int], ...] = (
        ("device", facts.identity.device, reviewed.device),
        ("inode", facts.identity.inode, reviewed.inode),
        ("size", facts.size, reviewed.size),
        ("modification time", facts.mtime_ns, reviewed.mtime_ns),
        ("change time", facts.ctime_ns, reviewed.ctime_ns),
        ("number of links", facts.links, reviewed.links),
    )
    return next((name for name, now, then in pairs if now != then), "")


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
