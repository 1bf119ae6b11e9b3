"""One engine behind one socket: its questions, its effects with their time limits, and every failure as a WorkerError.

Made by ``container``, one a socket; the only module that imports ``docker``. Each call has a connection of its own: one
kept open would die with the daemon, and a call that fails on a dead connection cannot be told from one that was carried
out. Must never retry.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from workers.domain.errors import Indeterminate, PermanentFailure, TransientFailure
from workers.domain.targets.container import DECISIVE_LABELS, WHOLE_ID, ContainerFacts, without
from workers.host.containers.docker.facts import facts_of, image_id, labels_of_image
from workers.host.containers.docker.log_lines import framed, raw
from workers.host.containers.ports import Refusal
from workers.host.containers.runtime_sockets import FAULT_S, CallLimits
from workers.host.containers.unanswered_calls import UnansweredCalls
from workers.system.ports import Clock

if TYPE_CHECKING:
    from docker import APIClient
    from docker.errors import APIError

_CHUNK: Final = 1 << 16

_LONGEST: Final = 300
"""Characters of an engine's own text that are kept."""
_MEANINGS: Final = {
    400: "the call is not one that it knows",
    401: "this worker is not authorised",
    403: "it forbids the call",
    404: "it does not have this container",
    409: "the container is not in a state for the call",
    501: "it cannot do this",
    503: "it is not ready",
}

_UNSENT: Final = (ConnectionRefusedError, FileNotFoundError, PermissionError)
"""The connection was not accepted, so the call was not received."""


