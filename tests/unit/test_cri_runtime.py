"""The CRI doorway with scripted daemons: what is no CRI, what never answered, and what an answer leaves open."""

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
from google.protobuf.message_factory import GetMessageClass

from tests import runtimes
from tests.fakes.clock import FakeClock
from workers.domain.errors import Indeterminate, PermanentFailure, TransientFailure
from workers.domain.targets.container import ContainerRef, ContainerState, protection
from workers.host.containers.cri.stubs import cri_pb2, tasks_pb2
from workers.host.containers.host_containers import HostContainers

CRI, TASKS = "/runtime.v1.RuntimeService/", "/containerd.services.tasks.v1.Tasks/"
ID, POD = "a" * 64, "b" * 64

Answers = dict[str, Callable[[Any, grpc.ServicerContext], Any]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Answers], HostContainers]]:
    with ExitStack() as opened:

        def started(answers: Answers) -> HostContainers:
            server = grpc.server(futures.ThreadPoolExecutor(4))
            server.add_generic_rpc_handlers([Scripted(answers)])
            path = tmp_path / "cri.sock"
            server.add_insecure_port(f"unix:{path}")
            server.start()
            opened.callback(lambda: server.stop(0).wait())
            return runtimes.cri(path, clock=FakeClock(), call_s=0.5, stop_s=0.5)

        yield started


class Scripted(grpc.GenericRpcHandler):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        answer = self._answers.get(details.method)
        if answer is None:
            return None
        service, name = details.method.strip("/").split("/")
        file = tasks_pb2.DESCRIPTOR if service.endswith("Tasks") else cri_pb2.DESCRIPTOR
        method = file.services_by_name[service.rpartition(".")[2]].methods_by_name[name]
        request = GetMessageClass(method.input_type)
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
        return cri_pb2.ContainerStatusResponse(status=status, info=info)

    def pod(asked: Any, context: grpc.ServicerContext) -> Any:
        if asked.pod_sandbox_id != POD:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such sandbox")
        return cri_pb2.PodSandboxStatusResponse(status={"id": POD, "created_at": 5, "labels": {"douse.protected": "1"}})

    return {
        f"{CRI}ContainerStatus": container,
        f"{CRI}PodSandboxStatus": pod,
        f"{CRI}ListContainers": lambda *_: cri_pb2.ListContainersResponse(containers=[{"id": ID}]),
        f"{CRI}ListPodSandbox": lambda *_: cri_pb2.ListPodSandboxResponse(items=[{"id": POD}]),
    }


def test_a_containerd_without_cri_has_no_containers_and_gives_the_reason(
    serve: Callable[[Answers], HostContainers],
) -> None:
    containers = serve({})  # as dockerd's own
    assert list(containers.find(ID[:12])) == []
    assert list(containers.find(ID)) == []
    (runtime,) = containers.runtimes()
    assert not runtime.usable
    assert "no CRI" in runtime.why


def test_a_runtime_that_answers_is_usable(serve: Callable[[Answers], HostContainers]) -> None:
    (runtime,) = serve({f"{CRI}Version": lambda *_: cri_pb2.VersionResponse(runtime_name="containerd")}).runtimes()
    assert (runtime.usable, runtime.why) == (True, "")


def test_without_a_task_service_its_pid_comes_from_cri_and_a_pause_is_refused_clearly(
    serve: Callable[[Answers], HostContainers],
) -> None:
    containers = serve(a_container())  # as CRI-O
    (facts,) = containers.find(ID[:12])
    assert (facts.state, facts.pid, facts.started_at_ns) == (ContainerState.RUNNING, 4711, 7)
    refused = containers.open(facts.ref).pause()
    assert refused is not None
    assert not refused.may_pass


def test_a_pod_is_a_sandbox_and_protected_and_its_label_protects_its_containers(
    serve: Callable[[Answers], HostContainers],
) -> None:
    containers = serve(a_container())
    (pod,) = containers.find(POD[:12])
    (facts,) = containers.find(ID)
    assert protection(pod, own_ids=(), own_line=()) is not None
    assert protection(facts, own_ids=(), own_line=()) == "it has the label douse.protected"


def test_an_id_that_only_begins_like_one_is_not_it(serve: Callable[[Answers], HostContainers]) -> None:
    containers = serve(a_container())
    assert containers.open(ContainerRef(containers.find(ID)[0].ref.runtime, ID[:40])).inspect() is None


