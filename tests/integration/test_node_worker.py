"""A real node process: it kills what it is told to, survives its own death at every place, drains, and stays alone.

Broker: embedded, in this process. Disk, keys, journal, /proc, signals: real. Figures are printed (pytest -s).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.components import require
from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.node_process import NodeSite, Victim, embedded_broker
from workers.actions import FAILPOINTS as ACTION_FAILPOINTS
from workers.cli.exits import Exit
from workers.domain.ids import ExecutionId, Incarnation
from workers.domain.outcome import Outcome
from workers.domain.target import FileTarget
from workers.domain.trust.envelope import PayloadType
from workers.log.relay import FAILPOINTS as RELAY_FAILPOINTS
from workers.node.services import FAILPOINTS
from workers.system.failpoints import KILLED
from workers.wire.avro import AvroCodec
from workers.wire.signing import EnvelopeSigner, PrivateKey


@pytest.fixture(autouse=True)
def _on_linux() -> None:
    require("linux", "pidfds and /proc are what the node acts through")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        yield made


@pytest.fixture
def victims() -> Iterator[list[Victim]]:
    made: list[Victim] = []
    yield made
    for victim in made:
        victim.bury()


def effects(pairs: list[tuple[ExecutionId, Victim]]) -> list[Effect]:
    """The deaths that the kernel reported to their parent, us; each process can only die once."""
    return [Effect(execution_id, str(victim.pid)) for execution_id, victim in pairs if victim.killed]


def test_a_signed_command_kills_its_process_and_the_node_can_prove_it(site: NodeSite, victims: list[Victim]) -> None:
    site.start()
    victims += Victim.several(50)
    site.heartbeat()
    dead_ms, pairs = [], []
    for victim in victims:
        command = site.kill(victim.pid)
        started = time.monotonic()
        site.send(command)
        victim.wait()
        dead_ms.append((time.monotonic() - started) * 1000)
        pairs.append((command.command_id, victim))
        assert site.ended(command.command_id).outcome is Outcome.COMPLETED
    check_all(site.observation(effects(pairs)))
    assert all(victim.killed for victim in victims)
    dead_ms.sort()
    print(
        f"\nsend to dead process over {len(dead_ms)} rounds: p50 {statistics.median(dead_ms):.1f} ms, "
        f"p99 {dead_ms[-1]:.1f} ms"
    )


@pytest.mark.fault("F1")
@pytest.mark.timeout(240)
def test_killed_at_every_failpoint_it_loses_nothing_doubles_nothing_and_settles_within_5_s(
    site: NodeSite, victims: list[Victim]
) -> None:
    settled_s: dict[str, float] = {}
    pairs = []
    site.start()
    site.heartbeat()
    assert site.stop() == 0
    for place in (*FAILPOINTS, "kill_process.signalled", *RELAY_FAILPOINTS):
        (victim,) = Victim.several(1)
        victims.append(victim)
        command = site.kill(victim.pid)
        process = site.start(f"{place}=kill:{_nth(place)}")
        site.send(command)
        assert process.wait(30) == KILLED, f"{place} was never reached"
        started = time.monotonic()
        site.start()
        ended = site.ended(command.command_id, timeout_s=30)
        settled_s[place] = time.monotonic() - started
        victim.wait()
        pairs.append((command.command_id, victim))
        assert ended.outcome is Outcome.COMPLETED, f"{place}: {ended}"
        site.up()
        assert site.stop() == 0
    check_all(site.observation(effects(pairs)))
    slowest = max(settled_s, key=lambda name: settled_s[name])
    print(
        f"\nkill points swept {len(settled_s)}, lost 0, doubled 0; start to settled: "
        f"median {statistics.median(settled_s.values()):.2f} s, slowest {settled_s[slowest]:.2f} s ({slowest})"
    )
    assert settled_s[slowest] <= 5


def _of_action(name: str) -> list[str]:
    return [place for place in ACTION_FAILPOINTS if place.startswith(f"{name}.")]


@pytest.mark.fault("F1")
@pytest.mark.timeout(240)
def test_killed_at_every_step_of_a_quarantine_and_its_undo_the_file_is_never_lost(site: NodeSite) -> None:
    """Each step of both, in a node of its own that dies there; the next start finishes what was begun."""
    files = site.directory / "files"
    files.mkdir()
    site.start()
    site.up()
    settled_s: dict[str, float] = {}
    for place in (*_of_action("file_quarantine"), *_of_action("file_unquarantine")):
        path = files / place
        content = os.urandom(5000)
        path.write_bytes(content)
        path.chmod(0o751)
        target = FileTarget(os.fsencode(path), observed_at_ns=site.clock.now_ns())
        take = site.kill(0, action="file_quarantine", target=target)
        back = site.kill(0, action="file_unquarantine", target=None, undo_of=take.command_id)
        for command in (take, back):
            armed, started = place.startswith(f"{command.action}."), time.monotonic()
            if armed:
                assert site.stop() == 0
                dying = site.start(f"{place}=kill:1")
                site.send(command)
                assert dying.wait(30) == KILLED, f"{place} was never reached"
                started = time.monotonic()
                site.start()
            else:
                site.send(command)
            ended = site.ended(command.command_id, timeout_s=30)
            if armed:
                settled_s[place] = time.monotonic() - started
                site.up()
            assert ended.outcome is Outcome.COMPLETED, f"{place}: {ended}"
            assert path.exists() == (command is back), place
        assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (content, 0o751), place
    assert site.stop() == 0
    slowest = max(settled_s, key=lambda name: settled_s[name])
    print(
        f"\nquarantine and restore killed at {len(settled_s)} steps, lost 0, done twice 0; start to settled: "
        f"median {statistics.median(settled_s.values()):.2f} s, slowest {settled_s[slowest]:.2f} s ({slowest})"
    )
    assert settled_s[slowest] <= 5


def _nth(place: str) -> int:
    """Which pass belongs to the command: the start's own audit record and heartbeat pass the relay first."""
    return 3 if place.startswith(("relay.", "node.acknowledge")) else 1


