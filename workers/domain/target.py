"""What an action acts on: always bound to an identity, never a bare name.

Carried by requests and commands; bound on the node by the action. A new kind of target is a class here, its entry in
``Target``, and its Avro schema. Pure values.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Self, TypeAlias, get_args

from workers.domain.event import ProcessRef, RuntimeEvent
from workers.domain.event_bounds import is_container_id, is_path, is_pid, is_time_ns
from workers.domain.falco import alert as falco
from workers.domain.falco.container import CONTAINER_FIELDS, REMEDY, WHERE_FIELDS, container_of
from workers.domain.outcome import Scalar, Values
from workers.domain.target_kind import DetectorField, Fault, NameField, NameFormat, NoTarget, TargetKind

_SECOND_NS: Final = 1_000_000_000

_SHORT_ID: Final = 12
"""Hex digits of a container id that detectors send and people read."""

_NO_CONTAINER_ID: Final = "a container is named by 12 to 64 hex digits of its id, never by its name"


@dataclass(frozen=True, slots=True)
class ProcessTarget(TargetKind):
    """A process of an event's line: pid, and the proof that its holder was alive before the event.

    A pid has one holder at a time, so the present holder is the event's process if and only if it started before
    the event did. ``observed_at_ns`` is the event's time (or the review's); 0 means that a person named a bare pid,
    which the node binds at intake.
    """

    kind: ClassVar[str] = "process"
    summary: ClassVar[str] = "A process."
    name_fields: ClassVar[tuple[NameField, ...]] = (
        NameField("pid", NameFormat.PID, "Its process id on the host.", "process.id", "The process id on the host"),
        NameField(
            "start_time_ns",
            NameFormat.START_TIME,
            "When it started, nanoseconds since the epoch, as a number or as text; -1 or nothing where it is not "
            "known: the node then takes the process that has this id when it takes the command in, and says so.",
            "startTime",
            "When the process started, nanoseconds since the epoch; -1 takes whichever has the id when the node takes "
            "the command in",
            required=False,
        ),
    )
    detector_fields: ClassVar[tuple[DetectorField, ...]] = (
        DetectorField(("proc.pid",), True, "without it there is no process to act on"),
        DetectorField(
            ("proc.pid.ts",), False, "a process that started within two clock ticks of the event can't be told apart"
        ),
        DetectorField(("proc.ppid", "proc.apid[1]"), False, "parameter ancestor: 1 has no target"),
        *(
            DetectorField((f"proc.apid[{n}]",), False, f"parameter ancestor: {n} has no target")
            for n in range(2, falco.PRINTED_ANCESTORS + 1)
        ),
    )

    line: tuple[ProcessRef, ...]
    observed_at_ns: int
    boot_id: str = ""
    """The boot the pid belongs to, where the requester knows it; empty otherwise."""

    @classmethod
    def named(cls, names: Values, *, now_ns: int) -> Self:
        start = names.get("start_time_ns")
        return cls((ProcessRef(int(names["pid"]), None if start is None else int(start)),), now_ns)

    def names(self) -> Values:
        if not self.line:
            return {}
        known: dict[str, Scalar] = {"pid": self.line[0].pid}
        if self.line[0].started_at_ns is not None:
            known["start_time_ns"] = self.line[0].started_at_ns
        return known

    @classmethod
    def from_event(cls, event: RuntimeEvent, *, ancestor: int | None = None) -> Self | NoTarget:
        """With ``ancestor`` the line ends at that generation, which must be there and not be init."""
        length = len(event.process_line)
        if length <= (ancestor or 0):
            return _lacks("proc.pid" if length == 0 else "proc.ppid" if length == 1 else f"proc.apid[{length}]")
        if ancestor is None:
            return cls(event.process_line, event.occurred_at_ns)
        pid = event.process_line[ancestor].pid
        if pid <= 1:
            return NoTarget("protected_pid", f"pid {pid} is never a target")
        return cls(event.process_line[: ancestor + 1], event.occurred_at_ns)

    def fault(self) -> Fault | None:
        if not self.line:
            return Fault("", "the target names no process")
        for process in self.line:
            if not is_pid(process.pid):
                return Fault("pid", f"no kernel gives out the process id {process.pid}")
            if process.started_at_ns is not None and not is_time_ns(process.started_at_ns):
                return Fault("start_time_ns", "a start time is nanoseconds since the epoch, or -1")
        return None

    def describe(self, *, ancestor: int = 0) -> str:
        """``ancestor`` is the generation of the line that is meant."""
        if ancestor >= len(self.line):
            return "no process"
        process = self.line[ancestor]
        name = process.name or process.exe
        return f"process {process.pid}" + (f" ({name})" if name else "")

    @property
    def serial_key(self) -> str:
        return f"process:{self.line[0].pid if self.line else 0}"

    @property
    def incarnation(self) -> str:
        """The last of the line. Without a start time a pid's holder is known for the second of the event only: a longer
        memory of a bare pid would let an attacker hide behind the pid of what was killed before."""
        process = self.line[-1]
        return f"process/{process.pid}/{process.started_at_ns or f'~{self.observed_at_ns // _SECOND_NS}'}"

    @property
    def processes(self) -> tuple[ProcessRef, ...]:
        return self.line


@dataclass(frozen=True, slots=True)
class ContainerTarget(TargetKind):
    """A container, by an id that the node resolves to one run older than ``observed_at_ns``."""

    kind: ClassVar[str] = "container"
    summary: ClassVar[str] = "A container."
    name_fields: ClassVar[tuple[NameField, ...]] = (
        NameField(
            "id",
            NameFormat.CONTAINER_ID,
            "12 to 64 hex digits of its id.",
            "container.id",
            "12 to 64 hex digits of the container's id",
        ),
    )
    detector_fields: ClassVar[tuple[DetectorField, ...]] = (
        DetectorField(CONTAINER_FIELDS, True, "without it there is no container to act on"),
        DetectorField(
            ("container.full_id",), False, "a 12-digit id is refused where two containers of a node share it"
        ),
    )

    container_id: str
    observed_at_ns: int

    @classmethod
    def named(cls, names: Values, *, now_ns: int) -> Self:
        return cls(str(names["id"]).lower(), now_ns)

    def names(self) -> Values:
        return {"id": self.container_id}

    @classmethod
    def from_event(cls, event: RuntimeEvent, *, ancestor: int | None = None) -> Self | NoTarget:
        if event.container is None:
            return _lacks("container.full_id")
        found = container_of(event)
        return found if isinstance(found, NoTarget) else cls(found, event.occurred_at_ns)

    def fault(self) -> Fault | None:
        return None if is_container_id(self.container_id) else Fault("id", _NO_CONTAINER_ID)

    def describe(self, *, ancestor: int = 0) -> str:
        return f"container {self.container_id[:_SHORT_ID]}"

    @property
    def serial_key(self) -> str:
        return f"container:{self.container_id[:_SHORT_ID]}"

    @property
    def incarnation(self) -> str:
        return f"container/{self.container_id[:_SHORT_ID]}"

    @property
    def container(self) -> str:
        return self.container_id


@dataclass(frozen=True, slots=True)
class ReviewedFile:
    """The facts of a file that a person reviewed before requesting an action on it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    links: int


