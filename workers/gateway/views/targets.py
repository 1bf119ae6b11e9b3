"""What is acted on, as people see it."""

from collections.abc import Mapping
from dataclasses import dataclass

Flat = Mapping[str, str | int | bool]
"""Parameters, outputs, settings."""


@dataclass(frozen=True, slots=True)
class TargetProcessView:
    """A process as the request named it."""

    pid: int
    """The process id."""
    started_at: str | None
    """When it started, where the requester or the detector knew."""
    exe: str
    """Its executable, as the detector said."""
    name: str
    """Its name, as the detector said."""
    command_line: str
    """Its command line, as the detector said, secrets masked."""


@dataclass(frozen=True, slots=True)
class TargetView:
    """What an execution acts on."""

    kind: str
    """process, container, file or network."""
    description: str
    """One line for people."""
    observed_at: str | None
    """The event's time, or the request's: only what was there before is acted on."""
    process_line: tuple[TargetProcessView, ...] = ()
    """The process, then its parent, grandparent and so on, as far as known."""
    container_id: str = ""
    """The container, or the container that the file is in or whose network it is."""
    path: str = ""
    """The file."""
