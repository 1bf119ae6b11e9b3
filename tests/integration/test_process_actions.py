"""Suspend, resume and the killing of trees in a real node process: it dies at every step, its disk is full, and it
tells what somebody else undid.

Broker: embedded. Disk, keys, journal, /proc, signals: real. Figures are printed (pytest -s).
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.node_process import NodeSite, Victim, embedded_broker
from tests.victims import await_state, state_of, wait_until
from workers.actions import FAILPOINTS
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.outcome import Outcome
from workers.domain.result import EFFECT_LOST
from workers.system.failpoints import KILLED

TREE: dict[str, Any] = {"tree": True}
SECOND = 1_000_000_000


class Family:
    """A shell with two children, held by the test; killing its session is what is left to do in the end."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["sh", "-c", "sleep 600 & sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.process.stdout.close()
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()
        self.pids = [self.pid, *map(int, children)]
        time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def states(self) -> set[str]:
        return {state_of(pid) for pid in self.pids}

    @property
    def all_dead(self) -> bool:
        self.process.poll()
        return self.states <= {"", "Z"}

    def await_death(self) -> None:
        """Until nobody of them is left."""
        wait_until(lambda: self.all_dead)

    def bury(self) -> None:
        """End them, whoever was meant to."""
        if not self.all_dead:
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def site(tmp_path: Path, require: Callable[..., None]) -> Iterator[NodeSite]:
    require("linux", "pidfds and /proc are what the node acts through")
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        yield made


@pytest.fixture
def victims() -> Iterator[list[Victim | Family]]:
    made: list[Victim | Family] = []
    yield made
    for victim in made:
        victim.bury()


def tree_of(site: NodeSite, root: int, **more: Any) -> ActionCommand:
    return site.kill(root, parameters=TREE, parameters_sha256=parameters_digest(TREE), **more)


def suspend(site: NodeSite, pid: int) -> ActionCommand:
    return site.kill(pid, action="suspend_process")


def resume(site: NodeSite, suspended: ActionCommand) -> ActionCommand:
    return site.kill(0, action="resume_process", target=None, undo_of=suspended.command_id)


def dies_at(site: NodeSite, place: str, command: ActionCommand) -> float:
    """The node dies there, and settles the command in its next life; how long that took from the start."""
    dying = site.start(f"{place}=kill:1")
    site.send(command)
    assert dying.wait(60) == KILLED, f"{place} was never reached"
    began = time.monotonic()
    site.start()
    ended = site.ended(command.command_id, timeout_s=60)
    assert ended.outcome is Outcome.COMPLETED, f"{place}: {ended}"
    return time.monotonic() - began


def runs(site: NodeSite, command: ActionCommand) -> None:
    site.start()
    site.send(command)
    assert site.ended(command.command_id, timeout_s=60).outcome is Outcome.COMPLETED


def rest(site: NodeSite) -> None:
    site.up()
    assert site.stop() == 0


@pytest.mark.timeout(240)
def test_a_node_killed_at_any_step_suspends_resumes_and_kills_trees_all_the_same(
    site: NodeSite, victims: list[Victim | Family]
) -> None:
    site.start()
    site.heartbeat()
    assert site.stop() == 0
    took, effects = [], []
    for place in FAILPOINTS:
        action = place.partition(".")[0]
        if action in ("suspend_process", "resume_process"):
            (victim,) = Victim.several(1)
            victims.append(victim)
            first = suspend(site, victim.pid)
            commands = [first] if action == "suspend_process" else [first, resume(site, first)]
            for command in commands:
                if command.action == action:
                    took.append(dies_at(site, place, command))
                else:
                    runs(site, command)
                rest(site)
            await_state(victim.pid, "T" if action == "suspend_process" else "S")
            effects += [Effect(command.command_id, f"{victim.pid}/{command.action}") for command in commands]
        elif action == "kill_process":
            family = Family()
            victims.append(family)
            command = tree_of(site, family.pid)
            took.append(dies_at(site, place, command))
            rest(site)
            family.await_death()
            effects.append(Effect(command.command_id, str(family.pid)))
    check_all(site.observation(effects))
    print(
        f"\nnode killed at {len(took)} steps of suspend, resume and kill of a tree: done twice 0, left stopped 0; "
        f"start to settled: median {statistics.median(took):.2f} s, slowest {max(took):.2f} s"
    )


