"""What a start finds in the vault, and what it says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.node import NodeBench
from tests.fakes.vault import FakeVault
from workers.domain.errors import PermanentFailure
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Outcome, Report
from workers.domain.targets.file import Location
from workers.domain.targets.manifest import ManifestState, intent
from workers.node.leftovers import Leftovers

TAKEN = id_from_cause(1, "a quarantine")
PATH = b"/tmp/mal"


class Rig:
    """A bench whose node has a vault with one manifest."""

    def __init__(self, state: ManifestState, *, entry: EntryState | None = None, holds: bool = False) -> None:
        self.bench, self.vault = NodeBench(), FakeVault()
        file = self.vault.put(PATH)
        facts = self.vault.examine(Location(PATH, None))
        assert facts is not None
        manifest = intent(
            TAKEN, facts, Location(PATH, None), parking=b".douse-1", now_ns=1, clear_flags=False, approval_class="auto"
        )
        self.vault.manifests[TAKEN] = replace(manifest, state=state)
        if state in (ManifestState.PARKED, ManifestState.STORED):
            self.vault.parked[b".douse-1"] = self.vault.files.pop(PATH)
        if state in (ManifestState.STORED, ManifestState.DONE):
            self.vault.objects[TAKEN] = file.content
        if entry is not None:
            with self.bench.journal.begin() as tx:
                report = Report(Outcome.COMPLETED, "x", "", effect_holds=holds)
                tx.put(JournalEntry(TAKEN, entry, b"", "", 1, 2, report=report))

    def found(self) -> list[str]:
        """What a start reports."""
        host = replace(self.bench.services.host, vault=self.vault)
        before = (dict(self.vault.files), dict(self.vault.parked), dict(self.vault.objects), dict(self.vault.parts))
        Leftovers(replace(self.bench.services, host=host), self.bench.transitions).step()
        self.bench.relay()
        after = (dict(self.vault.files), dict(self.vault.parked), dict(self.vault.objects), dict(self.vault.parts))
        assert before == after, "it only looks"
        records = self.bench.audit("leftover")
        assert {record.execution_id for record in records} <= {TAKEN, ExecutionId("")}
        return [str(record.detail["what"]) for record in records]


@pytest.mark.parametrize("state", [ManifestState.PARKED, ManifestState.STORED])
def test_a_parked_file_that_no_open_entry_explains_is_reported(state: ManifestState) -> None:
    for rig in (Rig(state), Rig(state, entry=EntryState.PUBLISHED)):
        assert rig.found() == ["parked_file"]
        assert rig.bench.services.health.status == "leftovers"


@pytest.mark.parametrize("entry", [EntryState.RECEIVED, EntryState.CLAIMED])
def test_what_an_open_entry_explains_is_not_reported(entry: EntryState) -> None:
    rig = Rig(ManifestState.PARKED, entry=entry)
    assert rig.found() == []
    assert rig.bench.services.health.status == "ok"


@pytest.mark.parametrize("state", [ManifestState.PARKED, ManifestState.STORED, ManifestState.DONE])
def test_what_counts_as_held_is_not_reported(state: ManifestState) -> None:
    assert Rig(state, entry=EntryState.PUBLISHED, holds=True).found() == []


def test_a_file_that_has_its_name_is_no_leftover() -> None:
    assert Rig(ManifestState.INTENT).found() == []
    assert Rig(ManifestState.RETURNED).found() == []
    assert Rig(ManifestState.RESTORED).found() == []


def test_a_quarantine_that_the_journal_does_not_know_is_reported() -> None:
    assert Rig(ManifestState.DONE).found() == ["quarantined_file"]


def test_parts_and_objects_without_a_manifest_are_reported() -> None:
    rig = Rig(ManifestState.RETURNED)
    rig.vault.parts[TAKEN] = b"half"
    assert rig.found() == ["part"]
    rig = Rig(ManifestState.DONE)
    del rig.vault.manifests[TAKEN]
    assert rig.found() == ["object"]


def test_an_object_that_is_gone_is_reported() -> None:
    rig = Rig(ManifestState.DONE, entry=EntryState.OBSERVED, holds=True)
    rig.vault.objects.clear()
    assert rig.found() == ["object_missing"]


def test_a_manifest_or_a_vault_that_cannot_be_read_is_reported() -> None:
    rig = Rig(ManifestState.DONE)
    rig.vault.fail["manifest"] = [PermanentFailure("forged", code="manifest_damaged")]
    assert rig.found() == ["manifest_unreadable"]
    rig = Rig(ManifestState.DONE)
    rig.vault.fail["contents"] = [PermanentFailure("mode 0755", code="vault_unusable")]
    assert rig.found() == ["vault_unreadable"]
