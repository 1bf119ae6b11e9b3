"""A node process on a disk that is full, that fails, or that is slow.

Broker: embedded, in this process. Disk: a small tmpfs, or the real one with faults put into the node's system calls by
strace. Figures are printed (pytest -s).
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.components import require
from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.node_process import NodeSite, Victim, embedded_broker
from workers.domain.command import ActionCommand
from workers.domain.outcome import Outcome
from workers.domain.target import FileTarget

_DISK = 24 << 20
"""Bytes: the journal's reserve twice over (file and log), and some."""
_LONGEST_SILENCE_S = 2.0
"""Between two heartbeats, however slow the disk."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        yield made


@pytest.fixture
def small_disk(site: NodeSite) -> Iterator[Path]:
    """The node's data directory, a filesystem of its own."""
    require("root", "mounting a small tmpfs")
    at = site.directory / "data"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "tmpfs", str(at)], check=True)
    yield at
    site.stop(9)
    subprocess.run(["umount", str(at)], check=True)


@pytest.fixture
def victims() -> Iterator[list[Victim]]:
    made: list[Victim] = []
    yield made
    for victim in made:
        victim.bury()


@pytest.mark.fault("F11")
def test_a_full_disk_stops_no_kill_until_the_reserve_is_used_up_and_then_nothing_is_lost(
    site: NodeSite, small_disk: Path, victims: list[Victim]
) -> None:
    site.start()
    site.up()
    victims += Victim.several(4)
    first, *late = victims
    filler = small_disk / "filler"
    _fill(filler)
    pairs = [(site.kill(first.pid), first)]
    site.send(pairs[0][0])
    first.wait()
    assert site.ended(pairs[0][0].command_id).outcome is Outcome.COMPLETED
    until_full = 0
    while site.heartbeat().health != "journal":
        until_full += 1
        assert until_full < 2000, "so many commands did not fill the journal"
        site.send(site.kill(late[0].pid, dry_run=True, annotations={"padding": "x" * 30_000}))
        site.read(0.01)
    for victim in late:
        pairs.append((site.kill(victim.pid), victim))
        site.send(pairs[-1][0])
    _longest_silence_s(site, watching_s=3.0)
    assert not any(victim.killed for victim in late), "acted without a durable intent"
    filler.unlink()
    freed = time.monotonic()
    for command, victim in pairs:
        assert site.ended(command.command_id, timeout_s=60).outcome is Outcome.COMPLETED
        victim.wait()
    went_on_s = time.monotonic() - freed
    site.until(lambda seen: seen.heartbeats[-1].health == "ok")
    _all_ended(site)
    check_all(site.observation(_effects(pairs)))
    print(
        f"\nthe journal took {until_full} commands of 30 kB on a full disk; freed, it went on after {went_on_s:.2f} s "
        f"without a restart; {len(site.accepted)} accepted, lost 0, done twice 0"
    )


@pytest.mark.fault("F12")
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_disk_that_fails_ends_all_effects_and_the_next_start_does_what_was_asked(
    site: NodeSite, victims: list[Victim], call: str
) -> None:
    require("strace", "it makes the disk of a running node fail")
    site.start()
    site.up()
    victims += Victim.several(6)
    pairs = [(site.kill(victim.pid), victim) for victim in victims]
    before, after = pairs[:1], pairs[1:]
    site.send(before[0][0])
    assert site.ended(before[0][0].command_id).outcome is Outcome.COMPLETED
    with _faults(site, f"{call}:error=EIO"):
        failed = time.monotonic()
        site.until(lambda seen: seen.heartbeats[-1].health == "journal")
        red_s = time.monotonic() - failed
        for command, _ in after:
            site.send(command)
        longest_s = _longest_silence_s(site, watching_s=3.0)
    assert site.heartbeat().health == "journal", "a page cache that failed once was trusted again"
    assert not any(victim.killed for _, victim in after), "acted without a durable intent"
    site.stop(9)
    site.start()
    for command, victim in pairs:
        assert site.ended(command.command_id).outcome is Outcome.COMPLETED
        victim.wait()
    check_all(site.observation(_effects(pairs)))
    print(f"\n{call} fails: health red after {red_s:.2f} s, effects 0, longest silence {longest_s:.2f} s")
    assert longest_s <= _LONGEST_SILENCE_S