@pytest.mark.fault("F31")
def test_sigterm_finishes_what_runs_and_says_goodbye(site: NodeSite, victims: list[Victim]) -> None:
    site.start()
    victims += Victim.several(10)
    commands = [site.kill(victim.pid) for victim in victims]
    for command in commands:
        site.send(command)
    site.until(lambda seen: seen.results)
    started = time.monotonic()
    assert site.stop() == 0
    drained_s = time.monotonic() - started
    assert site.until(lambda seen: seen.heartbeats[-1].health == "stopping")
    assert site.until(lambda seen: any(record.kind == "stopped" for record in seen.audit))
    site.start()
    for command in commands:
        site.ended(command.command_id)
    check_all(site.observation(effects(list(zip([c.command_id for c in commands], victims, strict=True)))))
    print(f"\nSIGTERM to exit: {drained_s:.2f} s")
    assert drained_s <= 10


@pytest.mark.fault("F23")
def test_a_second_worker_on_one_data_directory_is_refused_in_one_line(site: NodeSite) -> None:
    site.start()
    site.heartbeat()
    second = subprocess.run(
        [sys.executable, "-m", "workers", "node", "--config", str(site.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == Exit.BUSY
    assert "in use by another worker" in second.stderr
    assert "Traceback" not in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert site.process is not None
    assert site.process.poll() is None


@pytest.mark.fault("F9")
def test_a_thousand_poison_records_cost_a_thousand_dead_letters_and_hardly_a_second(
    site: NodeSite, victims: list[Victim]
) -> None:
    site.start()
    victims += Victim.several(2)
    before, behind = victims
    first = site.kill(before.pid)
    site.send(first)
    site.ended(first.command_id)
    poison = _poison(site)
    assert len(poison) == 1000
    total = sum(len(value or b"") for value in poison)
    assert total < 4 << 20
    last = site.kill(behind.pid)
    for value in poison:
        site.put(value)
    started = time.monotonic()
    site.send(last)
    behind.wait()
    delay_s = time.monotonic() - started
    assert site.ended(last.command_id).outcome is Outcome.COMPLETED
    site.until(lambda seen: len(seen.dead_letters) >= 1000)
    seen = site.read(0.2)
    assert len(seen.dead_letters) == 1000
    assert all(letter.reason for letter in seen.dead_letters)
    assert len([record for record in seen.audit if record.kind == "dead_letter"]) == 1000
    assert {result.execution_id for result in seen.results} == set(site.accepted)
    assert site.process is not None
    assert site.process.poll() is None
    pairs = [(first.command_id, before), (last.command_id, behind)]
    check_all(site.observation(effects(pairs)))
    reasons = sorted({letter.reason for letter in seen.dead_letters})
    print(
        f"\n1,000 poison records, {total / 1e6:.1f} MB: the command behind them was done {delay_s * 1000:.0f} ms after "
        f"it was sent; reasons: {', '.join(reasons)}"
    )
    assert delay_s <= 1


def _poison(site: NodeSite) -> list[bytes | None]:
    """Garbage, large, bad Avro, bad signatures, nothing, other lives; from the same hand and from a stranger's."""
    genuine = site.kill(os.getpid())
    value = site.signer.sign(PayloadType.COMMAND, genuine).value
    stranger = EnvelopeSigner(PrivateKey.generate(), AvroCodec())
    flipped = [value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] for at in range(min(len(value), 200))]
    others = replace(genuine, incarnation=Incarnation("00000000-0000-7000-8000-000000000000"))
    kinds: list[bytes | None] = [
        *flipped,
        *[None] * 100,
        *[b""] * 100,
        *[os.urandom(64)] * 100,
        *[b"\xc3\x01" + os.urandom(200)] * 100,
        *[b"[" * 10_000] * 98,
        *[os.urandom(900_000)] * 2,
        *[stranger.sign(PayloadType.COMMAND, genuine).value] * 100,
        *[site.signer.sign(PayloadType.COMMAND, others).value] * 100,
        *[site.signer.sign(PayloadType.RESULT, site.seen.results[0]).value] * 50,
    ]
    return kinds + [value[:-1]] * (1000 - len(kinds))
