"""A container of a real dockerd, isolated and released: its processes' packets, its runs, its own rules.

The container gets a wire into a namespace of the test's own; this machine's network is never touched. The worker is
this process: what it lives by is a listener on loopback.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest

from tests.engines import DockerRig
from tests.fakes.failpoints import FakeFailpoints
from tests.integration.action_runner import action
from tests.netns import Netns, Wires, wired
from tests.runtimes import engines
from workers.actions.base import Effect, Job
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected
from workers.domain.ids import ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Outcome, Report
from workers.domain.request import Actor, ActorKind
from workers.domain.target import NetworkTarget
from workers.host.network.system import SystemNetwork
from workers.host.ports import Host
from workers.host.processes.system import SystemProcesses
from workers.system.clock import SystemClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

INSIDE: Final = "10.79.0.2"
OUTSIDE: Final = "10.79.0.1"
SECOND: Final = 1_000_000_000

_numbers = itertools.count(1)


@pytest.fixture
def engine(docker_engine: DockerRig) -> Iterator[DockerRig]:
    yield docker_engine
    docker_engine.clear()


@pytest.fixture
def broker() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


class Scene:
    """A container on a wire, and an order about its network."""

    def __init__(self, engine: DockerRig, wires: Wires, broker: socket.socket, names: ExitStack) -> None:
        self.engine = engine
        self.world = wires.world
        self.names = names
        self.container_id = engine.run()
        self.clock = SystemClock()
        address = broker.getsockname()
        self.host = Host(
            SystemProcesses(),
            self.clock,
            FakeFailpoints(),
            containers=engines(engine.socket),
            network=SystemNetwork(
                bootstrap_servers=f"{address[0]}:{address[1]}", brokers=lambda: [address], operators=()
            ),
        )
        self.inside = self.wire()
        self.port = int(self.world.listen().getsockname()[1])

    def wire(self) -> Netns:
        """The container's present run gets a wire into the world; its network."""
        inside = Netns(f"douse-c-{os.getpid()}-{next(_numbers)}", self.world.opened)
        pid = str(self.engine.pid(self.container_id))
        subprocess.run(["ip", "netns", "attach", inside.name, pid], check=True)
        self.names.callback(subprocess.run, ["ip", "netns", "del", inside.name], check=False)
        wire, peer = f"w{pid}", ("name", "eth0", "netns", inside.name)
        subprocess.run([*("ip", "-n", self.world.name, "link", "add", wire, "type", "veth", "peer"), *peer], check=True)
        self.world.run("ip", "address", "add", f"{OUTSIDE}/24", "dev", wire)
        self.world.run("ip", "link", "set", wire, "up")
        inside.run("ip", "address", "add", f"{INSIDE}/24", "dev", "eth0")
        inside.run("ip", "link", "set", "eth0", "up")
        return inside

    def reaches(self) -> bool:
        """Whether a process in the container reaches the world."""
        try:
            self.inside.connect(OUTSIDE, self.port)
        except OSError:
            return False
        return True

    def job(self, name: str, *, number: int = 1, undoes: Effect[Any] | None = None) -> Job[Any]:
        """A person's order of this moment."""
        now = self.clock.now_ns()
        command = ActionCommand(
            command_id=ExecutionId(f"0199e0f7-0000-7000-8000-{number:012d}"),
            node_id=NodeId("0" * 32),
            node_key=KeyId("1" * 32),
            incarnation=Incarnation("i"),
            action=name,
            target=None if undoes else NetworkTarget(now, self.container_id[:12]),
            parameters={},
            parameters_sha256=parameters_digest({}),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300 * SECOND,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "ada"),
            undo_of=ExecutionId("0199e0f7-0000-7000-8000-000000000001" if undoes else ""),
        )
        return Job(command, action(name).parse({}), now + 60 * SECOND, undoes)

    def run(self, name: str, **more: Any) -> tuple[Report, Effect[Any]]:
        """From the order to the report, and what the journal would know of it."""
        job = self.job(name, **more)
        action(name).admit(job, self.host)
        claim = action(name).bind(job, self.host)
        report = action(name).execute(job, claim, self.host)
        return report, Effect(claim, report.outputs)


@pytest.fixture
def scene(engine: DockerRig, broker: socket.socket) -> Iterator[Scene]:
    with ExitStack() as names, wired() as wires:
        yield Scene(engine, wires, broker, names)


def test_a_container_is_isolated_and_released(scene: Scene) -> None:
    assert scene.reaches()
    report, held = scene.run("isolate_network")
    assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True), report.message
    assert held.claim.container_id == scene.container_id
    assert held.claim.interfaces == "eth0"
    assert not scene.reaches()
    assert action("isolate_network").lost(held, scene.host) == ""
    assert action("isolate_network").weakened(held, scene.host) == ""
    again, _ = scene.run("isolate_network", number=2)
    assert again.code == "isolate_network_success_already_isolated"
    released, _ = scene.run("release_network", number=3, undoes=held)
    assert released.outcome is Outcome.COMPLETED
    assert scene.reaches()
    assert "douse" not in scene.inside.nft("list ruleset")


def test_a_container_s_isolation_ends_with_its_run_and_the_next_is_not_touched(scene: Scene) -> None:
    _, held = scene.run("isolate_network")
    with scene.engine.client() as client:
        client.restart(scene.container_id, timeout=0)
    assert "started again" in action("isolate_network").lost(held, scene.host)
    report, _ = scene.run("release_network", number=3, undoes=held)
    assert report.code == "release_network_success_nothing_to_undo"


def test_a_container_restarted_after_the_claim_is_superseded(scene: Scene) -> None:
    job = scene.job("isolate_network")
    claim = action("isolate_network").bind(job, scene.host)
    with scene.engine.client() as client:
        client.restart(scene.container_id, timeout=0)
    report = action("isolate_network").execute(job, claim, scene.host)
    assert report.code == "isolate_network_error_superseded"
    scene.inside = scene.wire()
    assert "douse" not in scene.inside.nft("list ruleset")


def test_an_isolation_that_root_in_the_container_bypasses_is_reported(scene: Scene) -> None:
    _, held = scene.run("isolate_network")
    scene.inside.run("ip", "link", "del", "eth0")
    assert "eth0 was taken out" in action("isolate_network").weakened(held, scene.host)
    scene.inside.nft("flush ruleset")
    assert "flushed" in action("isolate_network").lost(held, scene.host)


def test_a_container_in_the_host_s_network_is_refused(scene: Scene) -> None:
    scene.container_id = scene.engine.run(network="host")
    with pytest.raises(CommandRejected) as refused:
        scene.run("isolate_network")
    assert refused.value.reason == "shares_host_network"