class Engine:
    """Any thread."""

    def __init__(self, socket: str, clock: Clock, limits: CallLimits) -> None:
        """``socket`` is a path."""
        self.socket = socket
        self._limits = limits
        self._unanswered = UnansweredCalls(clock)
        self._version = ""

    def matching(self, container_id: str) -> Iterator[ContainerFacts]:
        """Every container whose id begins so. Raises ``TransientFailure``."""
        whole = len(container_id) == WHOLE_ID
        ids = [container_id] if whole else [each for each in self._ids() if each.startswith(container_id)]
        for each in ids:
            facts = self.facts(each)
            if facts is not None:
                yield facts

    def facts(self, container_id: str) -> ContainerFacts | None:
        """The one with exactly this id. Raises ``TransientFailure``."""
        # Read first: whatever it answers now, a call before this one may still be waiting.
        unsettled = self._unanswered.unsettled
        inspected = self.container(container_id)
        if inspected is None:
            return None
        facts = facts_of(inspected, self.socket, unsettled=unsettled or self._unanswered.unsettled)
        if not DECISIVE_LABELS & facts.labels.keys():
            return facts
        made_from = image_id(inspected)
        image = self._image(made_from) if made_from else None
        return facts if image is None else without(facts, labels_of_image(image))

    def fault(self) -> str:
        """None: what answers on its socket speaks this API."""
        with self._question(FAULT_S) as client:
            client.ping()
        return ""

    def _ids(self) -> Sequence[str]:
        """Of all its containers. Raises ``TransientFailure``."""
        with self._question() as client:
            return [str(each["Id"]) for each in client.containers(all=True)]

    def container(self, container_id: str) -> Mapping[str, Any] | None:
        """Its JSON of the container that has exactly this id; None when it has none. Raises ``TransientFailure``."""
        with self._question() as client:
            inspected = _found(lambda: client.inspect_container(container_id))
        # A container may be *named* like the id of another: the engine's own look-up takes names too.
        return inspected if inspected is not None and inspected.get("Id") == container_id else None

    def _image(self, image_id: str) -> Mapping[str, Any] | None:
        """Its JSON of an image. Raises ``TransientFailure``."""
        with self._question() as client:
            return _found(lambda: client.inspect_image(image_id))  # type: ignore[no-untyped-call]

    def logs(self, container_id: str, *, terminal: bool, tail: int, since_ns: int) -> Generator[bytes]:
        """As ``ContainerHandle.logs``; one with a terminal has a single stream without frames."""
        chosen = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "tail": str(tail) if tail else "all",
            "since": f"{since_ns // 1_000_000_000}.{since_ns % 1_000_000_000:09d}" if since_ns else "0",
        }
        with self._question() as client:
            url = f"{client.base_url}/v{client.api_version}/containers/{container_id}/logs"
            with client.get(url, params=chosen, stream=True, timeout=self._limits.call_s) as answer:
                if answer.status_code != 200:
                    raise _no_logs(answer.status_code, answer.text[:_LONGEST], container_id)
                yield from (raw if terminal else framed)(answer.iter_content(_CHUNK))

    @contextlib.contextmanager
    def _question(self, timeout_s: float = 0.0) -> Iterator["APIClient"]:
        """Around a question: whatever fails, it may be asked again."""
        from docker.errors import APIError
        from requests.exceptions import RequestException

        client = self._client(timeout_s or self._limits.call_s)
        try:
            yield client
        except APIError as error:
            self._unanswered.record_answer()
            raise TransientFailure(f"{self.socket}: {_line(error)}", detail=_text(error)) from error
        except (RequestException, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            client.close()
        self._unanswered.record_answer()

    @contextlib.contextmanager
    def effect(self, *, stop: bool = False) -> Iterator["APIClient"]:
        """Around an effect: without an answer it is unknown whether it was, or will be, carried out.

        Raises:
            TransientFailure: the engine surely did not get the call.
            Indeterminate: ``runtime_silent``: it may have.
        """
        from requests.exceptions import RequestException

        # For a stop the client itself adds the grace.
        client = self._client(self._limits.stop_s if stop else self._limits.call_s)
        try:
            yield client
        except (RequestException, OSError) as error:
            unreachable = self._unreachable(error)
            if _unsent(error):
                raise unreachable from error
            message = f"{self.socket} took the call and did not answer; it may carry it out yet"
            raise Indeterminate(message, code="runtime_silent", detail=str(error)[:_LONGEST]) from error
        finally:
            client.close()
        self._unanswered.record_answer()

    def _client(self, timeout_s: float) -> "APIClient":
        from docker import APIClient
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            client = APIClient(
                base_url=f"unix://{self.socket}",
                version=self._version or "auto",
                timeout=timeout_s,  # type: ignore[arg-type] # a float works as well
            )
        except (RequestException, DockerException, OSError) as error:
            raise self._unreachable(error) from error
        client.trust_env = False  # proxies are for networks
        self._version = client.api_version
        return client

    def _unreachable(self, error: Exception) -> TransientFailure:
        """It did not answer; remembers it where the call may have been received all the same."""
        if not _unsent(error):
            self._unanswered.record_unanswered()
        why = "it does not accept connections" if _unsent(error) else "the call had no answer"
        return TransientFailure(f"{self.socket} does not answer: {why}", detail=str(error)[:_LONGEST])


def _no_logs(status: int, text: str, container_id: str) -> TransientFailure | PermanentFailure:
    message = f"the logs of container {container_id[:12]} cannot be read: {_answered(status)}"
    if status in (404, 409, 503):
        return TransientFailure(message, detail=text)
    return PermanentFailure(message, code="logs_unavailable", detail=text)


def refusal_of(call: Callable[[], object]) -> Refusal | None:
    """Why the engine refused a call; None where it accepted it."""
    from docker.errors import APIError

    try:
        call()
    except APIError as error:
        return Refusal(_line(error), may_pass=(error.status_code or 500) >= 500, detail=_text(error))
    return None


def _found(call: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any] | None:
    from docker.errors import NotFound

    try:
        return call()
    except NotFound:
        return None


def _line(error: "APIError") -> str:
    return _answered(error.status_code or 500)


def _answered(status: int) -> str:
    """An answer that is an error, in words that no engine chose: its own may quote names that an intruder gave."""
    return f"it answered {status}, {_MEANINGS.get(status, 'an error of its own' if status >= 500 else 'a refusal')}"


def _text(error: "APIError") -> str:
    return str(error.explanation or error)[:_LONGEST]


def _unsent(error: Exception) -> bool:
    return any(isinstance(each, _UNSENT) for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """It, what it wraps and what it came from, however the library did that."""
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.append(each)
            more = (each.__cause__, each.__context__, *each.args)
            waiting += [other for other in more if isinstance(other, BaseException)]
    yield from seen
