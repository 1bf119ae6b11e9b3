"""The CRI doorway before scripted daemons: what is no CRI, who was never heard, and what an answer leaves open."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.fakes.clock import FakeClock
from workers.domain.errors import Indeterminate, PermanentFailure, TransientFailure
from workers.domain.targets.container import ContainerRef, ContainerState, protection
from workers.host.containers import cri
from workers.host.containers.behind_sockets import Sighted
from workers.host.containers.cri import CriContainers
from workers.host.containers.cri.proto import messages

ROOM = Path(cri.__file__).parent
KINDS = {**messages(ROOM / "cri.proto"), **messages(ROOM / "tasks.proto")}
CRI, TASKS = "/runtime.v1.RuntimeService/", "/containerd.services.tasks.v1.Tasks/"
ID, POD = "a" * 64, "b" * 64

Answers = dict[str, Callable[[Any, grpc.ServicerContext], Any]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Answers], CriContainers]]:
    with ExitStack() as opened:

        def started(answers: Answers) -> CriContainers:
            server = grpc.server(futures.ThreadPoolExecutor(4))
            server.add_generic_rpc_handlers([Scripted(answers)])
            path = tmp_path / "cri.sock"
            server.add_insecure_port(f"unix:{path}")
            server.start()
            opened.callback(lambda: server.stop(0).wait())
            return CriContainers([str(path)], clock=FakeClock(), timeout_s=0.5, stop_timeout_s=0.5)

        yield started


class Scripted(grpc.GenericRpcHandler):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        answer = self._answers.get(details.method)
        if answer is None:
            return None
        name = details.method.rpartition("/")[2]
        request = KINDS["TaskRequest" if name in ("Pause", "Resume") else f"{name}Request"]
        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


def a_container(**more: Any) -> Answers:
    """A CRI that has one running container in one pod."""
    status = {"id": ID, "metadata": {"name": "web"}, "state": 1, "started_at": 7, **more}
    info = {"info": f'{{"pid": 4711, "sandboxID": "{POD}"}}'}

    def container(asked: Any, context: grpc.ServicerContext) -> Any:
        if not ID.startswith(asked.container_id):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such container")
        return KINDS["ContainerStatusResponse"](status=status, info=info)

    def pod(asked: Any, context: grpc.ServicerContext) -> Any:
        if asked.pod_sandbox_id != POD:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such sandbox")
        return KINDS["PodSandboxStatusResponse"](
            status={"id": POD, "created_at": 5, "labels": {"douse.protected": "1"}}
        )

    return {
        f"{CRI}ContainerStatus": container,
        f"{CRI}PodSandboxStatus": pod,
        f"{CRI}ListContainers": lambda *_: KINDS["ListContainersResponse"](containers=[{"id": ID}]),
        f"{CRI}ListPodSandbox": lambda *_: KINDS["ListPodSandboxResponse"](items=[{"id": POD}]),
    }


def test_a_containerd_without_cri_has_no_containers_and_says_why(
    serve: Callable[[Answers], CriContainers],
) -> None:
    containers = serve({})  # as dockerd's own
    assert containers.sighted(ID[:12]) == Sighted()
    assert containers.sighted(ID) == Sighted()
    (runtime,) = containers.runtimes()
    assert not runtime.usable
    assert "no CRI" in runtime.why


def test_a_runtime_that_answers_is_usable(serve: Callable[[Answers], CriContainers]) -> None:
    (runtime,) = serve({f"{CRI}Version": lambda *_: KINDS["VersionResponse"](runtime_name="containerd")}).runtimes()
    assert (runtime.usable, runtime.why) == (True, "")


def test_without_a_task_service_its_pid_comes_from_cri_and_a_pause_is_refused_clearly(
    serve: Callable[[Answers], CriContainers],
) -> None:
    containers = serve(a_container())  # as CRI-O
    (facts,) = containers.find(ID[:12])
    assert (facts.state, facts.pid, facts.started_at_ns) == (ContainerState.RUNNING, 4711, 7)
    refused = containers.pause(facts.ref)
    assert refused is not None
    assert not refused.may_pass


def test_a_pod_is_a_sandbox_and_protected_and_its_label_protects_its_containers(
    serve: Callable[[Answers], CriContainers],
) -> None:
    containers = serve(a_container())
    (pod,) = containers.find(POD[:12])
    (facts,) = containers.find(ID)
    assert protection(pod, own_ids=(), own_line=()) is not None
    assert protection(facts, own_ids=(), own_line=()) == "it has the label douse.protected"


def test_an_id_that_only_begins_like_one_is_not_it(serve: Callable[[Answers], CriContainers]) -> None:
    containers = serve(a_container())
    assert containers.inspect(ContainerRef(containers.find(ID)[0].ref.runtime, ID[:40])) is None


def test_a_state_that_its_runtime_does_not_know_is_no_answer(serve: Callable[[Answers], CriContainers]) -> None:
    with pytest.raises(TransientFailure, match="does not know"):
        serve(a_container(state=3)).find(ID)


@pytest.mark.parametrize(
    ("told", "task", "state"),
    [
        (1, 2, ContainerState.RUNNING),
        (1, 3, ContainerState.ENDED),
        (1, 4, ContainerState.PAUSED),
        (1, 5, ContainerState.RUNNING),
        (3, 2, ContainerState.RUNNING),
        (3, 4, ContainerState.PAUSED),
    ],
)
def test_what_the_task_service_says_counts(
    serve: Callable[[Answers], CriContainers], told: int, task: int, state: ContainerState
) -> None:
    answers = a_container(state=told)
    answers[f"{TASKS}Get"] = lambda *_: KINDS["GetResponse"](process={"pid": 4712, "status": task})
    (facts,) = serve(answers).find(ID)
    assert (facts.state, facts.pid) == (state, 4712 if facts.alive else 0)


def test_a_call_that_is_not_answered_in_time_may_be_carried_out_yet(
    serve: Callable[[Answers], CriContainers],
) -> None:
    going = threading.Event()
    answers = a_container()

    def stuck(*_: Any) -> Any:
        going.wait(10)
        return KINDS["StopContainerResponse"]()

    answers[f"{CRI}StopContainer"] = stuck
    containers = serve(answers)
    (facts,) = containers.find(ID)
    with pytest.raises(Indeterminate) as silent:
        containers.kill(facts.ref)
    assert silent.value.reason == "runtime_silent"
    going.set()
    again = containers.inspect(facts.ref)
    assert again is not None
    assert again.unsettled


def test_what_it_says_against_a_call_is_a_refusal(serve: Callable[[Answers], CriContainers]) -> None:
    def no(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNKNOWN, "shim is gone")

    containers = serve({**a_container(), f"{CRI}StopContainer": no})
    refused = containers.stop(containers.find(ID)[0].ref, grace_s=0)
    assert refused is not None
    assert (refused.message, refused.may_pass) == ("shim is gone", True)


def test_a_daemon_that_never_greets_surely_did_not_get_the_call(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "cri.sock"))
        hung.listen()
        containers = CriContainers([str(tmp_path / "cri.sock")], clock=FakeClock(), timeout_s=0.2)
        ref = ContainerRef(f"cri:{tmp_path / 'cri.sock'}", ID)
        for call in (lambda: containers.kill(ref), lambda: containers.pause(ref), lambda: containers.find(ID)):
            with pytest.raises(TransientFailure, match="does not answer"):
                call()
        (runtime,) = containers.runtimes()
        assert not runtime.usable


# --- logs ------------------------------------------------------------------------------------------------------------


def test_a_log_is_the_file_that_its_runtime_names(serve: Callable[[Answers], CriContainers], tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"2026-11-24T13:00:00.5+01:00 stderr P one\n2026-11-24T13:00:01Z stdout F two\n")
    containers = serve(a_container(log_path=str(path)))
    (facts,) = containers.find(ID)
    written = path.read_bytes().splitlines(keepends=True)
    assert list(containers.logs(facts.ref, tail=0, since_ns=0)) == written
    assert list(containers.logs(facts.ref, tail=1, since_ns=0)) == written[1:]


@pytest.mark.parametrize(("container_id", "told"), [(ID, "keep no log"), (POD, "sandbox")])
def test_what_has_no_log_is_refused_for_good(
    serve: Callable[[Answers], CriContainers], container_id: str, told: str
) -> None:
    containers = serve(a_container())
    (facts,) = containers.find(container_id)
    with pytest.raises(PermanentFailure, match=told) as caught:
        next(containers.logs(facts.ref, tail=0, since_ns=0))
    assert caught.value.reason == "logs_unavailable"


def test_the_log_of_one_that_was_removed_may_be_asked_for_again(serve: Callable[[Answers], CriContainers]) -> None:
    containers = serve(a_container())
    (facts,) = containers.find(ID)
    with pytest.raises(TransientFailure, match="any more"):
        next(containers.logs(ContainerRef(facts.ref.runtime, "c" * 64), tail=0, since_ns=0))
