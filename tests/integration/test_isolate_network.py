"""A real node whose host is isolated: it keeps its broker, the attacker is cut off, and whatever becomes of the worker,
the host is never left without its broker.

The host is a network namespace with process ids of its own, made by the test; this machine's network is never touched.
The broker listens on 127.0.0.1 in another namespace, and the way there is a wire: see ``tests.netns``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.components import require
from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.node_process import NodeSite, embedded_broker
from tests.netns import HOST, LOOPBACK, WORLD, Wires, wired
from workers.actions import FAILPOINTS
from workers.domain.command import ActionCommand
from workers.domain.outcome import Outcome
from workers.domain.result import EFFECT_LOST, EFFECT_WEAKENED, ActionResult
from workers.domain.target import NetworkTarget
from workers.system.failpoints import KILLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class HostSite(NodeSite):
    """A node in the host's namespace, its first process there, as far as it can see."""

    def __init__(self, directory: Path, address: str, wires: Wires) -> None:
        super().__init__(directory, address)
        self.wires = wires
        self.prefix = (
            *("ip", "netns", "exec", wires.host.name),
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        )

    def stop(self, number: int = signal.SIGTERM, *, timeout_s: float = 30) -> int:
        """Signal the node itself: who waits for it passes nothing on."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if self.process.poll() is None:
            for pid in children.read_text().split():
                os.kill(int(pid), number)
        return self.process.wait(timeout_s)

    def isolate(self, **more: Any) -> ActionCommand:
        """An order to isolate the host."""
        target = NetworkTarget(self.clock.now_ns())
        return self.kill(0, **{"action": "isolate_network", "target": target, **more})

    def release(self, of: ActionCommand) -> ActionCommand:
        """Its undo."""
        return self.kill(0, action="release_network", target=None, undo_of=of.command_id)

    def does(self, command: ActionCommand) -> ActionResult:
        """Send it and wait for its end."""
        self.send(command)
        return self.ended(command.command_id, timeout_s=60)

    @property
    def rules(self) -> str:
        """What stands in the kernel: the oracle."""
        return self.wires.host.nft("list ruleset")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[HostSite]:
    require("unshare", "the node gets process ids of its own")
    with (
        wired() as wires,
        wires.world.entered(),
        embedded_broker() as address,
        HostSite(tmp_path, address, wires) as made,
    ):
        yield made


class Attacker:
    """A reverse shell that is open already."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        self.listener = wires.world.listen(WORLD)
        self.shell = wires.host.connect(WORLD, self.listener.getsockname()[1])
        self.control = wires.world.accepted(self.listener)

    def commands(self) -> bool:
        """Whether its orders arrive."""
        self.shell.settimeout(1.5)
        self.control.send(b"whoami")
        try:
            return self.shell.recv(64) != b""
        except TimeoutError:
            return False

    def calls(self) -> bool:
        """Whether a fresh shell gets through."""
        try:
            self.wires.host.connect(WORLD, self.listener.getsockname()[1])
        except OSError:
            return False
        return True


def test_a_host_is_isolated_and_released_and_the_node_hears_all_the_time(site: HostSite) -> None:
    attacker = Attacker(site.wires)
    site.start()
    site.heartbeat()
    assert attacker.commands()
    command = site.isolate()
    began = time.monotonic()
    ended = site.does(command)
    took_s = time.monotonic() - began
    assert (ended.outcome, ended.effect_holds) == (Outcome.COMPLETED, True), ended.message
    assert not attacker.commands()
    assert not attacker.calls()
    assert f"isolated by {command.command_id}" in site.rules
    again = site.does(site.isolate())
    assert (again.outcome, again.code) == (Outcome.NO_ACTION, "isolate_network_success_already_held")

    site.stop(signal.SIGKILL)  # what is in the kernel needs no worker
    assert not attacker.calls()
    site.start()
    site.up()
    assert not attacker.calls()

    released = site.does(site.release(command))
    assert released.outcome is Outcome.COMPLETED, released.message
    assert attacker.calls()
    assert "douse" not in site.rules
    once_more = site.does(site.release(command))
    assert once_more.outcome is not Outcome.COMPLETED
    print(f"\nordered to confirmed isolated: {took_s:.2f} s")


