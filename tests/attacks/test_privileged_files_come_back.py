"""A setuid file, and one with capabilities, goes in through a real node process and comes out again as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_process import NodeSite, embedded_broker
from tests.quarantined_files import file_state
from workers.domain.outcome import Outcome
from workers.domain.result import ActionResult
from workers.domain.target import FileTarget
from workers.system.failpoints import KILLED

CAPABILITY = "security.capability"
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw=ep, as setcap writes it."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as broker, NodeSite(tmp_path / "node", broker) as made:
        made.start()
        yield made


def test_a_half_made_quarantine_of_a_setuid_file_is_not_given_back_by_a_lower_class(
    site: NodeSite, tmp_path: Path, require: Callable[..., Any]
) -> None:
    """It stays parked because another file took its name; the undo that finds that name free must be as approved."""
    require("root", "only root may make such a file")
    path = tmp_path / "files" / "ping"
    path.parent.mkdir()
    shutil.copy("/bin/sleep", path)
    path.chmod(0o4755)
    before = file_state(path)
    taking = site.kill(
        0, action="file_quarantine", target=FileTarget(bytes(path), site.clock.now_ns()), approval_class="one"
    )
    site.stop()
    site.send(taking)
    for _ in range(3):
        assert site.start("file_quarantine.q1=kill:1").wait(30) == KILLED
    path.write_bytes(b"another")
    site.start()
    taken = site.ended(taking.command_id)
    assert (taken.outcome, taken.effect_holds) == (Outcome.PARTIAL, True), taken
    path.unlink()

    def undone(approval_class: str) -> ActionResult:
        undoing = site.kill(
            0, action="file_unquarantine", target=None, undo_of=taking.command_id, approval_class=approval_class
        )
        site.send(undoing)
        return site.ended(undoing.command_id)

    refused = undone("auto")
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "file_unquarantine_error_approval_missing"), refused
    assert not path.exists()
    assert undone("one").outcome is Outcome.COMPLETED
    assert file_state(path) == before


def test_trusted_attributes_come_back_and_a_worker_that_may_not_set_them_says_so(
    site: NodeSite, tmp_path: Path, require: Callable[..., Any]
) -> None:
    require("root", "only root may set such an attribute")
    path = tmp_path / "files" / "mal"
    path.parent.mkdir()
    shutil.copy("/bin/sleep", path)
    os.setxattr(path, "trusted.verdict", b"evil")
    os.setxattr(path, "user.note", b"kept")
    before = file_state(path)
    assert ("trusted.verdict", b"evil") in before.attributes

    taking = site.kill(0, action="file_quarantine", target=FileTarget(bytes(path), site.clock.now_ns()))
    site.send(taking)
    taken = site.ended(taking.command_id)
    assert (taken.outcome, path.exists()) == (Outcome.COMPLETED, False), taken

    def undone() -> ActionResult:
        undoing = site.kill(0, action="file_unquarantine", target=None, undo_of=taking.command_id)
        site.send(undoing)
        return site.ended(undoing.command_id)

    whole = site.prefix
    site.stop()
    site.prefix = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    site.start()
    site.up()
    refused = undone()
    assert (refused.outcome, refused.code) == (Outcome.FAILED, "file_unquarantine_error_metadata_refused"), refused
    assert "trusted.verdict" in refused.message
    assert "SYS_ADMIN" in refused.message
    assert list(path.parent.iterdir()) == []
    site.stop()
    site.prefix = whole
    site.start()
    site.up()
    assert undone().outcome is Outcome.COMPLETED
    assert file_state(path) == before


def test_what_needs_two_people_is_refused_in_words_before_anything_is_taken(
    site: NodeSite, tmp_path: Path, require: Callable[..., Any]
) -> None:
    """Else it could go in by one word and come out by none. A dry run says the same beforehand."""
    require("root", "only root may make such a file")
    path, secret = tmp_path / "files" / "ping", tmp_path / "files" / "id_ed25519"
    path.parent.mkdir()
    shutil.copy("/bin/sleep", path)
    path.chmod(0o4755)
    secret.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    secret.chmod(0o600)
    before = [file_state(each) for each in (path, secret)]
    site.stop()
    site.storage = {"directory": str(site.directory / "objects")}
    site.configure()
    site.start()
    site.up()
    for dry_run in (True, False):
        for action, named, approval_class in (("file_quarantine", path, "two"), ("file_acquire", secret, "one")):
            command = site.kill(
                0,
                action=action,
                target=FileTarget(bytes(named), site.clock.now_ns()),
                approval_class=approval_class,
                dry_run=dry_run,
            )
            site.send(command)
            ended = site.ended(command.command_id)
            assert (ended.outcome, ended.code) == (Outcome.REJECTED, f"{action}_error_approval_missing"), ended
            assert "approvals" in ended.message or "two people" in ended.message
    assert [file_state(each) for each in (path, secret)] == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["id_ed25519", "ping"]
    assert not [each for each in (site.directory / "objects").rglob("*") if each.is_file()]


@pytest.mark.parametrize("kind", ["setuid", "setgid", "capability"])
def test_an_undo_brings_a_privileged_file_back_with_everything_it_had(
    kind: str, site: NodeSite, tmp_path: Path, require: Callable[..., Any]
) -> None:
    require("root", "only root may make such a file")
    path = tmp_path / "files" / "ping"
    path.parent.mkdir()
    shutil.copy("/bin/sleep", path)
    os.chown(path, 0, 1234)
    path.chmod({"setuid": 0o4755, "setgid": 0o2755}.get(kind, 0o755))
    if kind == "capability":
        os.setxattr(path, CAPABILITY, NET_RAW)
    before = file_state(path)

    taking = site.kill(0, action="file_quarantine", target=FileTarget(bytes(path), site.clock.now_ns()))
    site.send(taking)
    taken = site.ended(taking.command_id)
    assert taken.outcome is Outcome.COMPLETED, taken
    assert list(path.parent.iterdir()) == []

    undoing = site.kill(0, action="file_unquarantine", target=None, undo_of=taking.command_id)
    site.send(undoing)
    back = site.ended(undoing.command_id)
    assert back.outcome is Outcome.COMPLETED, back
    assert file_state(path) == before
    assert path.stat().st_mode & 0o7777 == {"setuid": 0o4755, "setgid": 0o2755}.get(kind, 0o755)
    assert (CAPABILITY in os.listxattr(path)) is (kind == "capability")
    assert [entry.name for entry in path.parent.iterdir()] == ["ping"]
