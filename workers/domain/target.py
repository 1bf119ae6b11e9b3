"""What an action acts on: always bound to an identity, never a bare name.

Carried by requests and commands; bound on the node by the action's adapter. Pure values.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from workers.domain.event import ProcessRef

MAX_ANCESTORS: Final = 32
"""Longest process line a target may carry; Falco itself names at most 20 ancestors."""


@dataclass(frozen=True, slots=True)
class ProcessTarget:
    """A process of an event's line: pid, and the proof that its holder was alive before the event.

    A pid has one holder at a time, so the present holder is the event's process if and only if it started before
    the event did. ``observed_at_ns`` is the event's time (or the review's); 0 means that a person named a bare pid,
    which the node binds at intake.
    """

    line: tuple[ProcessRef, ...]
    observed_at_ns: int
    boot_id: str = ""
    """The boot the pid belongs to, where the requester knows it; empty otherwise."""


@dataclass(frozen=True, slots=True)
class ContainerTarget:
    """A container, by an id that the node resolves to one run older than ``observed_at_ns``."""

    container_id: str
    observed_at_ns: int


@dataclass(frozen=True, slots=True)
class ReviewedFile:
    """What a person saw of a file before asking for an action on it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    links: int


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A file by absolute path, on the host or inside one container."""

    path: bytes
    observed_at_ns: int
    container_id: str = ""
    reviewed: ReviewedFile | None = None


@dataclass(frozen=True, slots=True)
class NetworkTarget:
    """The network of this host, as it is since its last start, or of one container."""

    observed_at_ns: int
    container_id: str = ""
    """The container whose network it is; empty for the host's."""


Target: TypeAlias = ProcessTarget | ContainerTarget | FileTarget | NetworkTarget


def describe(target: Target) -> str:
    """One line for people: what would be acted on."""
    match target:
        case ProcessTarget(line=line):
            if not line:
                return "no process"
            named = line[0]
            return f"process {named.pid}" + (f" ({named.name or named.exe})" if named.name or named.exe else "")
        case ContainerTarget(container_id=container_id):
            return f"container {container_id[:12]}"
        case FileTarget(path=path, container_id=container_id):
            inside = f" in container {container_id[:12]}" if container_id else ""
            return f"file {path.decode('utf-8', 'backslashreplace')}{inside}"
        case NetworkTarget(container_id=container_id):
            return f"network of container {container_id[:12]}" if container_id else "network of the host"


def lane_key(target: Target) -> str:
    """Two commands with one key run one after the other; others may run side by side."""
    match target:
        case ProcessTarget(line=line):
            return f"process:{line[0].pid if line else 0}"
        case ContainerTarget(container_id=container_id):
            return f"container:{container_id[:12]}"
        case FileTarget(path=path, container_id=container_id):
            return f"file:{container_id[:12]}:{path.hex()}"
        case NetworkTarget(container_id=container_id):
            return f"network:{container_id[:12]}"
