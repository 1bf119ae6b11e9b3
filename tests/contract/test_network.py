"""What every held network does: the scripted one that unit tests use, and a real namespace with real nftables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from tests.fakes.network import BROKER, JUMP, FakeNamespace, FakeNetwork
from tests.netns import WORLD, Wires, wired
from workers.domain.errors import PermanentFailure
from workers.domain.ids import ExecutionId
from workers.domain.targets.network import Barrier, Isolation
from workers.host.network.namespace import SystemNamespace
from workers.host.network.ports import NetworkNamespace
from workers.host.network.system import SystemNetwork

pytestmark = pytest.mark.slow

ONE = ExecutionId("0199e0f7-0000-7000-8000-000000000001")
ISOLATION = Isolation(ONE, (BROKER, JUMP), keeps_address=True)


class Stage(Protocol):
    """One namespace, and another program that changes it."""

    def open(self) -> NetworkNamespace: ...
    def edit(self) -> None: ...
    def flush(self) -> None: ...
    def take_name(self) -> None: ...


class FakeStage:
    def __init__(self) -> None:
        self.space = FakeNamespace(7)
        self.network = FakeNetwork(by_pid={1: self.space})

    def open(self) -> NetworkNamespace:
        held = self.network.of_process(1)
        assert held is not None
        return held

    def edit(self) -> None:
        self.network.changed(self.space)

    def flush(self) -> None:
        self.space.standing = None

    def take_name(self) -> None:
        self.space.stand("", sha256="another")


class RealStage:
    def __init__(self, wires: Wires) -> None:
        self.wires = wires

    def open(self) -> NetworkNamespace:
        return SystemNamespace(os.open(self.wires.host.path, os.O_RDONLY), own=False)

    def edit(self) -> None:
        self.wires.host.nft("insert rule inet douse output accept")
        self.wires.host.nft('insert rule inet douse input counter drop comment "another"')

    def flush(self) -> None:
        self.wires.host.nft("flush ruleset")

    def take_name(self) -> None:
        self.wires.host.nft("add table inet douse")


@pytest.fixture(params=["fake", "nftables"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
        return
    with wired() as wires:
        yield RealStage(wires)


@pytest.fixture
def held(stage: Stage) -> Iterator[NetworkNamespace]:
    opened = stage.open()
    yield opened
    opened.close()
    opened.close()


def standing(held: NetworkNamespace) -> Barrier:
    found = held.barrier()
    assert found is not None
    assert found == held.barrier(), "each reading differs"
    return found


def test_an_open_network_has_no_isolation_and_nothing_goes_round_one(held: NetworkNamespace) -> None:
    assert held.barrier() is None
    assert held.bypass() == ""
    assert list(held.interfaces()) == ["eth0"]
    assert not held.own
    assert held.namespace > 0


def test_an_isolation_is_tried_kept_and_ended(held: NetworkNamespace) -> None:
    assert held.begin(ISOLATION)
    tried = standing(held)
    assert (tried.made_by, tried.trial) == (ONE, True)
    assert held.blocks(ISOLATION, [WORLD]) == ""
    assert held.keep(ISOLATION, tried)
    kept = standing(held)
    assert (kept.made_by, kept.trial) == (ONE, False)
    assert kept.handle != tried.handle
    assert held.blocks(ISOLATION, [WORLD]) == ""
    assert standing(held) == kept, "what was kept back changed the rules"
    assert held.end(kept)
    assert held.barrier() is None


def test_what_is_there_is_neither_begun_again_nor_kept_or_ended_for_another(held: NetworkNamespace) -> None:
    assert held.begin(ISOLATION)
    tried = standing(held)
    assert not held.begin(replace(ISOLATION, made_by=ExecutionId("0199e0f7-0000-7000-8000-000000000002")))
    assert held.keep(ISOLATION, tried)
    kept = standing(held)
    assert not held.keep(ISOLATION, tried)
    assert not held.end(tried)
    assert standing(held) == kept


def test_a_trial_can_be_taken_back(held: NetworkNamespace) -> None:
    assert held.begin(ISOLATION)
    assert held.end(standing(held))
    assert held.barrier() is None
    assert held.begin(ISOLATION)


def test_it_stays_when_no_process_holds_it(stage: Stage, held: NetworkNamespace) -> None:
    assert held.begin(ISOLATION)
    assert held.keep(ISOLATION, standing(held))
    kept = standing(held)
    held.close()
    again = stage.open()
    assert again.barrier() == kept
    again.close()


def test_rules_that_are_changed_are_other_rules(stage: Stage, held: NetworkNamespace) -> None:
    assert held.begin(ISOLATION)
    assert held.keep(ISOLATION, standing(held))
    kept = standing(held)
    stage.edit()
    edited = standing(held)
    assert (edited.handle, edited.made_by) == (kept.handle, ONE)
    assert edited.sha256 != kept.sha256


def test_rules_that_are_flushed_are_gone(stage: Stage, held: NetworkNamespace) -> None:
    assert held.begin(ISOLATION)
    tried = standing(held)
    stage.flush()
    assert held.barrier() is None
    assert not held.keep(ISOLATION, tried)
    assert not held.end(tried)
    assert "gone" in held.blocks(ISOLATION, [WORLD])


def test_a_table_of_this_name_that_douse_did_not_make_stays(stage: Stage, held: NetworkNamespace) -> None:
    stage.take_name()
    found = standing(held)
    assert (found.made_by, found.trial) == ("", False)
    assert not held.begin(ISOLATION)
    assert standing(held) == found


# --- what only a real one can show -----------------------------------------------------------------------------------


@pytest.fixture
def system() -> SystemNetwork:
    return SystemNetwork(bootstrap_servers="127.0.0.1:9", brokers=list)


def test_a_process_in_another_namespace_is_held_there_and_one_that_ended_is_not(system: SystemNetwork) -> None:
    with wired() as wires:
        sleeping = subprocess.Popen(["ip", "netns", "exec", wires.host.name, "sleep", "60"])
        try:
            held = None
            for _ in range(200):
                if held is not None:
                    held.close()
                held = system.of_process(sleeping.pid)
                assert held is not None
                if held.namespace == wires.host.path.stat().st_ino:
                    break
            assert held is not None
            assert (held.namespace, held.own) == (wires.host.path.stat().st_ino, False)
            held.close()
        finally:
            sleeping.kill()
            sleeping.wait()
        assert system.of_process(sleeping.pid) is None
    mine = system.of_process(os.getpid())
    assert mine is not None
    assert mine.own
    mine.close()


def test_without_the_privilege_every_call_is_refused_with_the_reason() -> None:
    """A process that lost NET_ADMIN: the reason is ours, and no other program's words."""
    lines = (
        "import os, sys",
        "from workers.host.network.system import SystemNetwork",
        "print(SystemNetwork(bootstrap_servers='127.0.0.1:9', brokers=lambda: []).unfit())",
    )
    with wired() as wires:
        output = wires.host.run(
            *("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"),
            *("env", f"PYTHONPATH={Path.cwd()}", sys.executable, "-c", "\n".join(lines)),
        )
    assert output.strip() == "nftables cannot be used here: give this worker NET_ADMIN"


def test_rules_that_the_kernel_does_not_take_are_an_error(stage: Stage, held: NetworkNamespace) -> None:
    if isinstance(stage, FakeStage):
        return
    wrong = replace(ISOLATION, made_by=ExecutionId("x" * 200))  # a comment holds 128 bytes
    with pytest.raises(PermanentFailure) as caught:
        held.begin(wrong)
    assert caught.value.reason == "nftables"
    assert held.barrier() is None
