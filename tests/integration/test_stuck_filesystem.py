"""Filesystems that never answer: they are seen before anything in them is asked for, and whoever insists holds a reader
process, never a thread of the worker."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adversaries.stuck_call import StuckCall
from tests.drivers.acquire import AcquireRig
from tests.engines import until
from tests.integration.node_process import NodeSite, Victim, embedded_broker
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import PermanentFailure
from workers.domain.outcome import Outcome
from workers.domain.target import FileTarget
from workers.host.containers.cri.log_files import read_log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MOST_GAP_S = 2.0


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[StuckCall]:
    (tmp_path / "stuck").mkdir()
    made = StuckCall(tmp_path / "stuck")
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        made.storage["directory"] = str(tmp_path / "objects")
        made.configure()
        yield made


def order(site: NodeSite, action: str, path: Path, **chosen: bool) -> ActionCommand:
    target, digest = FileTarget(bytes(path), site.clock.now_ns()), parameters_digest(chosen)
    return site.kill(0, action=action, target=target, parameters=chosen, parameters_sha256=digest)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def readers(site: NodeSite) -> list[int]:
    assert site.process is not None
    return [reader for fork_server in children(site.process.pid) for reader in children(fork_server)]


def exists(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return False


@pytest.mark.fault("FUSE")
@pytest.mark.parametrize("below", ["nothing", "some/where/nothing", ""])
def test_without_allow_remote_nothing_in_it_is_asked_for(stuck: StuckCall, below: str, tmp_path: Path) -> None:
    """In the thread that asks: a single request would hold this test for good."""
    rig = AcquireRig(tmp_path / "rig")
    path = bytes(stuck.path.parent / below).rstrip(b"/")
    began = time.monotonic()
    taken, read = rig.quarantine(path), rig.acquire(path)
    assert (taken.outcome, taken.code) == (Outcome.REJECTED, "remote_filesystem"), taken
    assert (read.outcome, read.code) == (Outcome.REJECTED, "remote_filesystem"), read
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["stuck/0.log", "stuck/some/where/0.log", "stuck", "0.log"])
def test_a_log_in_it_is_refused_unasked(stuck: StuckCall, name: str, tmp_path: Path) -> None:
    """A log's own file, one on its way, and a rotated one that it is mounted over."""
    if name == "0.log":
        (tmp_path / "0.log").touch()
        rotated = tmp_path / "0.log.20261124-120000"
        rotated.mkdir()
        over = StuckCall(rotated)
    else:
        over = stuck
    began = time.monotonic()
    try:
        with pytest.raises(PermanentFailure) as caught:
            list(read_log(bytes(tmp_path / name), tail=0, since_ns=0))
    finally:
        if over is not stuck:
            over.close()
    assert caught.value.reason == "logs_unavailable"
    assert "fuse" in caught.value.message
    assert time.monotonic() - began < 20


@pytest.mark.fault("F22", "FUSE")
def test_readers_that_are_stuck_hold_no_hand_and_no_heartbeat(stuck: StuckCall, site: NodeSite, tmp_path: Path) -> None:
    """More of them than there are gathering hands, one after the other, and then a file that can be read."""
    plain = tmp_path / "plain"
    plain.write_bytes(b"evidence")
    site.start()
    site.up()
    began = time.monotonic()
    commands = [
        order(site, "file_acquire", stuck.path.with_name(f"x{number}"), allow_remote=True) for number in range(3)
    ]
    for command in commands:
        site.send(command)
    until(lambda: len(readers(site)) >= 2)
    victim = Victim()
    time.sleep(0.1)
    kill = site.kill(victim.pid)
    site.send(kill)
    assert site.ended(kill.command_id).outcome is Outcome.COMPLETED
    killed_after = time.monotonic() - began
    victim.wait()
    for command in commands:
        ended = site.ended(command.command_id, timeout_s=60)
        assert (ended.outcome, ended.code) == (Outcome.FAILED, "file_acquire_error_timed_out"), ended
    stuck_for = time.monotonic() - began
    last = order(site, "file_acquire", plain)
    site.send(last)
    assert site.ended(last.command_id).outcome is Outcome.COMPLETED
    until(lambda: not readers(site))
    beats = sorted(beat.at_ns for beat in site.seen.heartbeats)
    gap = max(after - before for before, after in itertools.pairwise(beats)) / 1e9
    print(
        f"\n3 files that never answer on 2 hands: all ended after {stuck_for:.1f} s, a kill meanwhile after "
        f"{killed_after:.1f} s, longest gap between heartbeats {gap:.2f} s"
    )
    assert gap <= MOST_GAP_S


def test_a_reader_that_dies_is_followed_by_another(stuck: StuckCall, site: NodeSite) -> None:
    site.start()
    site.up()
    command = order(site, "file_acquire", stuck.path, allow_remote=True)
    site.send(command)
    until(lambda: readers(site))
    (first,) = readers(site)
    os.kill(first, signal.SIGKILL)
    until(lambda: [pid for pid in readers(site) if pid != first])
    stuck.take_look_up()  # … and keeps quiet: what is taken cannot even be killed
    ended = site.ended(command.command_id, timeout_s=60)
    assert ended.outcome in (Outcome.FAILED, Outcome.REJECTED), ended
    stuck.let_go()
    until(lambda: not readers(site))


def test_no_reader_outlives_a_worker_that_is_killed(stuck: StuckCall, site: NodeSite) -> None:
    process = site.start()
    site.up()
    site.send(order(site, "file_acquire", stuck.path, allow_remote=True))
    until(lambda: readers(site))
    family = [*children(process.pid), *readers(site)]
    assert len(family) == 2
    process.kill()
    process.wait()
    began = time.monotonic()
    until(lambda: not any(map(exists, family)))
    print(f"\nfork_server and reader ended {time.monotonic() - began:.2f} s after the worker was killed")
    site.start()
    site.up()


def test_the_fork_server_is_protected_and_ends_with_a_worker_that_is_stopped(site: NodeSite) -> None:
    process = site.start()
    site.up()
    (fork_server,) = children(process.pid)
    command = site.kill(fork_server)
    site.send(command)
    refused = site.ended(command.command_id)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "kill_process_error_protected_target"), refused
    os.kill(fork_server, signal.SIGTERM)  # as a service manager signals the whole group
    assert site.stop() == 0
    until(lambda: not exists(fork_server))


def test_a_reader_process_reads_what_a_thread_reads(
    site: NodeSite, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("root", "the list has files of the kernel's and of others")
    site.start()
    site.up()
    odd = tmp_path / "odd"
    os.mkfifo(odd)
    (tmp_path / "link").symlink_to("/etc/hostname")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    expected = {
        odd: "not_regular",
        tmp_path / "link": "not_regular",
        tmp_path / "huge": "too_large",
        tmp_path / "none": "missing",
        Path("/proc/version"): "protected_target",
        Path("/etc/shadow"): "approval_missing",
    }
    for path, code in expected.items():
        command = order(site, "file_acquire", path)
        site.send(command)
        ended = site.ended(command.command_id)
        assert (ended.outcome, ended.code) == (Outcome.REJECTED, f"file_acquire_error_{code}"), path
