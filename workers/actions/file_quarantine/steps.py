"""The steps Q1 to Q6 of a quarantine, from wherever a manifest stands.

Q0 (in ``take``) makes the manifest durable. Q1 moves the file into its parking directory, so that its name is gone. Q2
copies it into the vault, Q3 verifies the copy, Q4 makes it the stored object. Q5 removes the parked file, and Q6
records the end.

Run by ``take`` with the file's directory open; knows the domain and ports only. Each step is durable before the next.
What fails before a verified object exists is taken back; nothing is unlinked that is not in the vault.
"""

import contextlib
from dataclasses import dataclass, replace
from typing import Final, Protocol

from workers.actions.base import Job
from workers.actions.base.files import FileClaim, present_run
from workers.actions.file_quarantine.limits import QuarantineParameters
from workers.domain.errors import CommandRejected, Indeterminate, PermanentFailure, WorkerError, reason_of
from workers.domain.outcome import Report
from workers.domain.target import FileTarget
from workers.domain.targets.file import Enclosure, Holders, shown
from workers.domain.targets.manifest import Manifest, ManifestState
from workers.host.files.ports import QuarantineHandle, Vault, Whereabouts
from workers.host.ports import Host

FAILPOINTS: Final = tuple(f"file_quarantine.q{step}" for step in range(7))
"""Right after each step."""

_SEARCH_NS: Final = 2_000_000_000
"""How long the search for processes that have the file open may take: the granted heartbeat gap."""


POISON: Final = "poison_action"
"""The reason of what ended because the worker died in it again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineClaim(FileClaim):
    """The claim on a file that is to be taken."""

    present: bool = True
    mode: int
    user_id: int
    group_id: int
    links: int


class Reports(Protocol):
    """Makes the reports of a quarantine: the action itself."""

    def done(self, manifest: Manifest, claim: QuarantineClaim, vault: Vault, holders: Holders | None = None) -> Report:
        """The file is in the vault."""

    def failed(self, reason: str, message: str, claim: QuarantineClaim) -> Report:
        """The file has its name still, or again."""

    def still_parked(self, reason: str, message: str, claim: QuarantineClaim) -> Report:
        """The file is in its parking directory, and an undo gives its name back."""


def hold(manifest: Manifest, vault: Vault, host: Host) -> QuarantineHandle | CommandRejected:
    """The file's directory, open, or why it cannot be; a link in its path is not followed."""
    try:
        return _open(manifest, vault, host)
    except CommandRejected as error:
        return error
    except WorkerError as error:
        raise Indeterminate(f"its directory cannot be opened: {error.message}", code="half_done") from error


def _open(manifest: Manifest, vault: Vault, host: Host) -> QuarantineHandle:
    """In the run that it was taken from; where that has ended, in the one that its container has now."""
    inside: Enclosure | None = manifest.enclosure
    try:
        held = vault.hold_for_quarantine(manifest, inside)
    except CommandRejected as error:
        if error.reason != "container_gone":
            raise
        held = vault.hold_for_quarantine(manifest, present_run(manifest.container_id, manifest.runtime, host))
    if held is None:
        raise CommandRejected("the directory of the file is another one now", code="target_changed")
    return held


def take_back(file: QuarantineHandle, vault: Vault, manifest: Manifest, reason: str) -> Manifest | None:
    """End a quarantine that stands half made, by the shortest way, without reading the content: the manifest in its
    last state (``returned``, or ``done`` where only the object is left), or None where another file has the name, and
    this one stays parked. May be called again after a crash in it.

    Raises:
        PermanentFailure: ``parked_file_lost``.
        WorkerError: of the steps.
    """

    def recorded(state: ManifestState, **more: str) -> Manifest:
        moved = replace(manifest, state=state, **more)  # type: ignore[arg-type]
        vault.record(moved)
        return moved

    if file.where() is Whereabouts.GONE:
        if manifest.state is ManifestState.STORED:
            file.remove()
            return recorded(ManifestState.DONE)
        raise PermanentFailure(
            f"it is neither under its name nor in {shown(manifest.parking)} beside it", code="parked_file_lost"
        )
    if manifest.state is ManifestState.STORED:
        recorded(ManifestState.PARKED)  # first: from now on the object counts for nothing
    if not file.unpark():
        return None
    file.discard()
    return recorded(ManifestState.RETURNED, reason=reason)


