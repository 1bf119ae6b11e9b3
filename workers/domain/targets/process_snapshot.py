"""Everything that the kernel shows of one process at one moment, and the document made from it.

Read by ``host.processes`` for ``actions.snapshot_process``. Pure. The document is JSON, its keys in the
order of the fields below, its lists in the kernel's order: two snapshots of one state are the same bytes. Every text
goes through ``domain.targets.redaction`` here, where the document is made, whatever its source.
``docs/process-snapshot.md`` describes it; ``VERSION`` changes when a reader would have to.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from workers.domain.targets.process import ProcessFacts
from workers.domain.targets.redaction import mask

SCHEMA: Final = "douse.process-snapshot"
VERSION: Final = 1

T = TypeVar("T")

LONGEST: Final = 4096
"""Characters of one text: a path of the kernel's greatest length. A command line was cut to as much."""

_LENGTHS: Final = (1024, 256, 64, 16, 0)
"""How many items of each list are kept, tried in turn, where the whole is larger than it may be."""


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A list that may be long."""

    items: tuple[T, ...] = ()
    truncated: bool = False
    """Whether there was more than is kept."""


@dataclass(frozen=True, slots=True)
class ExecutableFile:
    """The file that /proc/<pid>/exe links to."""

    path: str
    device: int
    inode: int
    size: int
    mode: int
    user_id: int
    modified_at_ns: int
    filesystem: str
    sha256: str = ""
    """Empty where it was not read; ``unread`` has the reason."""
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of /proc/<pid>/limits."""

    name: str
    soft: str
    hard: str
    unit: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """One row of /proc/<pid>/maps."""

    start: str
    end: str
    permissions: str
    offset: str
    device: str
    inode: int
    path: str


@dataclass(frozen=True, slots=True)
class OpenFile:
    """One open file."""

    descriptor: int
    target: str
    position: int
    flags: str
    """Octal, as the kernel shows them."""


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """One of its sockets, as its network namespace shows it."""

    inode: int
    protocol: str
    state: str
    local: str
    remote: str


@dataclass(frozen=True, slots=True)
class ThreadShown:
    """One thread."""

    number: int
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class ChildShown:
    """One child."""

    pid: int
    name: str
    state: str
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the environment that it was started with."""

    name: str
    value: str | None
    """None where the value is not known to be harmless."""


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """One process, read while it was held. A part that could not be read is empty; ``missing`` has the reason."""

    process: ProcessFacts
    taken_at_ns: int
    """When it had been read, nanoseconds since the epoch."""
    ended: bool = False
    """It ended while it was read; what was read is still its own."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Part to reason."""
    executable: ExecutableFile | None = None
    working_directory: str = ""
    root_directory: str = ""
    status: Mapping[str, str] = field(default_factory=dict)
    stat: Mapping[str, int] = field(default_factory=dict)
    cgroups: Mapping[str, str] = field(default_factory=dict)
    """Controller to path; the unified hierarchy has the empty name."""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    threads: Listed[ThreadShown] = Listed()
    children: Listed[ChildShown] = Listed()
    files: Listed[OpenFile] = Listed()
    sockets: Listed[OpenSocket] = Listed()
    maps: Listed[Mapped] = Listed()
    environment: Listed[Variable] = Listed()


@dataclass(frozen=True, slots=True)
class Document:
    """A snapshot as it is kept."""

    content: bytes
    truncated: bool
    """Whether any list of it is not whole."""


def document(snapshot: ProcessSnapshot, *, limit: int) -> Document:
    """The snapshot as JSON of at most ``limit`` bytes: where it would be longer, its lists are cut and marked.

    Raises:
        ValueError: without any list it is longer still.
    """
    whole = _plain(snapshot)
    content = _encoded(whole)
    for most in _LENGTHS:
        if len(content) <= limit:
            break
        whole = _cut(whole, most)
        content = _encoded(whole)
    if len(content) > limit:
        raise ValueError(f"the snapshot has {len(content)} bytes without its lists")
    return Document(content, any(isinstance(part, dict) and part.get("truncated") is True for part in whole.values()))


def _encoded(whole: Mapping[str, Any]) -> bytes:
    headed = {"schema": SCHEMA, "version": VERSION, **whole}
    return json.dumps(headed, ensure_ascii=True, indent=1).encode() + b"\n"


def _cut(whole: Mapping[str, Any], most: int) -> dict[str, Any]:
    return {
        name: {"items": part["items"][:most], "truncated": part["truncated"] or len(part["items"]) > most}
        if isinstance(part, dict) and "items" in part
        else part
        for name, part in whole.items()
    }


def _plain(value: Any) -> Any:
    """JSON's own types, every text masked and of bounded length."""
    match value:
        case str():
            masked = mask(value)
            return masked if len(masked) <= LONGEST else masked[: LONGEST - 1] + "…"
        case Mapping():
            return {str(_plain(key)): _plain(part) for key, part in value.items()}
        case tuple():
            return [_plain(part) for part in value]
        case _ if dataclasses.is_dataclass(value):
            return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
        case _:
            return value
