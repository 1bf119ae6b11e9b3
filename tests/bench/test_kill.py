"""How long a kill takes: from the claim to a confirmed death, against the least that it could be.

Run by ``make bench``. The baseline is what no careful killer can do without: hold the process by a pidfd, make the
intent durable (one commit of a database, or at the very least one fsync), signal, and wait for the kernel's word. All
run in turns, in one process.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path

import pytest

from tests.bench.board import Board, percentile
from tests.detections import Kill, falco_json, target_in, this_machine
from tests.e2e.fleet import Fleet
from tests.victims import Victims, victims
from workers.actions.base import values_of
from workers.cli.up.data_dir import DataDir
from workers.domain.ids import RANDOM_BYTES, ExecutionId, uuid7
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Outcome
from workers.host.evidence.fork_server import start_fork_server
from workers.node.attempts import Attempts
from workers.node.deadline_watch import DeadlineWatch
from workers.node.gate import Gate
from workers.node.transitions import Transitions
from workers.settings import parse
from workers.system import yaml_files
from workers.wiring.actions import node_settings
from workers.wiring.kit import Kit
from workers.wiring.node import node_services

ROUNDS = 200
SETTLE_S = 0.03
"""Older than the event's clock error in ticks, so that both worlds (with and without a finer clock) decide."""


@pytest.fixture
def started() -> Iterator[Victims]:
    with victims() as made:
        yield made


@dataclass(slots=True)
class Times:
    """Milliseconds of one step, over all rounds."""

    name: str
    taken: list[float] = field(default_factory=list)

    @contextmanager
    def one(self) -> Iterator[None]:
        before = time.perf_counter_ns()
        yield
        self.taken.append((time.perf_counter_ns() - before) / 1e6)

    def blocks(self) -> list[list[float]]:
        """Five rounds of it, without the first ten."""
        warm = self.taken[10:]
        return [warm[number::5] for number in range(5)]

    def __str__(self) -> str:
        ordered = sorted(self.taken)
        p99 = ordered[len(ordered) * 99 // 100]
        return f"{self.name:<46} p50 {ordered[len(ordered) // 2]:6.2f} ms   p99 {p99:6.2f} ms   (n={len(ordered)})"


def test_bind_and_kill_against_pidfd_and_fsync(started: Victims, tmp_path: Path, board: Board) -> None:
    host = this_machine()
    bare, whole = Times("bare: pidfd, fsync, signal, confirmed"), Times("kill_process: bind, fsync, execute, confirmed")
    bind, durable, execute = (
        Times("  of it bind"),
        Times("  of it fsync"),
        Times("  of it execute (signal to confirmed)"),
    )
    with (tmp_path / "intent").open("ab", buffering=0) as intent:
        for _ in range(ROUNDS):
            pid = started.spawn()
            time.sleep(SETTLE_S)
            with bare.one():
                _bare(pid, intent)
            pid = started.spawn()
            time.sleep(SETTLE_S)
            kill = Kill(host, target_in(falco_json(pid)))
            with whole.one():
                with bind.one():
                    claim = kill.bind()
                with durable.one():
                    _make_durable(repr(values_of(claim)).encode(), intent)
                with execute.one():
                    report = kill.execute()
            assert report.outcome is Outcome.COMPLETED
    print("", bare, whole, bind, durable, execute, sep="\n")
    board.compare(
        "kill by identity, bind to confirmed dead, p50",
        "ms",
        [percentile(block, 0.5) for block in whole.blocks()],
        "bare pidfd kill + one fsync",
        [percentile(block, 0.5) for block in bare.blocks()],
    )


def test_claim_to_confirmed_death_against_pidfd_and_one_commit(started: Victims, tmp_path: Path, board: Board) -> None:
    """The node's own way, with its journal, its signed intent and its audit record; bound before, as the node does."""
    with Fleet(DataDir(tmp_path / "data"), "127.0.0.1:9") as fleet, ExitStack() as stack:
        settings = parse(node_settings(), yaml_files.read_mapping(fleet.data.config("node")))
        fork_server = start_fork_server()
        stack.callback(fork_server.close)
        at = node_services(settings, Kit("node", settings, stack), fork_server)
        gate, transitions = Gate(at), Transitions(at)
        attempts = Attempts(at, gate, transitions, DeadlineWatch(at, gate, transitions))
        bare = stack.enter_context(closing(_journal(tmp_path / "bare.sqlite")))
        ours, theirs = Times("kill_process: claim, execute, confirmed"), Times("bare: pidfd, commit, signal, confirmed")
        for number in range(ROUNDS + 10):
            pid = started.spawn()
            time.sleep(SETTLE_S)
            with theirs.one():
                held = os.pidfd_open(pid)
                with bare:
                    bare.execute("INSERT INTO intents VALUES (?, ?)", (number, bytes(700)))
                _finish(held)
            pid = started.spawn()
            time.sleep(SETTLE_S)
            command = replace(
                Kill(at.host, target_in(falco_json(pid))).job().command,
                command_id=ExecutionId(uuid7(time.time_ns(), os.urandom(RANDOM_BYTES))),
            )
            bound = gate.bind(command)
            entry = JournalEntry(
                command.command_id, EntryState.RECEIVED, bytes(700), "0" * 64, at.time.now_ns(), command.expires_at_ns
            )
            with ours.one():
                report = attempts.run(entry, bound, claimed=False, trace=())
            assert report.outcome is Outcome.COMPLETED
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        board.compare(
            f"kill by identity, claim to confirmed dead, {what}",
            "ms",
            [percentile(block, share) for block in ours.blocks()],
            "bare pidfd kill + one SQLite commit",
            [percentile(block, share) for block in theirs.blocks()],
        )


def test_holding_and_describing_a_process(started: Victims) -> None:
    pid = started.spawn()
    print()
    for fine in (True, False):
        processes = this_machine(fine_start=fine).processes
        times = Times(f"open with facts, start {'fine' if fine else 'in ticks'}")
        for _ in range(5 * ROUNDS):
            with times.one():
                handle = processes.open(pid)
                assert handle is not None
                handle.close()
        print(times)


def _bare(pid: int, intent: FileIO) -> None:
    held = os.pidfd_open(pid)
    _make_durable(b"kill", intent)
    _finish(held)


def _journal(path: Path) -> sqlite3.Connection:
    """The settings that make a commit durable, and no more."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE intents (number INTEGER PRIMARY KEY, intent BLOB)")
    connection.commit()
    return connection


def _finish(held: int) -> None:
    signal.pidfd_send_signal(held, signal.SIGKILL)
    os.waitid(os.P_PIDFD, held, os.WEXITED | os.WNOWAIT)
    os.close(held)


def _make_durable(what: bytes, intent: FileIO) -> None:
    intent.write(what)
    os.fsync(intent.fileno())