@pytest.mark.fault("F13")
def test_a_slow_disk_makes_everything_late_and_the_node_never_silent(site: NodeSite, victims: list[Victim]) -> None:
    require("strace", "it makes the disk of a running node slow")
    site.start()
    site.up()
    victims += Victim.several(20)
    pairs = [(site.kill(victim.pid), victim) for victim in victims]
    path = site.directory / "dropper"
    path.write_bytes(os.urandom(1 << 20))
    target = FileTarget(os.fsencode(path), observed_at_ns=site.clock.now_ns())
    taken = site.kill(0, action="file_quarantine", target=target)
    with _faults(site, "fdatasync,fsync:delay_enter=300000"):
        sent = time.monotonic()
        for command, _ in pairs:
            site.send(command)
        site.send(taken)
        dead_s: dict[int, float] = {}
        while len(dead_s) < len(victims):
            site.read(0.02)
            dead_s |= {v.pid: time.monotonic() - sent for v in victims if v.pid not in dead_s and v.killed}
            assert time.monotonic() - sent < 60, "no disk is as slow as that"
        for command, _ in pairs:
            assert site.ended(command.command_id, timeout_s=60).outcome is Outcome.COMPLETED
        assert site.ended(taken.command_id, timeout_s=60).outcome is Outcome.COMPLETED
    longest_s = _longest_silence_s(site)
    check_all(site.observation(_effects(pairs)))
    times_s = sorted(dead_s.values())
    print(
        f"\n300 ms for each sync, 20 kills and a quarantine at once: dead p50 {statistics.median(times_s):.2f} s, "
        f"last {times_s[-1]:.2f} s; longest silence {longest_s:.2f} s"
    )
    assert longest_s <= _LONGEST_SILENCE_S


@contextmanager
def _faults(site: NodeSite, fault: str) -> Iterator[None]:
    """Put a fault into every such call of every thread of the running node."""
    assert site.process is not None
    calls = fault.partition(":")[0]
    log = site.directory / "strace"
    tracer = subprocess.Popen(
        [
            "strace",
            "-f",
            "-qq",
            "-o",
            str(log),
            "-e",
            f"trace={calls}",
            "-e",
            f"inject={fault}",
            "-p",
            str(site.process.pid),
        ]
    )
    try:
        until = time.monotonic() + 20
        while not log.exists() or not log.stat().st_size:
            assert tracer.poll() is None, "strace could not attach"
            assert time.monotonic() < until, f"the node made no {calls} call in 20 s"
            time.sleep(0.01)
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def _fill(filler: Path) -> None:
    """Leave not one block of the disk."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


def _longest_silence_s(site: NodeSite, *, watching_s: float = 0.0) -> float:
    """Between two heartbeats of one start, as the node's own clock stamped them, of all there were so far and come."""
    until = time.monotonic() + watching_s
    heartbeats = site.read(0.02).heartbeats
    while time.monotonic() < until:
        heartbeats = site.read(0.02).heartbeats
    pairs = [(a, b) for a, b in itertools.pairwise(heartbeats) if a.instance_id == b.instance_id]
    return max((b.at_ns - a.at_ns) / 1e9 for a, b in pairs)


def _all_ended(site: NodeSite) -> None:
    for execution_id in site.accepted:
        site.ended(execution_id, timeout_s=60)


def _effects(pairs: list[tuple[ActionCommand, Victim]]) -> list[Effect]:
    """The deaths that the kernel told the victims' parent, us."""
    return [Effect(command.command_id, str(victim.pid)) for command, victim in pairs if victim.killed]
