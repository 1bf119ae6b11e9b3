"""One engine behind one socket: the calls, with their time limits, and every failure as one of our own errors.

Made by ``containers``, one a socket; the only module that imports ``docker``. A connection of its own for each call:
one kept open would die with the daemon, and a call that fails on a dead connection cannot be told from one that was
carried out. Must never retry.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from workers.domain.errors import Indeterminate, PermanentFailure, TransientFailure
from workers.domain.targets.container import TELLING_LABELS, WHOLE_ID, ContainerFacts, RestartPolicy, without
from workers.host.containers.docker.log_lines import framed, raw
from workers.host.containers.docker.reading import facts_of, image_id, labels_of_image
from workers.host.containers.ports import Refusal
from workers.host.containers.silence import Silence
from workers.system.ports import Clock

if TYPE_CHECKING:
    from docker import APIClient
    from docker.errors import APIError

_CHUNK: Final = 1 << 16

_UNSENT: Final = (ConnectionRefusedError, FileNotFoundError, PermissionError)
"""Nobody took the connection, so nobody took the call."""


class Engine:
    """Any thread."""

    def __init__(self, socket: str, clock: Clock, *, timeout_s: float, stop_timeout_s: float) -> None:
        """Time limits are of one call, ``stop_timeout_s`` beyond the grace."""
        self.socket = socket
        self._timeout_s = timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._silence = Silence(clock)
        self._version = ""

    def matching(self, container_id: str) -> Iterator[ContainerFacts]:
        """Every container whose id begins so. Raises ``TransientFailure``."""
        whole = len(container_id) == WHOLE_ID
        ids = [container_id] if whole else [each for each in self.ids() if each.startswith(container_id)]
        for each in ids:
            facts = self.facts(each)
            if facts is not None:
                yield facts

    def facts(self, container_id: str) -> ContainerFacts | None:
        """The one with exactly this id. Raises ``TransientFailure``."""
        # Asked first: whatever it answers now, a call before this one may still be waiting.
        unsettled = self._silence.unsettled
        told = self.container(container_id)
        if told is None:
            return None
        facts = facts_of(told, self.socket, unsettled=unsettled or self._silence.unsettled)
        if not TELLING_LABELS & facts.labels.keys():
            return facts
        made_from = image_id(told)
        image = self.image(made_from) if made_from else None
        return facts if image is None else without(facts, labels_of_image(image))

    def fault(self) -> str:
        """None: who listens on its socket speaks this API."""
        return ""

    def ids(self) -> Sequence[str]:
        """Of all its containers. Raises ``TransientFailure``."""
        with self._looking() as client:
            return [str(each["Id"]) for each in client.containers(all=True)]

    def container(self, container_id: str) -> Mapping[str, Any] | None:
        """What it says of the one that has exactly this id; None when it has none. Raises ``TransientFailure``."""
        with self._looking() as client:
            told = _found(lambda: client.inspect_container(container_id))
        # A container may be *named* like the id of another: the engine's own look-up takes names too.
        return told if told is not None and told.get("Id") == container_id else None

    def image(self, image_id: str) -> Mapping[str, Any] | None:
        """What it says of an image. Raises ``TransientFailure``."""
        with self._looking() as client:
            return _found(lambda: client.inspect_image(image_id))  # type: ignore[no-untyped-call]

    def restrain(self, container_id: str, policy: RestartPolicy) -> Refusal | None:
        """Set the restart policy."""
        wanted: Any = {"Name": policy.name, "MaximumRetryCount": policy.maximum}
        with self._acting(self._timeout_s) as client:
            return _told(lambda: client.update_container(container_id, restart_policy=wanted))

    def kill(self, container_id: str) -> Refusal | None:
        """SIGKILL."""
        with self._acting(self._timeout_s) as client:
            return _told(lambda: client.kill(container_id, signal="SIGKILL"))

    def stop(self, container_id: str, grace_s: int) -> Refusal | None:
        """Stop signal, then SIGKILL."""
        with self._acting(self._stop_timeout_s) as client:  # the client itself adds the grace
            return _told(lambda: client.stop(container_id, timeout=grace_s))

    def start(self, container_id: str) -> Refusal | None:
        """A new run."""
        with self._acting(self._timeout_s) as client:
            return _told(lambda: client.start(container_id))

    def pause(self, container_id: str) -> Refusal | None:
        """Freeze."""
        with self._acting(self._timeout_s) as client:
            return _told(lambda: client.pause(container_id))

    def unpause(self, container_id: str) -> Refusal | None:
        """Thaw."""
        with self._acting(self._timeout_s) as client:
            return _told(lambda: client.unpause(container_id))

    def logs(self, container_id: str, *, tail: int, since_ns: int) -> Generator[bytes]:
        """As the port's."""
        told = self.container(container_id)
        if told is None:
            raise TransientFailure(f"{self.socket} has no container {container_id[:12]} any more")
        terminal = bool((told.get("Config") or {}).get("Tty"))
        chosen = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "tail": str(tail) if tail else "all",
            "since": f"{since_ns // 1_000_000_000}.{since_ns % 1_000_000_000:09d}" if since_ns else "0",
        }
        with self._looking() as client:
            url = f"{client.base_url}/v{client.api_version}/containers/{container_id}/logs"
            with client.get(url, params=chosen, stream=True, timeout=self._timeout_s) as answer:
                if answer.status_code != 200:
                    raise _no_logs(answer.status_code, answer.text, container_id)
                yield from (raw if terminal else framed)(answer.iter_content(_CHUNK))

    @contextlib.contextmanager
    def _looking(self) -> Iterator["APIClient"]:
        """Around a question: whatever goes wrong, it may be asked again."""
        from docker.errors import APIError
        from requests.exceptions import RequestException

        client = self._client(self._timeout_s)
        try:
            yield client
        except APIError as error:
            self._silence.answered()
            raise TransientFailure(f"{self.socket}: {_words(error)}") from error
        except (RequestException, OSError) as error:
            raise self._away(error) from error
        finally:
            client.close()
        self._silence.answered()

    @contextlib.contextmanager
    def _acting(self, timeout_s: float) -> Iterator["APIClient"]:
        """Around an effect: without an answer nobody knows whether it was, or will be, carried out."""
        from requests.exceptions import RequestException

        client = self._client(timeout_s)
        try:
            yield client
        except (RequestException, OSError) as error:
            away = self._away(error)
            if _unsent(error):
                raise away from error
            message = f"{self.socket} took the call and did not answer ({_short(error)}); it may carry it out yet"
            raise Indeterminate(message, code="runtime_silent") from error
        finally:
            client.close()
        self._silence.answered()

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
            raise self._away(error) from error
        client.trust_env = False  # proxies are for networks
        self._version = client.api_version
        return client

    def _away(self, error: Exception) -> TransientFailure:
        """It did not answer; remembers where it may have been asked all the same."""
        if not _unsent(error):
            self._silence.unanswered()
        return TransientFailure(f"{self.socket} does not answer: {_short(error)}")


def _no_logs(status: int, said: str, container_id: str) -> TransientFailure | PermanentFailure:
    told = f"the logs of container {container_id[:12]} cannot be read: {said[:200].strip()}"
    if status in (404, 409, 503):
        return TransientFailure(told)
    return PermanentFailure(told, code="logs_unavailable")


def _told(call: Callable[[], object]) -> Refusal | None:
    """What the engine says against a call; None where it took it."""
    from docker.errors import APIError

    try:
        call()
    except APIError as error:
        return Refusal(_words(error), may_pass=(error.status_code or 500) >= 500)
    return None


def _found(call: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any] | None:
    from docker.errors import NotFound

    try:
        return call()
    except NotFound:
        return None


def _words(error: "APIError") -> str:
    return str(error.explanation or error)[:300]


def _short(error: Exception) -> str:
    return str(error)[:200]


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