@dataclass(frozen=True, slots=True)
class FileTarget(TargetKind):
    """A file by absolute path, on the host or inside one container."""

    kind: ClassVar[str] = "file"
    summary: ClassVar[str] = "A file."
    name_fields: ClassVar[tuple[NameField, ...]] = (
        NameField("path", NameFormat.PATH, "Its absolute path.", "path.absolute", "The absolute path of the file"),
        NameField(
            "container_id",
            NameFormat.CONTAINER_ID,
            "The container whose path it is; empty for the host's.",
            "container.id",
            "The container whose path it is; left out for the host's",
            required=False,
        ),
    )
    detector_fields: ClassVar[tuple[DetectorField, ...]] = (
        DetectorField(falco.FILE_FIELDS, True, "without it there is no file to act on"),
        DetectorField(
            WHERE_FIELDS, True, "without it the path may be one of a container or of the host, and is neither's"
        ),
    )

    path: bytes
    observed_at_ns: int
    container_id: str = ""
    reviewed: ReviewedFile | None = None

    @classmethod
    def named(cls, names: Values, *, now_ns: int) -> Self:
        path = str(names["path"]).encode("utf-8", "surrogateescape")
        return cls(path, now_ns, str(names.get("container_id", "")).lower())

    def names(self) -> Values:
        path = self.path.decode("utf-8", "backslashreplace")
        return {"path": path, **_inside(self.container_id)}

    @classmethod
    def from_event(cls, event: RuntimeEvent, *, ancestor: int | None = None) -> Self | NoTarget:
        """The path in the event's container, or on the host where the event proves that it is the host's own."""
        if not event.file_path:
            return _lacks("fd.name")
        inside = container_of(event)
        if isinstance(inside, NoTarget):
            return inside
        return cls(event.file_path.encode("utf-8", "surrogateescape"), event.occurred_at_ns, inside)

    def fault(self) -> Fault | None:
        if not is_path(self.path.decode("utf-8", "surrogateescape")):
            return Fault("path", "a path must be absolute, whole and without NUL")
        return _container_fault(self.container_id)

    def describe(self, *, ancestor: int = 0) -> str:
        inside = f" in container {self.container_id[:_SHORT_ID]}" if self.container_id else ""
        return f"file {self.path.decode('utf-8', 'backslashreplace')}{inside}"

    @property
    def serial_key(self) -> str:
        return f"file:{self.container_id[:_SHORT_ID]}:{self.path.hex()}"

    @property
    def incarnation(self) -> str:
        return f"file/{self.container_id[:_SHORT_ID]}/{self.path.decode('utf-8', 'surrogateescape')}"

    @property
    def container(self) -> str:
        return self.container_id

    @property
    def file_path(self) -> bytes:
        return self.path