def test_rules_that_somebody_flushes_are_reported_as_a_lost_effect(site: HostSite) -> None:
    site.start()
    site.heartbeat()
    command = site.isolate()
    assert site.does(command).outcome is Outcome.COMPLETED
    site.wires.host.nft("flush ruleset")
    lost = site.until(lambda seen: [each for each in seen.results if each.alarm == EFFECT_LOST])
    assert lost[0].execution_id == command.command_id
    assert "flushed" in lost[0].message


def test_rules_that_somebody_changes_are_reported_and_released_all_the_same(site: HostSite) -> None:
    """Were they said to be lost, nobody could release the host again."""
    attacker = Attacker(site.wires)
    site.start()
    site.heartbeat()
    command = site.isolate()
    assert site.does(command).outcome is Outcome.COMPLETED
    site.wires.host.nft('insert rule inet douse output counter drop comment "mine now"')
    site.wires.host.nft(f"insert rule inet douse output ip daddr {LOOPBACK} accept")
    reported = site.until(lambda seen: [each for each in seen.results if each.alarm])
    assert [each.alarm for each in reported] == [EFFECT_WEAKENED]
    assert site.does(site.release(command)).outcome is Outcome.COMPLETED
    assert attacker.calls()
    assert "douse" not in site.rules


def cut_by_isolation(wires: Wires, port: int) -> None:
    """Between here and the broker somebody rewrites ports behind everybody's back: whoever allows the port that the
    broker is known by cuts it off. The worst case of a wrong list, made for real."""
    other = port - 1 if port > 32_768 else port + 1
    for space, hook, end, before, after in (
        (wires.host, "output", "dport", port, other),
        (wires.world, "prerouting", "dport", other, port),
        (wires.world, "output", "sport", port, other),
        (wires.host, "prerouting", "sport", other, port),
    ):
        space.nft("add table ip sly")
        space.nft(f"add chain ip sly {hook} {{ type filter hook {hook} priority -300; }}")
        wire = "oifname" if hook == "output" else "iifname"
        space.nft(f"add rule ip sly {hook} {wire} eth0 tcp {end} {before} tcp {end} set {after}")


def test_a_host_whose_isolation_would_cut_its_broker_off_stays_open(site: HostSite) -> None:
    attacker = Attacker(site.wires)
    port = int(site.kafka["bootstrap_servers"].rpartition(":")[2])
    cut_by_isolation(site.wires, port)
    site.start()
    site.heartbeat()
    ended = site.does(site.isolate())
    assert ended.code == "isolate_network_error_self_test", ended.message
    assert attacker.commands()
    assert "douse" not in site.rules
    beats = len(site.read().heartbeats)
    site.until(lambda seen: len(seen.heartbeats) > beats + 3)


def test_a_worker_that_dies_while_its_broker_is_cut_off_opens_the_host_when_it_is_back(site: HostSite) -> None:
    port = int(site.kafka["bootstrap_servers"].rpartition(":")[2])
    cut_by_isolation(site.wires, port)
    site.start()
    command = site.isolate()
    site.stop()
    dying = site.start("isolate_network.begun=kill:1")
    site.send(command)
    assert dying.wait(60) == KILLED
    assert f"on trial by {command.command_id}" in site.rules
    began = time.monotonic()
    site.start()
    ended = site.ended(command.command_id, timeout_s=60)
    assert ended.code == "isolate_network_error_self_test", ended.message
    assert "douse" not in site.rules
    print(f"\nopen again {time.monotonic() - began:.1f} s after the restart")


_FAILPOINTS = [
    failpoint for failpoint in FAILPOINTS if "_network." in failpoint and not failpoint.endswith("taken_back")
]


