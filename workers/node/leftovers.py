"""Leftovers: what a start finds in the vault that no entry of the journal explains, reported and not touched.

Called once by the loop's gathering threads when nothing waits there, so it never delays a kill. A crash leaves nothing
of this kind; a lost journal, a full disk, or another program that changed the vault does. Each is an audit record and a
line in the log, and the heartbeat's health says ``leftovers``. Copies on the spool and unfinished uploads are the
janitor's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from workers.domain.errors import WorkerError
from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Scalar
from workers.domain.targets.file import shown
from workers.domain.targets.manifest import UNFINISHED, Manifest, ManifestState
from workers.host.files.ports import Stored, Vault, Whereabouts
from workers.node.services import Services
from workers.node.transitions import Transitions

MOST: Final = 100
"""Audit records of one start; the last one counts the rest."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing, and the execution under whose name it is."""

    what: str
    execution_id: ExecutionId
    path: str = ""
    detail: str = ""

    @property
    def values(self) -> dict[str, Scalar]:
        """For log and audit."""
        return {"what": self.what, "path": self.path, "detail": self.detail}


class Leftovers:
    """Holds nothing but whether it has looked."""

    def __init__(self, services: Services, transitions: Transitions) -> None:
        self._services = services
        self._transitions = transitions
        self._looked = False

    def step(self) -> None:
        """Look, once for each start. Blocks on disks.

        Raises:
            JournalUnavailable: nothing was reported; call again.
        """
        vault = self._services.host.vault
        if self._looked or vault is None:
            return
        self._looked = True  # before the work: there are two gathering threads, and each thing is reported once
        try:
            self._report(self._found(vault))
        except BaseException:
            self._looked = False
            raise

    def _found(self, vault: Vault) -> list[Leftover]:
        try:
            return list(self._in_the_vault(vault))
        except WorkerError as error:
            return [Leftover("vault_unreadable", ExecutionId(""), detail=error.message)]

    def _report(self, found: list[Leftover]) -> None:
        self._services.health.leftovers = len(found)
        if not found:
            return
        with self._transitions.commit() as tx:
            for each in found[:MOST]:
                self._services.recorder.audit(
                    tx,
                    "leftover",
                    at_ns=self._services.time.now_ns(),
                    execution_id=each.execution_id,
                    detail={**each.values, "found": len(found)},
                )
        for each in found[:MOST]:
            self._services.telemetry.log("leftover", level="error", execution_id=each.execution_id, **each.values)

    def _in_the_vault(self, vault: Vault) -> Iterator[Leftover]:
        for stored in vault.contents():
            entry = self._services.journal.entry(stored.execution_id)
            if entry is not None and entry.state in (EntryState.RECEIVED, EntryState.CLAIMED):
                continue  # it is being gone on with
            try:
                manifest = vault.manifest(stored.execution_id)
            except WorkerError as error:
                yield Leftover(
                    "manifest_unreadable", stored.execution_id, vault.object_path(stored.execution_id), error.message
                )
                continue
            yield from _of_one(stored, manifest, entry, vault)


def _of_one(stored: Stored, manifest: Manifest | None, entry: JournalEntry | None, vault: Vault) -> Iterator[Leftover]:
    """What nothing explains about one execution that has ended, or that the journal does not know."""
    inside = vault.object_path(stored.execution_id)
    if stored.part:
        yield Leftover("part", stored.execution_id, f"{inside}.part", "a copy that was not finished")
    if manifest is None:
        if stored.object:
            yield Leftover("object", stored.execution_id, inside, "no manifest says what it is")
        return
    path, holds = shown(manifest.path), entry is not None and entry.holds
    if manifest.state in UNFINISHED and not holds:
        where = _whereabouts(manifest, vault)
        if where is not Whereabouts.NAMED:
            parked = f"{shown(manifest.parking)}/file beside {path}"
            detail = f"it is in {parked}" if where is Whereabouts.PARKED else f"it may be in {parked}"
            yield Leftover("parked_file", stored.execution_id, path, detail)
    if manifest.state is ManifestState.DONE and not holds:
        why = "the journal does not know it" if entry is None else "its execution does not count as held"
        yield Leftover("quarantined_file", stored.execution_id, path, f"{why}; the content is {inside}")
    if manifest.state is ManifestState.DONE and holds and not stored.object:
        yield Leftover("object_missing", stored.execution_id, path, f"{inside} is gone; the file cannot come back")


def _whereabouts(manifest: Manifest, vault: Vault) -> Whereabouts | None:
    """Where the file is; None where it would take a container's runtime, or a disk that need not answer, to know."""
    if manifest.container_id or manifest.allow_remote:
        return None
    try:
        held = vault.hold_for_quarantine(manifest, None)
        if held is None:
            return None
        try:
            return held.where()
        finally:
            held.close()
    except WorkerError:
        return None