def test_a_state_that_its_runtime_does_not_know_is_no_answer(serve: Callable[[Answers], HostContainers]) -> None:
    with pytest.raises(TransientFailure, match="does not know"):
        serve(a_container(state=3)).find(ID)


@pytest.mark.parametrize(
    ("status", "task", "state"),
    [
        (1, 2, ContainerState.RUNNING),
        (1, 3, ContainerState.ENDED),
        (1, 4, ContainerState.PAUSED),
        (1, 5, ContainerState.RUNNING),
        (3, 2, ContainerState.RUNNING),
        (3, 4, ContainerState.PAUSED),
    ],
)
def test_the_task_services_state_counts(
    serve: Callable[[Answers], HostContainers], status: int, task: int, state: ContainerState
) -> None:
    answers = a_container(state=status)
    answers[f"{TASKS}Get"] = lambda *_: tasks_pb2.GetResponse(process={"pid": 4712, "status": task})
    (facts,) = serve(answers).find(ID)
    assert (facts.state, facts.pid) == (state, 4712 if facts.alive else 0)


def test_a_call_that_is_not_answered_in_time_may_be_carried_out_yet(
    serve: Callable[[Answers], HostContainers],
) -> None:
    going = threading.Event()
    answers = a_container()

    def stuck(*_: Any) -> Any:
        going.wait(10)
        return cri_pb2.StopContainerResponse()

    answers[f"{CRI}StopContainer"] = stuck
    containers = serve(answers)
    (facts,) = containers.find(ID)
    with pytest.raises(Indeterminate) as silent:
        containers.open(facts.ref).kill()
    assert silent.value.reason == "runtime_silent"
    going.set()
    again = containers.open(facts.ref).inspect()
    assert again is not None
    assert again.unsettled


def test_an_error_answer_to_an_effect_is_a_refusal(serve: Callable[[Answers], HostContainers]) -> None:
    def no(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNKNOWN, "shim is gone")

    containers = serve({**a_container(), f"{CRI}StopContainer": no})
    refused = containers.open(containers.find(ID)[0].ref).stop(grace_s=0)
    assert refused is not None
    assert (refused.message, refused.may_pass) == ("the status is unknown", True)
    assert refused.detail == "shim is gone"


def test_a_daemon_that_never_answers_surely_did_not_get_the_call(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "cri.sock"))
        hung.listen()
        containers = runtimes.cri(tmp_path / "cri.sock", clock=FakeClock(), call_s=0.2)
        ref = ContainerRef(f"cri:{tmp_path / 'cri.sock'}", ID)
        for call in (
            lambda: containers.open(ref).kill(),
            lambda: containers.open(ref).pause(),
            lambda: containers.find(ID),
        ):
            with pytest.raises(TransientFailure, match="does not answer"):
                call()
        (runtime,) = containers.runtimes()
        assert not runtime.usable


# --- logs ------------------------------------------------------------------------------------------------------------


def test_a_log_is_the_file_that_its_runtime_names(serve: Callable[[Answers], HostContainers], tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"2026-11-24T13:00:00.5+01:00 stderr P one\n2026-11-24T13:00:01Z stdout F two\n")
    containers = serve(a_container(log_path=str(path)))
    (facts,) = containers.find(ID)
    written = path.read_bytes().splitlines(keepends=True)
    assert list(containers.open(facts.ref).logs(tail=0, since_ns=0)) == written
    assert list(containers.open(facts.ref).logs(tail=1, since_ns=0)) == written[1:]


@pytest.mark.parametrize(("container_id", "reason"), [(ID, "keep no log"), (POD, "sandbox")])
def test_what_has_no_log_is_refused_for_good(
    serve: Callable[[Answers], HostContainers], container_id: str, reason: str
) -> None:
    containers = serve(a_container())
    (facts,) = containers.find(container_id)
    with pytest.raises(PermanentFailure, match=reason) as caught:
        next(containers.open(facts.ref).logs(tail=0, since_ns=0))
    assert caught.value.reason == "logs_unavailable"


def test_the_log_of_one_that_was_removed_may_be_asked_for_again(serve: Callable[[Answers], HostContainers]) -> None:
    containers = serve(a_container())
    (facts,) = containers.find(ID)
    with pytest.raises(TransientFailure, match="any more"):
        next(containers.open(ContainerRef(facts.ref.runtime, "c" * 64)).logs(tail=0, since_ns=0))
