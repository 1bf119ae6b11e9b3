"""Calls over gRPC to one socket: the generated stubs, the time limits, and every failure as a WorkerError.

Made by ``runtime``; the only module that imports ``grpc``. Each call has a connection of its own, and an effect is
requested only once the daemon has answered something else on it: one that hangs before that surely did not get it. Must
never retry.
"""

import contextlib
from collections.abc import Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, assert_never

from workers.domain.errors import Indeterminate, TransientFailure
from workers.host.containers.ports import Refusal
from workers.host.containers.unanswered_calls import UnansweredCalls
from workers.system.ports import Clock

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

NAMESPACE: Final = (("containerd-namespace", "k8s.io"),)
"""Where containerd's CRI keeps what it makes."""


class Service(Enum):
    """The two services of a socket."""

    CRI = auto()
    TASKS = auto()
    """containerd's own task service."""


_OPTIONS: Final = (
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),  # proxies are for networks
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # else a second channel would share the connection of the first
    ("grpc.max_receive_message_length", 16 << 20),  # as much as the interface's own clients take
)


class Endpoint:
    """Any thread."""

    def __init__(self, socket: str, clock: Clock) -> None:
        """``socket`` is a path."""
        self.socket = socket
        self._unanswered = UnansweredCalls(clock)

    @property
    def unsettled(self) -> bool:
        """Whether a call went unanswered and may still be carried out."""
        return self._unanswered.unsettled

    def ask(self, service: Service, method: str, request: "Message", timeout_s: float) -> Any:
        """The answer to a question; None where the runtime has no such object, or no such method.

        Raises:
            TransientFailure: it does not answer, or only with an error.
        """
        import grpc

        try:
            with self._channel() as channel:
                return self._call(channel, service, method, request, timeout_s)
        except grpc.RpcError as error:
            if _code(error) in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED):
                return None
            if _is_unanswered(error):
                raise self._unreachable(error) from error
            raise TransientFailure(f"{self.socket}: {_line(error)}", detail=_text(error)) from error

    def act(self, service: Service, method: str, request: "Message", timeout_s: float) -> Refusal | None:
        """Why the runtime refused an effect; None where it accepted it.

        Raises:
            TransientFailure: it surely did not get the call.
            Indeterminate: ``runtime_silent``: it may have.
        """
        import grpc

        with self._channel() as channel:
            self._check_answers(channel, timeout_s)
            try:
                self._call(channel, service, method, request, timeout_s)
            except grpc.RpcError as error:
                return self._refusal(error)
        return None

    def _refusal(self, error: Any) -> Refusal:
        import grpc

        if _is_unanswered(error):
            self._unanswered.record_unanswered()
            message = f"{self.socket} took the call and did not answer; it may carry it out yet"
            raise Indeterminate(message, code="runtime_silent", detail=_text(error)) from error
        unknown = _code(error) in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
        return Refusal(_line(error), may_pass=not unknown, detail=_text(error))

    def _check_answers(self, channel: "grpc.Channel", timeout_s: float) -> None:
        """A question whose answer does not matter: a daemon that does not answer it gets no effect to carry out."""
        import grpc

        from workers.host.containers.cri.stubs import cri_pb2

        try:
            self._call(channel, Service.CRI, "Version", cri_pb2.VersionRequest(version="v1"), timeout_s)
        except grpc.RpcError as error:
            if _is_unanswered(error):
                raise self._unreachable(error) from error

    def _call(
        self, channel: "grpc.Channel", service: Service, method: str, request: "Message", timeout_s: float
    ) -> Any:
        import grpc

        call, metadata = _method(channel, service, method)
        try:
            answer = call(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            if not _is_unanswered(error):
                self._unanswered.record_answer()
            raise
        self._unanswered.record_answer()
        return answer

    def _unreachable(self, error: Any) -> TransientFailure:
        return TransientFailure(f"{self.socket} does not answer: {_line(error)}", detail=_text(error))

    @contextlib.contextmanager
    def _channel(self) -> Iterator["grpc.Channel"]:
        import grpc

        channel = grpc.insecure_channel(f"unix:{self.socket}", options=_OPTIONS)
        try:
            yield channel
        finally:
            channel.close()


def _method(
    channel: "grpc.Channel", service: Service, method: str
) -> tuple["grpc.UnaryUnaryMultiCallable[Any, Any]", tuple[tuple[str, str], ...] | None]:
    """A method of a generated stub, and the metadata that its service needs."""
    from workers.host.containers.cri.stubs import cri_pb2_grpc, tasks_pb2_grpc

    match service:
        case Service.CRI:
            return getattr(cri_pb2_grpc.RuntimeServiceStub(channel), method), None
        case Service.TASKS:
            return getattr(tasks_pb2_grpc.TasksStub(channel), method), NAMESPACE
        case _:
            assert_never(service)


def _code(error: Any) -> "grpc.StatusCode":
    code: grpc.StatusCode = error.code()
    return code


def _is_unanswered(error: Any) -> bool:
    """Whether the status was made at this end, or by a daemon that gave up midway: then the effect is unknown."""
    import grpc

    codes = grpc.StatusCode
    return _code(error) in (codes.DEADLINE_EXCEEDED, codes.UNAVAILABLE, codes.CANCELLED, codes.INTERNAL)


def _line(error: Any) -> str:
    """The status in words that no runtime chose: its own may quote names that an intruder gave."""
    return f"the status is {_code(error).name.lower().replace('_', ' ')}"


def _text(error: Any) -> str:
    return str(error.details() or "")[:300]
