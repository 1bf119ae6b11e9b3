"""Logs of real containers into a real store: whole, bounded, and repeated nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import runtimes
from tests.containerd.rig import ContainerdRig
from tests.drivers.acquire import GATHER, KEY, AcquireRig
from tests.engines import EngineRig, until
from workers.domain.outcome import Outcome
from workers.domain.targets.container import ContainerRef
from workers.domain.targets.custody import custody_key
from workers.host.containers.cri import CriSockets
from workers.host.containers.docker import EngineSockets
from workers.host.containers.host_containers import HostContainers
from workers.host.containers.ports import ContainerHandle, Containers
from workers.system.clock import SystemClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CANARY = "c4n4ry-7Q1x-logs"


Engine = EngineRig | ContainerdRig


@pytest.fixture(params=["docker_engine", "podman_engine", "containerd"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    rig: Engine = request.getfixturevalue(request.param)
    yield rig
    rig.clear()


def containers(engine: Engine) -> Containers:
    return runtimes.cri(engine.socket) if isinstance(engine, ContainerdRig) else runtimes.engines(engine.socket)


def ended(engine: Engine, script: str) -> str:
    """A container that wrote what it had to write."""
    container_id = engine.run(command=("sh", "-c", script))
    until(lambda: engine.state(container_id) in ("exited", "stopped"), timeout_s=120)
    return container_id


def test_the_object_is_what_it_wrote_and_nothing_else_repeats_it(engine: Engine, tmp_path: Path) -> None:
    container_id = ended(engine, f"echo {CANARY}; echo {CANARY} >&2; exit 3")
    rig = AcquireRig(tmp_path / "rig")
    report = rig.logs(container_id[:12], containers(engine))
    assert report.outcome is Outcome.COMPLETED, report
    content = (rig.objects / KEY).read_bytes()
    assert hashlib.sha256(content).hexdigest() == report.outputs["sha256"]
    lines = [line.split(b" ", 3) for line in content.splitlines()]
    assert sorted(line[1] for line in lines) == [b"stderr", b"stdout"]
    assert {line[3] for line in lines} == {CANARY.encode()}
    custody = rig.spool.custody(GATHER)
    assert custody is not None
    assert container_id in custody.source
    elsewhere = [each for each in tmp_path.rglob("*") if each.is_file() and each != rig.objects / KEY]
    assert rig.objects / custody_key(KEY) in elsewhere
    assert not [each for each in elsewhere if CANARY.encode() in each.read_bytes()]
    assert CANARY not in repr(report)


def test_a_log_beyond_the_limit_is_cut_at_a_line(engine: Engine, tmp_path: Path) -> None:
    line = "x" * 1000
    container_id = ended(engine, f"i=0; while [ $i -lt 3000 ]; do echo {line}; i=$((i+1)); done")
    rig = AcquireRig(tmp_path / "rig", largest=1 << 20)
    report = rig.logs(container_id, containers(engine))
    assert report.outcome is Outcome.COMPLETED, report
    assert report.outputs["truncated"] is True
    content = (rig.objects / KEY).read_bytes()
    assert (1 << 20) - 2000 < len(content) <= 1 << 20
    assert content.endswith(line.encode() + b"\n")


def test_one_that_was_removed_meanwhile_is_no_action(engine: Engine, tmp_path: Path) -> None:
    container_id = ended(engine, "echo one")
    rig = AcquireRig(tmp_path / "rig")
    report = rig.logs(container_id, _removed(engine))
    assert (report.outcome, report.code) == (Outcome.NO_ACTION, "get_logs_success_target_gone")
    assert not (rig.objects / KEY).exists()


def _removed(engine: Engine) -> Containers:
    """It is removed between the claim and the first question."""

    class Removed(HostContainers):
        def open(self, ref: ContainerRef) -> ContainerHandle:
            engine.remove(ref.id)
            return super().open(ref)

    kind = CriSockets if isinstance(engine, ContainerdRig) else EngineSockets
    return Removed(kind([str(engine.socket)], clock=SystemClock()), kernel=None)