def test_a_tree_that_was_stopped_when_the_node_died_is_killed_though_the_command_expired_meanwhile(
    site: NodeSite, victims: list[Victim | Family]
) -> None:
    """Expiry bounds beginnings: who has been stopped must not stay so for ever."""
    site.start()
    site.heartbeat()
    assert site.stop() == 0
    family = Family()
    victims.append(family)
    dying = site.start("kill_process.at_rest=kill:1")
    site.up()
    command = tree_of(site, family.pid, expires_at_ns=site.clock.now_ns() + 3 * SECOND)
    site.send(command)
    assert dying.wait(60) == KILLED
    assert family.states == {"T"}
    time.sleep(3.5)
    site.start()
    assert site.ended(command.command_id, timeout_s=60).outcome is Outcome.COMPLETED
    family.await_death()


def test_whoever_lets_it_go_on_is_reported_once_and_there_is_nothing_to_undo_any_more(
    site: NodeSite, victims: list[Victim | Family]
) -> None:
    site.start()
    site.heartbeat()
    (victim,) = Victim.several(1)
    victims.append(victim)
    command = suspend(site, victim.pid)
    site.send(command)
    ended = site.ended(command.command_id)
    assert (ended.outcome, ended.effect_holds) == (Outcome.COMPLETED, True)
    os.kill(victim.pid, signal.SIGCONT)
    lost = site.until(lambda seen: [result for result in seen.results if result.alarm == EFFECT_LOST], timeout_s=60)
    assert [result.execution_id for result in lost] == [command.command_id]
    assert "was continued" in lost[0].message
    undo = resume(site, command)
    site.send(undo)
    refused = site.ended(undo.command_id)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "resume_process_error_nothing_to_revert")


def test_an_undo_lets_exactly_that_process_go_on(site: NodeSite, victims: list[Victim | Family]) -> None:
    site.start()
    site.heartbeat()
    ours, theirs = Victim.several(2)
    victims += [ours, theirs]
    os.kill(theirs.pid, signal.SIGSTOP)
    await_state(theirs.pid, "T")
    commands = [suspend(site, victim.pid) for victim in (ours, theirs)]
    undos = [resume(site, command) for command in commands]
    for command in commands:
        site.send(command)
    assert [site.ended(command.command_id).outcome for command in commands] == [Outcome.COMPLETED, Outcome.NO_ACTION]
    assert (state_of(ours.pid), state_of(theirs.pid)) == ("T", "T")
    for undo in undos:
        site.send(undo)
    assert [site.ended(undo.command_id).outcome for undo in undos] == [Outcome.COMPLETED, Outcome.REJECTED]
    await_state(ours.pid, "S")
    assert state_of(theirs.pid) == "T"


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[..., None]) -> Iterator[Path]:
    """A file system of its own for the node's data, larger than the journal's reserve, smaller than patience."""
    require("root", "mounting a small tmpfs")
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", mounted], check=True)
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_full_disk_stops_neither_a_kill_nor_a_suspension(
    small_disk: Path, site: NodeSite, victims: list[Victim | Family]
) -> None:
    """Whoever may fill the disk could else save itself: the journal has a reserve that nobody else gets."""
    site.configure(data_dir=str(small_disk / "data"))
    site.start()
    site.heartbeat()
    killed, suspended = Victim.several(2)
    family = Family()
    victims += [killed, suspended, family]
    fill(small_disk)
    assert os.statvfs(small_disk).f_bavail == 0
    commands = [site.kill(killed.pid), suspend(site, suspended.pid), tree_of(site, family.pid)]
    for command in commands:
        site.send(command)
    assert [site.ended(command.command_id).outcome for command in commands] == [Outcome.COMPLETED] * 3
    killed.wait()
    family.await_death()
    assert state_of(suspended.pid) == "T"
    undo = resume(site, commands[1])
    site.send(undo)
    assert site.ended(undo.command_id).outcome is Outcome.COMPLETED
    assert site.stop() == 0
