"""From outside: signed commands to a real node process about what is not there, switched off, or too large.

Each answer must say what is so: never a success where nothing was found, never a setting that is not the one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_process import NodeSite, Victim, embedded_broker
from workers.domain.command import parameters_digest
from workers.domain.event import ProcessRef
from workers.domain.ids import EventId
from workers.domain.outcome import Outcome
from workers.domain.request import Causation
from workers.domain.result import ActionResult
from workers.domain.target import FileTarget, ProcessTarget, Target

pytestmark = pytest.mark.timeout(120)

NO_PID = 4_000_000
"""Below every kernel's limit, and above every pid of a machine that was not told otherwise."""

PROCESS_ACTIONS = ("kill_process", "suspend_process", "snapshot_process")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeSite]:
    """A node that takes at most a megabyte, and may not suspend."""
    directory = tmp_path_factory.mktemp("plain")
    with embedded_broker() as broker, NodeSite(directory, broker) as made:
        made.storage = {"directory": str(directory / "objects")}
        made.actions |= {"file_acquire": {"max_file_size_mb": 1}, "pause_container": {"trigger": "none"}}
        made.configure()
        made.start()
        made.up()
        yield made


def does(site: NodeSite, action: str, target: Target | None, **more: Any) -> ActionResult:
    command = site.kill(0, **{"action": action, "target": target, "parameters_sha256": parameters_digest({}), **more})
    site.send(command)
    return site.ended(command.command_id)


@pytest.mark.parametrize("action", PROCESS_ACTIONS)
def test_a_pid_that_nothing_says_existed_is_no_success(site: NodeSite, action: str) -> None:
    for pid in (NO_PID, 2_000_000_000):
        ended = does(site, action, ProcessTarget((ProcessRef(pid),), site.clock.now_ns()))
        assert (ended.outcome, ended.code) == (Outcome.NO_ACTION, f"{action}_error_target_never_seen"), ended
        assert ended.post_condition is None
        assert f"there is no process {pid}" in ended.message


@pytest.mark.parametrize("action", PROCESS_ACTIONS)
def test_a_process_that_an_event_or_a_start_time_names_has_ended(site: NodeSite, action: str) -> None:
    victim = Victim()
    victim.bury()
    now_ns = site.clock.now_ns()
    by_event = does(site, action, ProcessTarget((ProcessRef(victim.pid),), now_ns), causation=Causation(EventId("e-1")))
    by_start = does(site, action, ProcessTarget((ProcessRef(victim.pid, started_at_ns=now_ns),), now_ns))
    for ended in (by_event, by_start):
        assert (ended.outcome, ended.code) == (Outcome.NO_ACTION, f"{action}_success_target_gone"), ended


@pytest.mark.parametrize("action", ["file_quarantine", "file_acquire"])
def test_a_path_that_nothing_has_is_rejected_as_missing(site: NodeSite, action: str, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path / "no" / "directory"):
        ended = does(site, action, FileTarget(bytes(path), site.clock.now_ns()))
        assert (ended.outcome, ended.code) == (Outcome.REJECTED, f"{action}_error_missing"), ended
        assert str(path) in ended.message
    assert list(tmp_path.iterdir()) == []


def test_a_file_above_the_limit_of_acquire_is_refused_and_one_at_it_is_taken(site: NodeSite, tmp_path: Path) -> None:
    for name, size in (("fits", 1 << 20), ("larger", (1 << 20) + 1)):
        (tmp_path / name).write_bytes(bytes(size))
    fits = does(site, "file_acquire", FileTarget(bytes(tmp_path / "fits"), site.clock.now_ns()))
    assert (fits.outcome, fits.outputs["size"]) == (Outcome.COMPLETED, 1 << 20), fits
    stored = {path for path in (site.directory / "objects").rglob("*") if path.is_file()}
    larger = does(site, "file_acquire", FileTarget(bytes(tmp_path / "larger"), site.clock.now_ns()))
    assert (larger.outcome, larger.code) == (Outcome.REJECTED, "file_acquire_error_too_large"), larger
    assert "1048577 bytes" in larger.message
    assert "file_acquire.max_file_size_mb" in larger.message
    assert {path for path in (site.directory / "objects").rglob("*") if path.is_file()} == stored


def test_a_switched_off_action_names_the_setting_that_switched_it_off(site: NodeSite) -> None:
    victim = Victim()
    try:
        site.stop()
        site.actions |= {"kill_process": {"trigger": "none"}}
        site.configure()
        site.start()
        site.up()
        by_trigger = does(site, "kill_process", ProcessTarget((ProcessRef(victim.pid),), site.clock.now_ns()))
        site.stop()
        site.actions |= {"enabled": False}
        site.configure()
        site.start()
        site.up()
        all_of_them = does(site, "kill_process", ProcessTarget((ProcessRef(victim.pid),), site.clock.now_ns()))
        assert victim.process.poll() is None
    finally:
        site.stop()
        site.actions.pop("kill_process")
        site.actions.pop("enabled")
        site.configure()
        site.start()
        site.up()
        victim.bury()
    assert by_trigger.code == all_of_them.code == "kill_process_error_disabled"
    assert "kill_process.trigger: NONE" in by_trigger.message
    assert "response_actions.enabled: false" in all_of_them.message
    assert "trigger" not in all_of_them.message
