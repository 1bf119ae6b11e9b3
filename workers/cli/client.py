"""The HTTP client of the gateway, used by every command that calls it.

Made by ``connected`` from the context. An error answer becomes one line and an exit code by its class; so does a
gateway that does not answer.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias
from urllib.parse import quote

import typer

from workers.cli.context import Context, find_context
from workers.cli.exits import Exit, Failure

if TYPE_CHECKING:
    import ssl

    import httpx

Query: TypeAlias = Mapping[str, str | int]
NO_QUERY: Final[Query] = {}

TIMEOUT_S: Final = 30.0
"""Above the ten seconds that the gateway itself waits for the log."""
_TOKEN: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
"""What a header can carry; the client library would print any other token in its error."""

_EXITS: Final[Mapping[int, Exit]] = {
    400: Exit.USAGE,
    401: Exit.REFUSED,
    403: Exit.REFUSED,
    404: Exit.NOT_FOUND,
    409: Exit.REFUSED,
    413: Exit.USAGE,
    429: Exit.UNREACHABLE,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.UNREACHABLE,
}

DataOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data", help="Data directory of a `douse up` to talk to, instead of --context.", metavar="DIR"),
]
LocalDataOption: TypeAlias = Annotated[
    Path | None, typer.Option("--data", help="Data directory of a `douse up` on this machine.", metavar="DIR")
]
ContextOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--context",
        help="The gateway to talk to. Default: DOUSE_CONTEXT, else DOUSE_URL with DOUSE_TOKEN, else the one of "
        "`douse context use`, else the `douse up` of this machine.",
        metavar="NAME",
    ),
]


class Client:
    """The client of one gateway."""

    def __init__(self, http: "httpx.Client", context: Context) -> None:
        """Made by ``connected``."""
        self._http = http
        self.context = context

    def get(self, *path: str, query: Query = NO_QUERY, wait_s: float = 0.0) -> Any:
        """The JSON of an answer; empty query values are left out. ``wait_s`` is how long the gateway may delay it.

        Raises:
            Failure: no answer, or an error.
        """
        wanted: dict[str, str | int | float] = {name: value for name, value in query.items() if value != ""}
        if wait_s:
            wanted["wait_s"] = wait_s
        return self._ask("GET", path, params=wanted, timeout=TIMEOUT_S + wait_s)

    def post(self, *path: str, **more: Any) -> Any:
        """As ``get``, for a POST."""
        return self._ask("POST", path, **more)

    def delete(self, *path: str, **more: Any) -> Any:
        """As ``get``, for a DELETE."""
        return self._ask("DELETE", path, **more)

    def pages(self, path: str, *, most: int, query: Query) -> Iterator[Mapping[str, Any]]:
        """A list's rows, newest first, page by page; at most ``most``."""
        cursor, left = "", most
        while left > 0:
            answer = self.get(path, query={**query, "limit": min(left, 200), "cursor": cursor})
            yield from answer["data"][:left]
            left -= len(answer["data"])
            cursor = answer.get("next") or ""
            if not cursor:
                return

    @contextmanager
    def stream(self, *path: str) -> Iterator["httpx.Response"]:
        """An answer whose body is still arriving.

        Raises:
            Failure: no answer, an error, or an incomplete answer.
        """
        import httpx

        try:
            with self._http.stream("GET", _url(path)) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _failure(answer)
                yield answer
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _ask(self, method: str, path: tuple[str, ...], **more: Any) -> Any:
        import httpx

        try:
            answer = self._http.request(method, _url(path), **more)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if answer.is_success:
            return self._read(answer)
        raise _failure(answer)

    def _unreachable(self, error: "httpx.TransportError") -> Failure:
        import httpx

        match error:
            case httpx.TimeoutException():
                return Failure(f"{self.context.url} did not answer in time; try again", Exit.UNREACHABLE)
            case httpx.RemoteProtocolError():
                return Failure(f"{self.context.url} broke off its answer; see its log", Exit.FAILED)
            case _:
                reason = str(error) or type(error).__name__
                return Failure(
                    f"{self.context.url} does not answer ({reason}); is `douse up` running?", Exit.UNREACHABLE
                )

    def _read(self, answer: "httpx.Response") -> Any:
        try:
            return answer.json()
        except ValueError:
            raise Failure(f"{self.context.url} is not a Douse gateway: its answer is not JSON", Exit.FAILED) from None


@contextmanager
def connected(data: Path | None, named: str | None) -> Iterator[Client]:
    """A client of the gateway that the context names.

    Raises:
        ConfigError: there is no context, or its URL is invalid.
    """
    import httpx

    context = find_context(data, named)
    if not _TOKEN.fullmatch(context.token):
        raise Failure("the token has characters that no token has; see DOUSE_TOKEN, or the context file", Exit.USAGE)
    if not context.url.startswith(("http://", "https://")):
        raise Failure(f"{context.url!r} is not a URL: it begins with http:// or https://", Exit.USAGE)
    headers = {"Authorization": f"Bearer {context.token}"}
    try:
        verify = _authority(context.ca) if context.ca else True
        http = httpx.Client(base_url=context.url, headers=headers, timeout=TIMEOUT_S, verify=verify)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise Failure(f"{context.url!r} is not a URL", Exit.USAGE) from None
    with http:
        yield Client(http, context)


@contextmanager
def acting(data: Path | None, named: str | None) -> Iterator[Client]:
    """As ``connected``, for a command that acts: its errors name the context, too."""
    with connected(data, named) as client:
        try:
            yield client
        except Failure as failure:
            raise Failure(f"{failure}; context {client.context.label}", failure.exit_code) from None


def stamped(client: Client, row: Mapping[str, Any]) -> dict[str, Any]:
    """An answer to a command that acts, with the context that was used."""
    return {**row, "context": client.context.name, "gateway": client.context.url}


def _authority(file: str) -> "ssl.SSLContext":
    import ssl

    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise Failure(f"{file}: is not the certificate of an authority (PEM): {error}", Exit.USAGE) from None


def _url(path: tuple[str, ...]) -> str:
    return "/api/v1/" + "/".join(quote(part, safe="") for part in path)


def _failure(answer: "httpx.Response") -> Failure:
    """The gateway's own message, if it sent one."""
    try:
        message = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the answer is {answer.status_code} {answer.reason_phrase}"
    return Failure(message, _EXITS.get(answer.status_code, Exit.FAILED))