@pytest.mark.parametrize("failpoint", _FAILPOINTS)
def test_a_node_killed_at_a_step_isolates_once_and_reports_it(site: HostSite, failpoint: str) -> None:
    attacker = Attacker(site.wires)
    site.start()
    first = site.isolate()
    site.stop()
    dies_at_once = failpoint.startswith("isolate_")
    dying = site.start(f"{failpoint}=kill:1")
    site.send(first)
    second = None
    if not dies_at_once:
        assert site.ended(first.command_id, timeout_s=60).outcome is Outcome.COMPLETED
        second = site.release(first)
        site.send(second)
    assert dying.wait(60) == KILLED, f"{failpoint} was never reached"
    site.start()
    for command in (first, *([second] if second is not None else [])):
        ended = site.ended(command.command_id, timeout_s=60)
        assert ended.outcome is Outcome.COMPLETED, ended.message
    assert (f"isolated by {first.command_id}" in site.rules) == dies_at_once
    assert attacker.calls() != dies_at_once
    site.up()
    assert site.stop() == 0
    check_all(site.observation([Effect(each, f"{HOST}/{each}") for each in site.accepted]))


def test_a_node_killed_after_it_took_an_isolation_back_reports_it(site: HostSite) -> None:
    port = int(site.kafka["bootstrap_servers"].rpartition(":")[2])
    cut_by_isolation(site.wires, port)
    site.start()
    command = site.isolate()
    site.stop()
    dying = site.start("isolate_network.taken_back=kill:1")
    site.send(command)
    assert dying.wait(60) == KILLED
    assert "douse" not in site.rules
    site.start()
    assert site.ended(command.command_id, timeout_s=60).code == "isolate_network_error_self_test"
    assert "douse" not in site.rules


def test_an_ebpf_program_on_the_host_s_interface_is_a_refusal(site: HostSite) -> None:
    site.wires.host.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    site.wires.host.run("tc", "filter", "add", "dev", "eth0", "ingress", "bpf", "bytecode", "1,6 0 0 4294967295,")
    site.start()
    site.heartbeat()
    ended = site.does(site.isolate())
    assert (ended.outcome, ended.code) == (Outcome.REJECTED, "isolate_network_error_ebpf_data_path")
    assert "eth0" in ended.message
    assert "douse" not in site.rules


def test_a_worker_in_a_network_of_its_own_refuses_to_isolate_the_host(site: HostSite) -> None:
    """As in a container that has its own network, and sees the host's first process."""
    site.prefix = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *_inside(site.wires))
    site.start()
    site.heartbeat()
    ended = site.does(site.isolate())
    assert (ended.outcome, ended.code) == (Outcome.REJECTED, "isolate_network_error_not_host_network")
    assert "hostNetwork" in ended.message
    assert "douse" not in site.rules


@pytest.mark.parametrize("how", ["denied", "hidden"])
def test_a_worker_that_cannot_read_the_first_process_s_network_says_so_and_so_does_doctor(
    site: HostSite, how: str
) -> None:
    """Denied: the first process has a capability more. Hidden: /proc does not show its namespaces."""
    without = "setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace" if how == "denied" else ""
    hide = "mount -t tmpfs none /proc/1/ns; " if how == "hidden" else ""
    site.prefix = (*site.prefix, "sh", "-c", f'{hide}{without} "$@"; exit $?', "sh")
    site.start()
    site.heartbeat()
    ended = site.does(site.isolate())
    assert (ended.outcome, ended.code) == (Outcome.REJECTED, "isolate_network_error_host_network_hidden"), ended
    assert "/proc/1/ns/net" in ended.message
    assert "SYS_PTRACE" in ended.message
    assert "douse" not in site.rules
    doctor = subprocess.run(
        [*site.prefix, sys.executable, "-m", "workers", "doctor", "-o", "json"], capture_output=True, text=True
    )
    findings = {each["about"]: each for each in json.loads(doctor.stdout)}
    assert findings["host network"]["level"] == "warn", doctor
    assert "/proc/1/ns/net cannot be read" in findings["host network"]["message"]
    assert "SYS_PTRACE" in findings["host network"]["remedy"]


def test_doctor_in_the_host_s_network_says_that_it_can_be_isolated(site: HostSite) -> None:
    doctor = subprocess.run(
        [*site.prefix, sys.executable, "-m", "workers", "doctor", "-o", "json"], capture_output=True, text=True
    )
    findings = {each["about"]: each["level"] for each in json.loads(doctor.stdout)}
    assert findings["host network"] == "ok"


def _inside(wires: Wires) -> tuple[str, ...]:
    """The first process stays in the world; its child goes into the host's network."""
    return ("sh", "-c", f'ip netns exec {wires.host.name} "$@"; exit $?', "sh")
