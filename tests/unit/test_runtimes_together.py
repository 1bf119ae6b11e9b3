"""All runtimes as one port: which are asked, which counts when several have an id, and when the kernel is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainers
from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState, Runtime
from workers.host.containers.host_containers import HostContainers
from workers.host.containers.ports import ContainerHandle
from workers.host.containers.runtime_sockets import Answers, Daemon, RuntimeSockets

ID = "a" * 64
NO_SOCKET = Answers(absent="no socket")


class Scripted(RuntimeSockets[Daemon]):
    """Runtimes of one kind whose answers a test gives."""

    scheme: ClassVar[str] = ""

    def __init__(self, answers: Answers, *runtimes: Runtime) -> None:
        super().__init__((), clock=FakeClock(), root=Path("/nowhere"))
        self.answers = answers
        self._runtimes = runtimes

    def _connected(self, path: str) -> Daemon:
        raise AssertionError(path)

    def _handle(self, ref: ContainerRef, daemon: Callable[[], Daemon]) -> ContainerHandle:
        del daemon
        runtime = FakeContainers()
        runtime.spawn(ref.id, socket=ref.runtime, name=type(self).__name__)
        return runtime.open(ref)

    def ask(self, container_id: str, *, hurry: bool = False) -> Answers:
        return self.answers

    def runtimes(self) -> tuple[Runtime, ...]:
        return self._runtimes


class ScriptedCri(Scripted):
    scheme: ClassVar[str] = "cri:"


def facts(runtime: str, container_id: str = ID) -> ContainerFacts:
    return ContainerFacts(ContainerRef(runtime, container_id), ContainerState.RUNNING, 1)


def host(docker: Answers, cri: Answers, kernel: FakeContainers | None = None, *runtimes: Runtime) -> HostContainers:
    return HostContainers(
        Scripted(docker, *runtimes),
        ScriptedCri(cri, *(Runtime(each.socket, usable=False, why="not CRI") for each in runtimes)),
        kernel=kernel or FakeContainers(),
    )


def kernel_that_has(container_id: str = ID) -> FakeContainers:
    kernel = FakeContainers()
    kernel.spawn(container_id, socket="kernel:system/12/1/1")
    return kernel


def test_what_two_runtimes_show_is_one_container_and_the_first_has_it() -> None:
    both = host(Answers((facts("/docker.sock"),)), Answers((facts("cri:/dockershim.sock"),)))
    (found,) = both.find(ID)
    assert found.ref.runtime == "/docker.sock"
    assert found.unserved == ""


def test_what_a_runtime_serves_the_kernel_is_not_asked_for() -> None:
    kernel = FakeContainers(down=True)  # would raise
    (found,) = host(NO_SOCKET, Answers((facts("cri:/containerd.sock"),)), kernel).find(ID)
    assert found.ref.runtime == "cri:/containerd.sock"


def test_what_no_runtime_has_the_kernel_may_know() -> None:
    (found,) = host(Answers(), NO_SOCKET, kernel_that_has()).find(ID)
    assert found.unserved
    assert not found.unheard


@pytest.mark.parametrize(
    ("docker", "cri"),
    [(Answers(unanswered=("docker.sock does not answer",)), NO_SOCKET), (NO_SOCKET, NO_SOCKET)],
    ids=["silent", "absent"],
)
def test_where_a_runtime_is_unreachable_the_kernel_answers_or_the_search_fails(docker: Answers, cri: Answers) -> None:
    (found,) = host(docker, cri, kernel_that_has()).find(ID)
    assert found.unheard
    assert found.unserved == (docker.unanswered[0] if docker.unanswered else "no socket; no socket")
    with pytest.raises(TransientFailure):
        host(docker, cri).find(ID)


def test_a_kind_of_runtime_that_is_not_installed_hides_nothing() -> None:
    assert list(host(Answers(), NO_SOCKET).find(ID)) == []


def test_a_silent_runtime_does_not_hide_what_another_has() -> None:
    (found,) = host(Answers(unanswered=("silent",)), Answers((facts("cri:/c.sock"),))).find(ID)
    assert (found.ref.runtime, found.unserved) == ("cri:/c.sock", "")


def test_each_container_is_opened_where_its_claim_names_it() -> None:
    kernel = kernel_that_has()
    one = host(NO_SOCKET, NO_SOCKET, kernel)
    for runtime, kind in (("/docker.sock", "Scripted"), ("cri:/c.sock", "ScriptedCri")):
        found = one.open(ContainerRef(runtime, ID)).inspect()
        assert found is not None
        assert found.name == kind
    assert one.open(kernel.table[0].facts.ref).kill() is None
    assert kernel.calls == ["kill"]


def test_a_socket_is_listed_once_and_usable_if_any_kind_can_use_it() -> None:
    usable = Runtime("/run/x.sock", usable=True)
    assert list(host(NO_SOCKET, NO_SOCKET, None, usable).runtimes()) == [usable]


def test_what_a_runtime_serves_is_never_the_kernels_word_for_it() -> None:
    kernel = kernel_that_has()
    served = host(Answers((facts("/run/docker.sock"),)), Answers(), kernel).served(ID)
    assert served is not None
    assert served.ref.runtime == "/run/docker.sock"
    assert host(Answers(), Answers(), kernel).served(ID) is None
    with pytest.raises(TransientFailure) as silent:
        host(Answers(unanswered=("it hangs",)), Answers(), kernel).served(ID)
    assert silent.value.reason == "unavailable"
    with pytest.raises(TransientFailure) as absent:
        host(Answers(absent="no socket"), Answers(absent="no socket"), kernel).served(ID)
    assert absent.value.reason == "no_runtime"
