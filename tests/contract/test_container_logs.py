"""Logs of every ``Containers``: the fake, a real dockerd, a real Podman service, a real containerd's CRI; and of the
kernel, which has none."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from tests import runtimes
from tests.containerd.rig import ContainerdRig
from tests.engines import EngineRig, until
from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainer, FakeContainers, Written
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.targets.container import ContainerRef
from workers.host.containers.kernel import KernelContainers
from workers.host.containers.ports import Containers
from workers.system.clock import SystemClock

pytestmark = pytest.mark.slow

_LINE = re.compile(rb"(\S+) (stdout|stderr) ([FP]) (.*)\n", re.DOTALL)


class Line(NamedTuple):
    """As the port hands it out."""

    time: bytes
    stream: str
    whole: bool
    text: bytes


class Stage(Protocol):
    """Where containers write."""

    @property
    def containers(self) -> Containers: ...
    def run(self, script: str, written: Sequence[Written]) -> ContainerRef: ...
    def end(self, ref: ContainerRef) -> None: ...
    def remove(self, ref: ContainerRef) -> None: ...
    def away(self) -> None: ...


class FakeStage:
    def __init__(self) -> None:
        self.containers = FakeContainers(FakeClock())
        self._made: dict[ContainerRef, FakeContainer] = {}

    def run(self, script: str, written: Sequence[Written]) -> ContainerRef:
        del script
        made = self.containers.spawn()
        made.written += written
        self._made[made.facts.ref] = made
        return made.facts.ref

    def end(self, ref: ContainerRef) -> None:
        self.containers.end(self._made[ref])

    def remove(self, ref: ContainerRef) -> None:
        self._made[ref].removed = True

    def away(self) -> None:
        self.containers.down = True


class RealStage:
    def __init__(self, rig: EngineRig) -> None:
        self.rig = rig
        self.containers = runtimes.engines(rig.socket, call_s=20)

    def run(self, script: str, written: Sequence[Written]) -> ContainerRef:
        container_id = self.rig.run(command=("sh", "-c", script))
        (facts,) = self.containers.find(container_id)
        until(lambda: len(log(self.containers, facts.ref)) >= len(written))
        return facts.ref

    def end(self, ref: ContainerRef) -> None:
        assert self.containers.open(ref).kill() is None
        until(lambda: self.rig.state(ref.id) in ("exited", "stopped"))

    def remove(self, ref: ContainerRef) -> None:
        self.rig.remove(ref.id)

    def away(self) -> None:
        self.containers = runtimes.engines(self.rig.directory / "none.sock")

    def at_a_terminal(self, script: str) -> ContainerRef:
        with self.rig.client() as client:
            host = client.create_host_config(network_mode="none")
            made = client.create_container(self.rig._image, ["sh", "-c", script], host_config=host, tty=True)
            client.start(made["Id"])
        (facts,) = self.containers.find(made["Id"])
        return facts.ref

    def hasty(self) -> Containers:
        return runtimes.engines(self.rig.socket, call_s=0.5)


class CriStage:
    def __init__(self, rig: ContainerdRig) -> None:
        self.rig = rig
        self.containers = runtimes.cri(rig.socket, call_s=20)

    def run(self, script: str, written: Sequence[Written]) -> ContainerRef:
        ref = self._run(script)
        until(lambda: len(log(self.containers, ref)) >= len(written))
        return ref

    def end(self, ref: ContainerRef) -> None:
        assert self.containers.open(ref).kill() is None
        until(lambda: self.rig.state(ref.id) == "exited")

    def remove(self, ref: ContainerRef) -> None:
        self.rig.remove(ref.id)

    def away(self) -> None:
        self.containers = runtimes.cri(self.rig.directory / "none.sock")

    def at_a_terminal(self, script: str) -> ContainerRef:
        return self._run(script, tty=True)

    def hasty(self) -> Containers:
        return runtimes.cri(self.rig.socket, call_s=0.5)

    def _run(self, script: str, *, tty: bool = False) -> ContainerRef:
        (facts,) = self.containers.find(self.rig.run(command=("sh", "-c", script), tty=tty))
        return facts.ref


Real = RealStage | CriStage


def log(containers: Containers, ref: ContainerRef, *, tail: int = 0, since_ns: int = 0) -> list[Line]:
    """The whole of it."""
    found = [_LINE.fullmatch(piece) for piece in containers.open(ref).logs(tail=tail, since_ns=since_ns)]
    assert None not in found
    return [Line(each[1], each[2].decode(), each[3] == b"F", each[4]) for each in found if each is not None]


@pytest.fixture(params=["fake", "docker", "podman", "containerd"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
    else:
        yield from _real(request)


@pytest.fixture(params=["docker", "podman", "containerd"])
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    yield from _real(request)


def _real(request: pytest.FixtureRequest) -> Iterator[Real]:
    if request.param == "containerd":
        containerd: ContainerdRig = request.getfixturevalue("containerd")
        yield CriStage(containerd)
        containerd.clear()
    else:
        engine: EngineRig = request.getfixturevalue(f"{request.param}_engine")
        yield RealStage(engine)
        engine.clear()


@pytest.fixture
def cri(containerd: ContainerdRig) -> Iterator[CriStage]:
    yield CriStage(containerd)
    containerd.clear()


def written(*texts: str, stderr: str = "") -> list[Written]:
    now_ns = time.time_ns()
    return [
        Written(text, now_ns + number * 1_000_000_000, "stderr" if text == stderr else "stdout")
        for number, text in enumerate(texts)
    ]


SCRIPT = "echo one; sleep 1.2; echo two >&2; sleep 1.2; echo three; sleep 1000"


def test_lines_come_oldest_first_with_their_stream_and_time(stage: Stage) -> None:
    ref = stage.run(SCRIPT, written("one", "two", "three", stderr="two"))
    lines = log(stage.containers, ref)
    assert [(line.stream, line.whole, line.text) for line in lines] == [
        ("stdout", True, b"one"),
        ("stderr", True, b"two"),
        ("stdout", True, b"three"),
    ]
    times = [line.time for line in lines]
    assert times == sorted(times)
    assert all(re.match(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line) for line in times)


def test_only_the_last_lines_or_only_those_since_a_moment(stage: Stage) -> None:
    before_ns = time.time_ns()
    ref = stage.run(SCRIPT, written("one", "two", "three"))
    assert [line.text for line in log(stage.containers, ref, tail=1)] == [b"three"]
    assert [line.text for line in log(stage.containers, ref, tail=2)] == [b"two", b"three"]
    assert [line.text for line in log(stage.containers, ref, tail=99)] == [b"one", b"two", b"three"]
    assert [line.text for line in log(stage.containers, ref, since_ns=before_ns)][-1] == b"three"
    assert log(stage.containers, ref, since_ns=time.time_ns() + 3_600_000_000_000) == []


def test_the_log_of_one_that_has_ended_is_still_there(stage: Stage) -> None:
    ref = stage.run("echo last words; sleep 1000", written("last words"))
    stage.end(ref)
    assert [line.text for line in log(stage.containers, ref)] == [b"last words"]


def test_one_that_never_wrote_has_an_empty_log(stage: Stage) -> None:
    assert log(stage.containers, stage.run("sleep 1000", [])) == []


def test_what_is_gone_or_away_may_be_asked_again(stage: Stage) -> None:
    ref = stage.run("echo one; sleep 1000", written("one"))
    stage.remove(ref)
    with pytest.raises(TransientFailure):
        log(stage.containers, ref)
    stage.away()
    with pytest.raises(TransientFailure):
        log(stage.containers, ref)


def test_a_reader_that_has_enough_closes_it(stage: Stage) -> None:
    ref = stage.run("for i in 1 2 3 4 5; do echo $i; done; sleep 1000", written(*"12345"))
    lines = stage.containers.open(ref).logs(tail=0, since_ns=0)
    next(lines)
    lines.close()
    assert len(log(stage.containers, ref)) == 5


# --- what only a real engine does ------------------------------------------------------------------------------------


def test_a_line_without_end_and_one_beyond_any_buffer(real: Real) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'no end'; echo written >&2; sleep 1000"
    ref = real.run(script.replace("head", "/bin/busybox head").replace("tr ", "/bin/busybox tr "), [])
    until(lambda: any(line.stream == "stderr" for line in log(real.containers, ref)))
    real.end(ref)
    lines = [line for line in log(real.containers, ref) if line.stream == "stdout"]
    assert b"".join(line.text for line in lines) == b"x" * 40_000 + b"no end"
    assert [line.whole for line in lines[:-1]].count(True) == 1


def test_bytes_stay_as_they_were_and_cannot_forge_a_line(real: Real) -> None:
    forged = "2026-01-01T00:00:00Z stderr F innocent"
    script = f"printf 'a\\r\\001\\377 b\\n{forged}\\n'; sleep 1000"
    ref = real.run(script, written("1", "2"))
    one, two = log(real.containers, ref)
    assert one.text.startswith(b"a\r\x01")
    assert (two.stream, two.text) == ("stdout", forged.encode())
    assert two.time != b"2026-01-01T00:00:00Z"


def test_a_terminal_has_one_stream(real: Real) -> None:
    ref = real.at_a_terminal("echo one; echo two >&2; sleep 1000")
    until(lambda: len(log(real.containers, ref)) == 2)
    lines = log(real.containers, ref)
    assert [(line.stream, line.text.rstrip(b"\r")) for line in lines] == [("stdout", b"one"), ("stdout", b"two")]
    assert all(line.time != b"-" for line in lines)


def test_a_hung_engine_is_a_transient_failure(real: Real) -> None:
    ref = real.run("echo one; sleep 1000", written("one"))
    with real.rig.hung(), pytest.raises(TransientFailure):
        log(real.hasty(), ref)
    until(lambda: len(log(real.containers, ref)) == 1)


# --- what only a kubelet does ----------------------------------------------------------------------------------------


def test_what_the_kubelet_rotated_away_comes_first(cri: CriStage) -> None:
    ref = cri.run(
        "echo one; echo two; while [ ! -e /go ]; do sleep 0.1; done; echo three; sleep 1000", written("1", "2")
    )
    cri.rig.rotate(ref.id, "20261124-120000")
    assert [line.text for line in log(cri.containers, ref)] == [b"one", b"two"]
    Path(f"/proc/{cri.rig.pid(ref.id)}/root/go").touch()
    until(lambda: len(log(cri.containers, ref)) == 3)
    assert [line.text for line in log(cri.containers, ref)] == [b"one", b"two", b"three"]
    assert [line.text for line in log(cri.containers, ref, tail=2)] == [b"two", b"three"]


def test_a_link_in_place_of_a_log_is_not_followed(cri: CriStage) -> None:
    ref = cri.run("echo one; sleep 1000", written("one"))
    path = cri.rig.log(ref.id)
    path.rename(path.with_name("away"))
    path.symlink_to(path.with_name("away"))
    with pytest.raises(PermanentFailure, match="not a regular file") as caught:
        log(cri.containers, ref)
    assert caught.value.reason == "logs_unavailable"


def test_one_without_a_log_and_a_pods_sandbox_have_none(cri: CriStage) -> None:
    for container_id, reason in ((cri.rig.run(logged=False), "keep no log"), (cri.rig.pod(), "sandbox")):
        (facts,) = cri.containers.find(container_id)
        with pytest.raises(PermanentFailure, match=reason) as caught:
            log(cri.containers, facts.ref)
        assert caught.value.reason == "logs_unavailable"


# --- who hands out none ----------------------------------------------------------------------------------------------


def test_logs_of_a_container_that_only_the_kernel_knows_are_unsupported() -> None:
    kernel = KernelContainers(clock=SystemClock())
    with pytest.raises(PermanentFailure) as caught:
        kernel.open(ContainerRef("kernel:", "a" * 64)).logs(tail=0, since_ns=0)
    assert caught.value.reason == "logs_unsupported"
