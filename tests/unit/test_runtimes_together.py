"""All runtimes as one port: who is asked, who is believed when several know an id, and when the kernel is."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainers
from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState, RestartPolicy, Runtime
from workers.host.containers.behind_sockets import BehindSockets, Daemon, Sighted
from workers.host.containers.host_containers import HostContainers
from workers.host.containers.ports import Refusal

ID = "a" * 64
NO_SOCKET = Sighted(absent="no socket")


class Scripted(BehindSockets):
    """Runtimes of one kind that say what a test lets them; every effect is refused by its own name."""

    scheme: ClassVar[str] = ""

    def __init__(self, says: Sighted, *runtimes: Runtime) -> None:
        super().__init__((), clock=FakeClock(), root=Path("/nowhere"))
        self.says = says
        self._runtimes = runtimes

    def _meet(self, path: str) -> Daemon:
        raise AssertionError(path)

    def sighted(self, container_id: str) -> Sighted:
        return self.says

    def runtimes(self) -> tuple[Runtime, ...]:
        return self._runtimes

    def kill(self, ref: ContainerRef) -> Refusal | None:
        return Refusal(type(self).__name__, may_pass=False)


class ScriptedCri(Scripted):
    scheme: ClassVar[str] = "cri:"


def facts(runtime: str, container_id: str = ID) -> ContainerFacts:
    return ContainerFacts(ContainerRef(runtime, container_id), ContainerState.RUNNING, 1)


def host(docker: Sighted, cri: Sighted, kernel: FakeContainers | None = None, *runtimes: Runtime) -> HostContainers:
    return HostContainers(
        Scripted(docker, *runtimes),
        ScriptedCri(cri, *(Runtime(each.socket, usable=False, why="not CRI") for each in runtimes)),
        kernel=kernel or FakeContainers(),
        kernel_scheme="kernel:",
        clock=FakeClock(),
    )


def kernel_that_has(container_id: str = ID) -> FakeContainers:
    kernel = FakeContainers()
    kernel.spawn(container_id, socket="kernel:system/12/1/1")
    return kernel


def test_what_two_runtimes_show_is_one_container_and_the_first_has_it() -> None:
    both = host(Sighted((facts("/docker.sock"),)), Sighted((facts("cri:/dockershim.sock"),)))
    (found,) = both.find(ID)
    assert found.ref.runtime == "/docker.sock"
    assert found.unserved == ""


def test_what_a_runtime_serves_the_kernel_is_not_asked_for() -> None:
    kernel = FakeContainers(down=True)  # would raise
    (found,) = host(NO_SOCKET, Sighted((facts("cri:/containerd.sock"),)), kernel).find(ID)
    assert found.ref.runtime == "cri:/containerd.sock"


def test_what_no_runtime_has_the_kernel_may_know() -> None:
    (found,) = host(Sighted(), NO_SOCKET, kernel_that_has()).find(ID)
    assert found.unserved
    assert not found.unheard


@pytest.mark.parametrize(
    ("docker", "cri"),
    [(Sighted(unheard=("docker.sock does not answer",)), NO_SOCKET), (NO_SOCKET, NO_SOCKET)],
    ids=["silent", "absent"],
)
def test_where_a_runtime_is_away_the_kernel_knows_and_without_it_nobody_can_say(docker: Sighted, cri: Sighted) -> None:
    (found,) = host(docker, cri, kernel_that_has()).find(ID)
    assert found.unheard
    assert found.unserved == (docker.unheard[0] if docker.unheard else "no socket; no socket")
    with pytest.raises(TransientFailure):
        host(docker, cri).find(ID)


def test_a_kind_of_runtime_that_is_not_installed_hides_nothing() -> None:
    assert list(host(Sighted(), NO_SOCKET).find(ID)) == []


def test_a_silent_runtime_does_not_hide_what_another_has() -> None:
    (found,) = host(Sighted(unheard=("silent",)), Sighted((facts("cri:/c.sock"),))).find(ID)
    assert (found.ref.runtime, found.unserved) == ("cri:/c.sock", "")


def test_each_container_is_acted_on_where_its_claim_says() -> None:
    kernel = kernel_that_has()
    one = host(NO_SOCKET, NO_SOCKET, kernel)
    ref = kernel.table[0].facts.ref
    for runtime, told in (("/docker.sock", "Scripted"), ("cri:/c.sock", "ScriptedCri")):
        refused = one.kill(ContainerRef(runtime, ID))
        assert refused is not None
        assert refused.message == told
    assert one.pause(ref) is None
    assert one.unpause(ref) is None
    assert one.restrain(ref, RestartPolicy()) is None
    assert one.stop(ref, grace_s=0) is None
    assert one.start(ref) is None
    assert one.kill(ref) is None
    assert kernel.calls == ["pause", "unpause", "restrain", "stop", "start", "kill"]
    ended = one.await_end(ref, started_at_ns=0, timeout_s=0)
    assert ended == one.inspect(ref)


def test_a_socket_is_listed_once_and_usable_if_anybody_can_use_it() -> None:
    usable = Runtime("/run/x.sock", usable=True)
    assert list(host(NO_SOCKET, NO_SOCKET, None, usable).runtimes()) == [usable]
