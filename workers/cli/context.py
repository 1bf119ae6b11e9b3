"""Which gateway the command line uses: exactly one source decides the URL, the token and the authority.

Called by every command that uses HTTP; ``contexts`` changes the file. In this order: ``--context`` or ``--data``,
``DOUSE_CONTEXT``, ``DOUSE_URL`` with ``DOUSE_TOKEN``, the current context of the contexts file, and what ``douse up``
wrote on this machine. A source that is there but incomplete is an error: a request must never reach another gateway
than the one that was meant. Reads files and the environment, nothing else.
"""

import ipaddress
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from workers.domain.errors import ConfigError
from workers.system import yaml_files

DEFAULT_DATA: Final = Path("~/.local/state/douse")

LOCAL: Final = "local"
"""The name of what ``douse up`` wrote in the default data directory."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_LARGEST: Final = 1 << 20
_FIELDS: Final = frozenset({"url", "token", "ca"})


@dataclass(frozen=True, slots=True)
class Context:
    """The address of a gateway, and the token for it."""

    url: str
    token: str = field(repr=False)
    bootstrap_servers: str = ""
    node_id: str = ""
    data: Path | None = None
    name: str = "environment"
    ca: str = ""
    """The file of the authority that the gateway's certificate is checked with; empty for the system's own."""
    decided_by: str = "DOUSE_URL and DOUSE_TOKEN"

    @property
    def label(self) -> str:
        """As answers and questions name it."""
        return f"{self.name} ({self.url})"

    @property
    def is_this_machine(self) -> bool:
        """Whether ``douse up`` on this machine wrote it. A loopback URL alone does not show it: it may be a tunnel."""
        return self.data is not None and (self.data / "lock").exists() and _is_loopback(self.url)


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the contexts file has."""

    current: str = ""
    known: Mapping[str, Context] = field(default_factory=dict)


def find_context(data: Path | None = None, name: str | None = None) -> Context:
    """The context that ``--data`` or ``--context`` names, else the one that the environment or the file decides.

    Raises:
        ConfigError: there is none, it is incomplete, or others may read its token.
    """
    if data is not None and name is not None:
        raise ConfigError("give --context or --data, not both")
    if data is not None:
        return _written_by_up(data / "context.yaml", "--data")
    if name is not None:
        return _named(name, "--context")
    url, token = os.environ.get("DOUSE_URL"), os.environ.get("DOUSE_TOKEN")
    if url is not None or token is not None:
        _refuse_half(url, token)
    if (chosen := os.environ.get("DOUSE_CONTEXT")) is not None:
        return _named(chosen, "DOUSE_CONTEXT")
    if url and token:
        return Context(checked_url(url), token)
    current = read_contexts().current
    return _named(current, str(contexts_file())) if current else _written_by_up(local_file(), "douse up")


def contexts_file() -> Path:
    """Where contexts are kept."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "douse" / "contexts.yaml"


def local_file() -> Path:
    """What ``douse up`` writes unless it is given ``--data``."""
    return (DEFAULT_DATA / "context.yaml").expanduser()


def read_contexts() -> Contexts:
    """All contexts of the file; none if there is no file.

    Raises:
        ConfigError: it is invalid, or others may read it.
    """
    path = contexts_file()
    content = _private_mapping(path)
    if content is None:
        return Contexts()
    current, entries = content.get("current", ""), content.get("contexts", {})
    if not isinstance(current, str) or not isinstance(entries, dict) or set(content) - {"current", "contexts"}:
        raise ConfigError(f"{path}: it must have `current`, a name, and `contexts`, by their names")
    return Contexts(current, {checked_name(str(name)): _entry(path, str(name), entries[name]) for name in entries})


def checked_name(name: str) -> str:
    """A name that a context may have.

    Raises:
        ConfigError: it is not one.
    """
    if _NAME.fullmatch(name) is None or name == LOCAL:
        raise ConfigError(
            f"{name!r} is not a name for a context: letters, digits, dots and dashes, and not {LOCAL!r}, "
            "which is what `douse up` wrote"
        )
    return name


def checked_url(url: str) -> str:
    """The URL of a gateway, without a slash at its end.

    Raises:
        ConfigError: it is not one.
    """
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = named and "@" not in parts.netloc and not parts.query and not parts.fragment
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise ConfigError(f"{url!r} is not a URL of a gateway, such as https://douse.example:8443")
    return url.rstrip("/")


def _refuse_half(url: str | None, token: str | None) -> None:
    given = {"DOUSE_URL": url, "DOUSE_TOKEN": token}
    absent = [name for name, value in given.items() if value is None]
    empty = [name for name, value in given.items() if value == ""]
    if absent:
        (other,) = given.keys() - absent
        raise ConfigError(f"{other} is set and {absent[0]} is not: set both, or neither, or give --context NAME")
    if empty:
        raise ConfigError(f"{empty[0]} is set and empty: set both, or unset both, or give --context NAME")


def _named(name: str, decided_by: str) -> Context:
    if "/" in name:
        return _written_by_up(Path(name), decided_by)
    if name == LOCAL:
        return _written_by_up(local_file(), decided_by)
    known = read_contexts().known
    if name not in known:
        names = ", ".join(sorted({*known, LOCAL}))
        raise ConfigError(f"there is no context {name!r} ({decided_by}); there are: {names}; see `douse context add`")
    found = known[name]
    return Context(found.url, found.token, name=name, ca=found.ca, decided_by=decided_by)


def _written_by_up(path: Path, decided_by: str) -> Context:
    path = path.expanduser()
    content = _private_mapping(path)
    if content is None:
        raise ConfigError(
            f"no gateway is configured: start one with `douse up`, set DOUSE_URL and DOUSE_TOKEN, or "
            f"`douse context add` one ({path} does not exist)"
        )
    missing = [key for key in ("url", "token") if not isinstance(content.get(key), str) or not content[key]]
    if missing:
        raise ConfigError(f"{path}: {missing[0]} is missing; run `douse up` again, which writes this file")
    return Context(
        str(content["url"]).rstrip("/"),
        str(content["token"]),
        str(content.get("bootstrap_servers", "")),
        str(content.get("node_id", "")),
        path.parent,
        LOCAL if path == local_file() else str(path),
        decided_by=decided_by,
    )


def _entry(path: Path, name: str, content: object) -> Context:
    if (
        not isinstance(content, dict)
        or set(content) - _FIELDS
        or not all(isinstance(each, str) for each in content.values())
    ):
        raise ConfigError(f"{path}: context {name!r} must have url and token, and may have ca")
    missing = [key for key in ("url", "token") if not content.get(key)]
    if missing:
        raise ConfigError(f"{path}: context {name!r} has no {missing[0]}; `douse context add --replace` it")
    return Context(checked_url(content["url"]), content["token"], name=name, ca=content.get("ca", ""))


def _private_mapping(path: Path) -> Mapping[str, Any] | None:
    """The content of a file with a token, checked and read through one descriptor; None if there is no file."""
    try:
        # A FIFO at the path must not hang the command.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"{path}: is not a regular file")
        if facts.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
            raise ConfigError(f"{path}: belongs to user {facts.st_uid}; it must be your own or root's")
        if facts.st_mode & 0o077:
            mode = stat.S_IMODE(facts.st_mode)
            raise ConfigError(
                f"{path}: has mode {mode:04o}, so others may have its token; run chmod 600 {path}, and renew the token"
            )
        content = file.read(_LARGEST)
    try:
        parsed = yaml_files.read_text(content.decode(), name=str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigError(f"{path}: the top of the file must be a mapping, not {type(parsed).__name__}")
    return parsed


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