@dataclass(frozen=True, slots=True)
class Steps:
    """One run of the steps Q1 to Q6, with the file's directory open."""

    reports: Reports
    job: Job[QuarantineParameters]
    claim: QuarantineClaim
    host: Host
    vault: Vault
    file: QuarantineHandle

    def run(self, manifest: Manifest) -> Report:
        """From where the manifest stands."""
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
            self.file.verify(manifest, deadline_ns=self.job.deadline_ns)
        except PermanentFailure as error:
            if error.reason != "object_damaged" or self.file.where() is not Whereabouts.PARKED:
                raise
            return self._record(manifest, ManifestState.PARKED)
        return manifest

    def _parked(self, manifest: Manifest) -> Manifest:
        """Q1."""
        if manifest.state is ManifestState.PARKED and self.file.where() is Whereabouts.PARKED:
            return manifest
        if not self.file.park():
            raise PermanentFailure("another file has its name now; nothing was touched", code="target_changed")
        self._reach(1)
        return self._record(manifest, ManifestState.PARKED)

    def _store(self, manifest: Manifest) -> Manifest:
        """Q2 to Q4. A file that is written to meanwhile is copied once more, and then taken as it is."""
        self.file.discard()
        drafted, steady = self._copied(manifest)
        if not (steady and self.file.unchanged()):
            self.file.discard()
            drafted, _ = self._copied(replace(manifest, content_changed=True))
        self._reach(3)
        target = self.job.target
        reviewed = target.reviewed if isinstance(target, FileTarget) else None
        if reviewed is not None and (reviewed.sha256, reviewed.size) != (drafted.sha256, drafted.size):
            raise PermanentFailure("its content is not what was reviewed", code="target_changed")
        self.file.store()
        stored = self._record(drafted, ManifestState.STORED)
        self._reach(4)
        return stored

    def _copied(self, manifest: Manifest) -> tuple[Manifest, bool]:
        copied = self.file.copy(limit=self.vault.limits.max_file, deadline_ns=self.job.deadline_ns)
        self._reach(2)
        drafted = replace(
            manifest,
            size=copied.size,
            sha256=copied.sha256,
            object_size=copied.object_size,
            object_sha256=copied.object_sha256,
            extents=copied.extents,
        )
        self.file.verify(drafted, deadline_ns=self.job.deadline_ns)
        return drafted, copied.steady

    def _end(self, manifest: Manifest) -> Report:
        """Q5 and Q6."""
        search_until_ns = min(self.job.deadline_ns, self.host.clock.now_ns() + _SEARCH_NS)
        holders = self.file.holders(deadline_ns=search_until_ns)
        self.file.remove()
        self._reach(5)
        done = self._record(manifest, ManifestState.DONE)
        self._reach(6)
        return self.reports.done(done, self.claim, self.vault, holders)

    def _take_back(self, manifest: Manifest, error: WorkerError) -> Report:
        """Nothing verified is in the vault: the file gets its name again."""
        try:
            self.file.discard()
            back = self.file.unpark()
        except WorkerError as second:
            raise Indeterminate(
                f"{error.message}; and the file could not be given its name back yet: {second.message}",
                code="return_pending",
            ) from error
        if not back:
            where = f"{shown(manifest.parking)}/file beside it"
            message = f"{error.message}; its name was taken meanwhile, so it stays in {where}, readable for root only"
            return self.reports.still_parked(reason_of(error), message, self.claim)
        reason = reason_of(error)
        with contextlib.suppress(WorkerError):  # a full disk: the journal has the outcome, and a rerun would find it so
            self.vault.record(replace(manifest, state=ManifestState.RETURNED, reason=reason))
        return self.reports.failed(reason, f"{error.message}; the file has its name again", self.claim)

    def _record(self, manifest: Manifest, state: ManifestState) -> Manifest:
        moved = replace(manifest, state=state)
        self.vault.record(moved)
        return moved

    def _reach(self, step: int) -> None:
        self.host.failpoints.reach(FAILPOINTS[step])
