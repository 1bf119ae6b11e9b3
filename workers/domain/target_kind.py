"""What every kind of target must define: its name, how people name one, how an event names one, and its checks.

Implemented by the classes in ``domain.target``. Everything else (Avro mapping, rules, HTTP interfaces, documents) uses
these attributes and methods instead of matching on classes, so a new kind is one class there. Pure.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar, Self

from workers.domain.event import ProcessRef, RuntimeEvent
from workers.domain.outcome import Values


class NameFormat(Enum):
    """What a field of a target's name holds; each HTTP interface has one way to read and show each of them."""

    PID = auto()
    START_TIME = auto()
    """Nanoseconds since the epoch; may be unknown."""
    CONTAINER_ID = auto()
    PATH = auto()


@dataclass(frozen=True, slots=True)
class NameField:
    """One field by which a person names a target. Both HTTP interfaces derive their own field from it."""

    name: str
    """In the native API: ``target.<kind>.<name>``."""
    format: NameFormat
    description: str
    published_name: str
    """The parameter of the compatible API."""
    published_description: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class DetectorField:
    """Output fields of Falco that a target is made of; one of ``any_of`` is enough."""

    any_of: tuple[str, ...]
    needed: bool
    """Without it there is no target; otherwise the action does less well."""
    without: str
    """What is missing without it, for people."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a target cannot be one."""

    field: str
    """The ``NameField`` that is wrong; empty for the whole."""
    message: str


@dataclass(frozen=True, slots=True)
class NoTarget:
    """Why an event gives no target of a kind."""

    code: str
    """``lacks_field``, ``container_unclear``, ``protected_pid`` or ``unknown_target``."""
    message: str
    field: str = ""
    """The detector's field that is missing, where that is the reason."""


class TargetKind(ABC):
    """One kind of target. Subclasses are frozen values, bound to an identity, never to a bare name."""

    __slots__ = ()

    kind: ClassVar[str]
    """Its name in every interface; also the field of the Avro record ``Target``."""
    summary: ClassVar[str]
    """What it is, in one sentence for the API's documentation."""
    name_fields: ClassVar[tuple[NameField, ...]]
    detector_fields: ClassVar[tuple[DetectorField, ...]] = ()

    observed_at_ns: int
    """The event's time, or the request's: only what existed before is acted on."""

    @classmethod
    @abstractmethod
    def named(cls, names: Values, *, now_ns: int) -> Self:
        """The target that a person names at ``now_ns`` by these values of ``name_fields``; not yet checked."""

    @abstractmethod
    def names(self) -> Values:
        """The values of ``name_fields``, those that are known: the target without the moment it was asked for."""

    @classmethod
    def from_event(cls, event: RuntimeEvent, *, ancestor: int | None = None) -> Self | NoTarget:
        """The target of this kind that an event names, or why there is none. Never guesses.

        ``ancestor`` is how many generations above the event's process a rule's action reaches; None where that is
        chosen later.
        """
        del event, ancestor
        return NoTarget("unknown_target", f"no event names a {cls.kind}")

    @abstractmethod
    def fault(self) -> Fault | None:
        """Why this cannot be a target: a field that no kernel, runtime or filesystem could have given out."""

    @abstractmethod
    def describe(self, *, ancestor: int = 0) -> str:
        """One line for people: what would be acted on."""

    @property
    @abstractmethod
    def serial_key(self) -> str:
        """Two commands with one key run one after the other; others may run side by side."""

    @property
    @abstractmethod
    def incarnation(self) -> str:
        """What a rule's cooldown counts as the same target."""

    @property
    def processes(self) -> tuple[ProcessRef, ...]:
        """The process and its ancestors, for a kind that has them."""
        return ()

    @property
    def container(self) -> str:
        """The id of the container it is, or is in; empty for none."""
        return ""

    @property
    def file_path(self) -> bytes:
        """The path, for a kind that has one."""
        return b""