@dataclass(frozen=True, slots=True)
class NetworkTarget(TargetKind):
    """The network of this host, as it is since its last start, or of one container."""

    kind: ClassVar[str] = "network"
    summary: ClassVar[str] = "The network of the host or of a container."
    name_fields: ClassVar[tuple[NameField, ...]] = (
        NameField(
            "container_id",
            NameFormat.CONTAINER_ID,
            "The container whose network it is; empty for the host's.",
            "container.id",
            "The container whose network it is; left out for the host's",
            required=False,
        ),
    )
    detector_fields: ClassVar[tuple[DetectorField, ...]] = (
        DetectorField(WHERE_FIELDS, True, "without it there is no network to isolate"),
    )

    observed_at_ns: int
    container_id: str = ""
    """The container whose network it is; empty for the host's."""

    @classmethod
    def named(cls, names: Values, *, now_ns: int) -> Self:
        return cls(now_ns, str(names.get("container_id", "")).lower())

    def names(self) -> Values:
        return _inside(self.container_id)

    @classmethod
    def from_event(cls, event: RuntimeEvent, *, ancestor: int | None = None) -> Self | NoTarget:
        """The network of the event's container, or of the host where the event proves that it is the host's own."""
        inside = container_of(event)
        return inside if isinstance(inside, NoTarget) else cls(event.occurred_at_ns, inside)

    def fault(self) -> Fault | None:
        return _container_fault(self.container_id)

    def describe(self, *, ancestor: int = 0) -> str:
        return f"network of container {self.container_id[:_SHORT_ID]}" if self.container_id else "network of the host"

    @property
    def serial_key(self) -> str:
        return f"network:{self.container_id[:_SHORT_ID]}"

    @property
    def incarnation(self) -> str:
        return f"network/{self.container_id[:_SHORT_ID]}"

    @property
    def container(self) -> str:
        return self.container_id


Target: TypeAlias = ProcessTarget | ContainerTarget | FileTarget | NetworkTarget

KINDS: Final[tuple[type[Target], ...]] = get_args(Target)
"""Every kind of target, in the order in which interfaces list them."""


def _lacks(field: str) -> NoTarget:
    return NoTarget("lacks_field", f"event lacks {field}: {REMEDY}", field)


def _inside(container_id: str) -> dict[str, Scalar]:
    return {"container_id": container_id} if container_id else {}


def _container_fault(container_id: str) -> Fault | None:
    fits = not container_id or is_container_id(container_id)
    return None if fits else Fault("container_id", _NO_CONTAINER_ID)
