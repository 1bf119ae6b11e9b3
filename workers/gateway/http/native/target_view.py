"""What an execution acts on, as the native API shows it; and the base of all its views.

Used by every view. Pure. The docstring under a field is its description in the OpenAPI document. Times are RFC 3339
with nine digits, null if not reached. Whole numbers that a double cannot hold are sent as text.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from workers.domain.event import ProcessRef
from workers.domain.outcome import Values
from workers.domain.target import Target
from workers.gateway.http.native.times import shown

Flat = Mapping[str, str | int | bool]
"""Parameters, outputs, settings."""

_EXACT: Final = 1 << 53
"""The largest whole number up to which a double holds every other."""


class View(BaseModel):
    """A value that is sent as JSON."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class TargetProcessView(View):
    """A process as the request named it."""

    pid: int
    """The process id."""
    started_at: str | None
    """When it started, if the request or the event had it."""
    exe: str
    """Its executable, as the detector reported it."""
    name: str
    """Its name, as the detector reported it."""
    command_line: str
    """Its command line, as the detector reported it, with secrets masked."""

    @classmethod
    def line_of(cls, line: Iterable[ProcessRef]) -> "tuple[TargetProcessView, ...]":
        """A process and its ancestors."""
        return tuple(
            cls(
                pid=ref.pid,
                started_at=shown(ref.started_at_ns or 0),
                exe=ref.exe,
                name=ref.name,
                command_line=ref.command_line,
            )
            for ref in line
        )


class TargetView(View):
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

    @classmethod
    def of(cls, target: Target) -> "TargetView":
        """What is acted on."""
        return cls(
            kind=target.kind,
            description=target.describe(),
            observed_at=shown(target.observed_at_ns),
            process_line=TargetProcessView.line_of(target.processes),
            container_id=target.container,
            path=target.file_path.decode("utf-8", "backslashreplace"),
        )


def flat(values: Values) -> Flat:
    """Values as every JSON parser reads them: a whole number that a double cannot hold becomes text."""
    return {
        name: str(value) if isinstance(value, int) and not -_EXACT <= value <= _EXACT else value
        for name, value in values.items()
    }
