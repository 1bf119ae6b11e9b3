"""A worker that dies again and again, of whatever cause, strands no file: a real node process, killed from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.node_process import NodeSite, embedded_broker
from tests.quarantined_files import FileState, file_state
from workers.domain.command import ActionCommand
from workers.domain.outcome import Outcome
from workers.domain.target import FileTarget
from workers.system.failpoints import KILLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Q = "file_quarantine"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as broker, NodeSite(tmp_path, broker) as made:
        made.start()
        made.heartbeat()
        assert made.stop() == 0
        (tmp_path / "files").mkdir()
        yield made


def new_file(site: NodeSite, name: str = "mal", *, size: int = 70_000) -> tuple[Path, FileState]:
    path = site.directory / "files" / name
    path.write_bytes(os.urandom(size))
    path.chmod(0o751)
    os.utime(path, ns=(10**18, 10**18 + 1))
    return path, file_state(path)


def quarantine(site: NodeSite, path: Path) -> ActionCommand:
    target = FileTarget(os.fsencode(path), observed_at_ns=site.clock.now_ns())
    return site.kill(0, action=Q, target=target)


def undo(site: NodeSite, command: ActionCommand) -> ActionCommand:
    return site.kill(0, action="file_unquarantine", target=None, undo_of=command.command_id)


def die(site: NodeSite, point: str, times: int = 1) -> None:
    """Start the node, and see it die where it was armed to."""
    for _ in range(times):
        assert site.start(f"{point}=kill:1").wait(30) == KILLED, f"{point} was never reached\n{site.log()[-3000:]}"


def nothing_parked(site: NodeSite) -> None:
    left = list((site.directory / "files").glob(".douse-*"))
    assert not left, left


@pytest.mark.parametrize("steps", ["011", "111", "222", "334"])
def test_three_deaths_inside_a_quarantine_leave_the_file_under_its_name(site: NodeSite, steps: str) -> None:
    path, before = new_file(site)
    command = quarantine(site, path)
    site.send(command)
    for step in steps:
        die(site, f"{Q}.q{step}")
    site.start()
    ended = site.ended(command.command_id)
    assert (ended.outcome, ended.code) == (Outcome.FAILED, f"{Q}_error_poison_action"), ended
    assert not ended.effect_holds
    assert file_state(path) == before
    nothing_parked(site)
    assert not list((site.directory / "quarantine").glob("*.part"))


def test_three_deaths_after_the_object_is_whole_end_the_quarantine_as_done(site: NodeSite) -> None:
    path, before = new_file(site)
    command = quarantine(site, path)
    site.send(command)
    die(site, f"{Q}.q5", 3)
    site.start()
    ended = site.ended(command.command_id)
    assert (ended.outcome, ended.effect_holds, path.exists()) == (Outcome.COMPLETED, True, False), ended
    back = undo(site, command)
    site.send(back)
    assert site.ended(back.command_id).outcome is Outcome.COMPLETED
    assert file_state(path) == before
    nothing_parked(site)


def test_where_even_the_conclusion_kills_the_worker_the_effect_counts_as_held_and_its_undo_works(
    site: NodeSite,
) -> None:
    path, before = new_file(site)
    command = quarantine(site, path)
    site.send(command)
    die(site, f"{Q}.q1", 3)
    die(site, "node.observe.before_commit", 3)
    site.start()
    ended = site.ended(command.command_id)
    assert (ended.outcome, ended.code, ended.effect_holds, ended.cause) == (
        Outcome.PARTIAL,
        f"{Q}_error_poison_action",
        True,
        "unproven",
    ), ended
    back = undo(site, command)
    site.send(back)
    assert site.ended(back.command_id).outcome is Outcome.COMPLETED
    assert file_state(path) == before
    nothing_parked(site)


@pytest.mark.parametrize("steps", ["022", "444", "555", "556"])
def test_deaths_inside_an_undo_leave_the_file_whole_and_a_later_undo_works(site: NodeSite, steps: str) -> None:
    path, before = new_file(site)
    command = quarantine(site, path)
    site.send(command)
    site.start()
    assert site.ended(command.command_id).outcome is Outcome.COMPLETED
    site.up()
    assert site.stop() == 0
    back = undo(site, command)
    site.send(back)
    for step in steps:
        die(site, f"file_unquarantine.r{step}")
    site.start()
    ended = site.ended(back.command_id)
    if ended.outcome is not Outcome.COMPLETED:
        assert not path.exists()
        again = undo(site, command)
        site.send(again)
        assert site.ended(again.command_id).outcome is Outcome.COMPLETED
    assert file_state(path) == before


def test_a_bystander_in_flight_is_not_blamed_for_the_deaths_of_another(site: NodeSite) -> None:
    """A large file is being copied each time another command kills the worker: the copy ends well all the same."""
    large, large_before = new_file(site, "bystander", size=30_000_000)
    guilty, guilty_before = new_file(site, "guilty")
    bystander, poison = quarantine(site, large), quarantine(site, guilty)
    dying = site.start(f"{Q}.q1=kill:2")
    site.send(bystander)
    site.until(lambda seen: any(r.execution_id == bystander.command_id for r in seen.results))
    site.send(poison)
    assert dying.wait(30) == KILLED
    die(site, f"{Q}.q1", 3)
    site.start()
    ended = site.ended(bystander.command_id)
    assert (ended.outcome, ended.effect_holds, large.exists()) == (Outcome.COMPLETED, True, False), ended
    back = undo(site, bystander)
    site.send(back)
    assert site.ended(back.command_id).outcome is Outcome.COMPLETED
    assert file_state(large) == large_before
    ended = site.ended(poison.command_id)
    assert (ended.outcome, ended.code) == (Outcome.FAILED, f"{Q}_error_poison_action"), ended
    assert file_state(guilty) == guilty_before
    nothing_parked(site)


def test_a_start_says_which_parked_file_nothing_explains(site: NodeSite) -> None:
    """Somebody deletes the journal while a file is parked."""
    path, _ = new_file(site)
    command = quarantine(site, path)
    site.send(command)
    die(site, f"{Q}.q2")
    journals = list(site.directory.glob("**/journal.sqlite*"))
    assert journals
    for each in journals:
        each.unlink()
    site.start()
    site.until(lambda seen: len([record for record in seen.audit if record.kind == "leftover"]) >= 2)
    found = [record for record in site.seen.audit if record.kind == "leftover"]
    assert {str(record.detail["what"]) for record in found} == {"parked_file", "part"}
    assert {record.execution_id for record in found} == {command.command_id}
    site.until(lambda seen: seen.heartbeats[-1].health == "leftovers")
    (parked,) = (site.directory / "files").glob(".douse-*/file")
    assert parked.stat().st_size == 70_000, "it was not touched"


def test_where_another_file_took_the_name_it_stays_parked_counts_as_held_and_comes_back_later(
    site: NodeSite,
) -> None:
    path, before = new_file(site)
    command = quarantine(site, path)
    site.send(command)
    die(site, f"{Q}.q1", 3)
    path.write_bytes(b"another")
    site.start()
    ended = site.ended(command.command_id)
    assert (ended.outcome, ended.code, ended.effect_holds) == (Outcome.PARTIAL, f"{Q}_error_poison_action", True), ended
    refused = undo(site, command)
    site.send(refused)
    assert site.ended(refused.command_id).code == "file_unquarantine_error_restore_conflict"
    assert path.read_bytes() == b"another"
    path.unlink()
    back = undo(site, command)
    site.send(back)
    assert site.ended(back.command_id).outcome is Outcome.COMPLETED
    assert file_state(path) == before
    nothing_parked(site)
