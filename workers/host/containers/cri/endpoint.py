"""Calls over gRPC to one socket: the messages, the time limits, and every failure as one of our own errors.

Made by ``runtime``; the only module that imports ``grpc``. A connection of its own for each call, and an effect is
asked for only once the daemon has answered something else on it: one that hangs before that surely did not get it. Must
never retry.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workers.domain.errors import Indeterminate, TransientFailure
from workers.host.containers.cri.proto import messages
from workers.host.containers.ports import Refusal
from workers.host.containers.silence import Silence
from workers.system.ports import Clock

if TYPE_CHECKING:
    import grpc

CRI: Final = "runtime.v1.RuntimeService"
TASKS: Final = "containerd.services.tasks.v1.Tasks"
NAMESPACE: Final = (("containerd-namespace", "k8s.io"),)
"""Where containerd's CRI keeps what it makes."""

_FILES: Final[Mapping[str, str]] = {CRI: "cri.proto", TASKS: "tasks.proto"}
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
        self._silence = Silence(clock)

    @property
    def unsettled(self) -> bool:
        """Whether a call went unanswered and may still be carried out."""
        return self._silence.unsettled

    def look(self, service: str, method: str, reply: str, timeout_s: float, /, **request: Any) -> Any:
        """What it answers to a question; None where it knows no such thing, or no such question.

        Raises:
            TransientFailure: it does not answer, or only complains.
        """
        import grpc

        try:
            with self._channel() as channel:
                return self._call(channel, service, method, reply, timeout_s, request)
        except grpc.RpcError as error:
            if _code(error) in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED):
                return None
            if _unanswered(error):
                raise self._away(error) from error
            raise TransientFailure(f"{self.socket}: {_words(error)}") from error

    def act(self, service: str, method: str, reply: str, timeout_s: float, /, **request: Any) -> Refusal | None:
        """What it says against an effect; None where it took it.

        Raises:
            TransientFailure: it surely did not get the call.
            Indeterminate: it may have.
        """
        import grpc

        with self._channel() as channel:
            self._greet(channel, timeout_s)
            try:
                self._call(channel, service, method, reply, timeout_s, request)
            except grpc.RpcError as error:
                return self._complaint(error)
        return None

    def _complaint(self, error: Any) -> Refusal:
        import grpc

        if _unanswered(error):
            self._silence.unanswered()
            message = f"{self.socket} took the call and did not answer ({_words(error)}); it may carry it out yet"
            raise Indeterminate(message, code="runtime_silent") from error
        unknown = _code(error) in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
        return Refusal(_words(error), may_pass=not unknown)

    def _greet(self, channel: "grpc.Channel", timeout_s: float) -> None:
        """A question whose answer is all the same: who does not answer it gets no order."""
        import grpc

        try:
            self._call(channel, CRI, "Version", "VersionResponse", timeout_s, {"version": "v1"})
        except grpc.RpcError as error:
            if _unanswered(error):
                raise self._away(error) from error

    def _call(
        self,
        channel: "grpc.Channel",
        service: str,
        method: str,
        reply: str,
        timeout_s: float,
        request: Mapping[str, Any],
    ) -> Any:
        import grpc

        kinds = _messages(service)
        asked = kinds[_REQUESTS.get(method, f"{method}Request")](**request)
        call: grpc.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kinds[reply].FromString,
        )
        try:
            answer = call(asked, timeout=timeout_s, metadata=NAMESPACE if service == TASKS else None)
        except grpc.RpcError as error:
            if not _unanswered(error):
                self._silence.answered()
            raise
        self._silence.answered()
        return answer

    def _away(self, error: Any) -> TransientFailure:
        return TransientFailure(f"{self.socket} does not answer: {_words(error)}")

    @contextlib.contextmanager
    def _channel(self) -> Iterator["grpc.Channel"]:
        import grpc

        channel = grpc.insecure_channel(f"unix:{self.socket}", options=_OPTIONS)
        try:
            yield channel
        finally:
            channel.close()


_REQUESTS: Final[Mapping[str, str]] = {"Pause": "TaskRequest", "Resume": "TaskRequest"}


@functools.cache
def _messages(service: str) -> Mapping[str, Any]:
    return messages(Path(__file__).parent / _FILES[service])


def _code(error: Any) -> "grpc.StatusCode":
    code: grpc.StatusCode = error.code()
    return code


def _unanswered(error: Any) -> bool:
    """Whether the status was made at our end, or by a daemon that gave up in the middle: then nobody knows."""
    import grpc

    codes = grpc.StatusCode
    return _code(error) in (codes.DEADLINE_EXCEEDED, codes.UNAVAILABLE, codes.CANCELLED, codes.INTERNAL)


def _words(error: Any) -> str:
    return str(error.details() or error.code().name)[:300]
