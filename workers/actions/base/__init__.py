"""How an action describes itself, and the four things it can do: admit, bind, execute, probe.

Subclassed once per file in ``workers.actions``; driven by the node worker; read by catalogue, gateway, CLI and docs.
An action knows core and ports only. It never touches the journal, Kafka or a clock of its own.
"""

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast, get_type_hints

from workers.domain.command import ActionCommand
from workers.domain.errors import CommandRejected
from workers.domain.outcome import NOTHING, Outcome, Report, Scalar, Values, code
from workers.domain.target import Target
from workers.host.ports import Host


class Lane(StrEnum):
    """Separate pools: containment never waits for gathering."""

    CONTAINMENT = "containment"
    GATHERING = "gathering"


class Permission(StrEnum):
    """The class of permission a caller needs."""

    CONTAINMENT = "containment-response-actions"
    GATHERING = "data-gathering-response-actions"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One parameter or output, typed and described."""

    name: str
    type: str
    """``string``, ``integer`` or ``boolean``."""
    description: str
    required: bool = False
    default: Scalar | None = None
    minimum: int | None = None
    maximum: int | None = None
    """Largest integer, or longest string in characters."""


def parameter(description: str, *, default: Any = dataclasses.MISSING, minimum: int = 0, maximum: int = 512) -> Any:
    """A field of an action's parameter dataclass, with what people and validators need to know of it."""
    return field(default=default, metadata={"description": description, "minimum": minimum, "maximum": maximum})


@dataclass(frozen=True, slots=True)
class NoParameters:
    """For actions that take none."""


P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Job(Generic[P]):
    """One verified command, its parameters parsed, ready to run."""

    command: ActionCommand
    parameters: P
    deadline_ns: int
    """When the run must be over: claim time + timeout, in nanoseconds since the epoch."""
    undoes: Values = field(default_factory=lambda: NOTHING)
    """For an undo: what this node's own journal says of the execution it undoes (its claim and its outputs)."""

    @property
    def target(self) -> Target | None:
        """What the command acts on."""
        return self.command.target


@dataclass(frozen=True, slots=True)
class Done:
    """The probe found the effect in place, or a state that ends the execution."""

    report: Report


@dataclass(frozen=True, slots=True)
class NotDone:
    """The probe is sure the effect is not in place: running (again) is safe."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Not settled yet: the report is UNKNOWN and says what is waited for. Probe again later."""

    report: Report


@dataclass(frozen=True, slots=True)
class Begun:
    """The effect is half made. ``execute`` finishes it, or takes it back, from where it stands; also after the
    command's expiry, which bounds beginnings: what has begun must not be left half done."""


Probe: TypeAlias = Done | NotDone | Pending | Begun


class Action(ABC, Generic[P]):
    """One response action. Class attributes are its description; instances hold no state."""

    name: ClassVar[str]
    summary: ClassVar[str]
    drawbacks: ClassVar[tuple[str, ...]]
    """What it costs, in plain words, shown before it is run."""
    permission: ClassVar[Permission]
    lane: ClassVar[Lane]
    target: ClassVar[type[Target]]
    """The one kind of target it takes."""
    parameters: ClassVar[type]
    """A frozen dataclass made with ``parameter()`` fields."""
    outputs: ClassVar[tuple[FieldSpec, ...]]
    privileges: ClassVar[tuple[str, ...]]
    """Linux capabilities needed to act on others' objects, without ``CAP_``."""
    mounts: ClassVar[tuple[str, ...]]
    """Host paths that a containerised worker needs for it."""
    reversible_by: ClassVar[str | None] = None
    undo_only: ClassVar[bool] = False
    """Runs only as another action's undo, never on its own request."""
    watched: ClassVar[bool] = False
    """Its effect can be lost by itself: ``lost`` is asked as long as it is said to hold."""
    local: ClassVar[bool] = False
    """``admit`` and ``bind`` ask the kernel and nothing that may hang: then an idle node claims a command in the very
    commit that takes it in."""
    ttl_s: ClassVar[int] = 300
    timeout_s: ClassVar[int] = 60
    example: ClassVar[Mapping[str, Any]]
    """``{"target": Target, "parameters": Values}``."""

    @property
    def api_type(self) -> str:
        """The name on the wire of the HTTP API."""
        return self.name.upper()

    @classmethod
    def parameter_specs(cls) -> tuple[FieldSpec, ...]:
        """The parameters, from the dataclass's own fields."""
        return _specs(cls.parameters)

    @classmethod
    def parse(cls, values: Values) -> P:
        """Typed parameters out of wire values; integers may come as text, as published clients send them.

        Raises:
            CommandRejected: unknown, missing or ill-typed parameter (``invalid_parameters``).
        """
        specs = {spec.name: spec for spec in cls.parameter_specs()}
        unknown = sorted(set(values) - set(specs))
        if unknown:
            known = ", ".join(specs) or "none"
            raise CommandRejected(
                f"{cls.name} has no parameter {unknown[0]!r}; it takes: {known}", code="invalid_parameters"
            )
        missing = [spec.name for spec in specs.values() if spec.required and spec.name not in values]
        if missing:
            raise CommandRejected(f"{cls.name} needs parameter {missing[0]!r}", code="invalid_parameters")
        typed = {name: _typed(cls.name, specs[name], value) for name, value in values.items()}
        return cast(P, cls.parameters(**typed))

    def serial_key(self, job: Job[P]) -> str:
        """Jobs with one key run one after the other."""
        return job.target.serial_key if job.target is not None else f"undo:{job.command.undo_of}"

    @abstractmethod
    def admit(self, job: Job[P], host: Host) -> None:
        """Refuse what must not be done here: protected targets, targets that cannot be bound. Touches nothing.

        Raises:
            CommandRejected: with the reason.
            TransientFailure: a runtime that must be asked does not answer.
        """

    @abstractmethod
    def bind(self, job: Job[P], host: Host) -> Values:
        """Identity and pre-state, read now; durable in the journal before ``execute``. Touches nothing."""

    @abstractmethod
    def execute(self, job: Job[P], claim: Values, host: Host) -> Report:
        """Act on exactly what ``claim`` names, check the post-condition, and say what happened.

        Raises:
            TransientFailure, PermanentFailure, LimitExceeded, Indeterminate: see ``domain.errors``.
        """

    @abstractmethod
    def probe(self, job: Job[P], claim: Values, host: Host) -> Probe:
        """Whether the effect of ``claim`` is in place already. Touches nothing."""

    def lost(self, held: Values, host: Host) -> str:
        """Why an effect that was said to hold is no longer in place; empty while it is. ``held`` is its claim and its
        outputs. Touches nothing. Raises ``TransientFailure`` when nobody can tell now."""
        del held, host
        return ""

    def weakened(self, held: Values, host: Host) -> str:
        """What somebody did to an effect that is not lost: it may do less than was said, and is to be undone as ever.
        Empty while nobody did anything. Touches nothing. Raises as ``lost``, after which it is asked."""
        del held, host
        return ""

    def dry_run_report(self, job: Job[P], claim: Values, host: Host) -> Report:
        """The report of a dry run: admitted and bound, nothing done."""
        return self.report(Outcome.DRY_RUN, "dry_run", "would have acted; nothing was touched", outputs=claim)

    def report(self, outcome: Outcome, reason: str, message: str, *, outputs: Values = NOTHING, **more: Any) -> Report:
        """A report with this action's stable code; ``more`` are further fields of ``Report``."""
        return Report(outcome, code(self.name, outcome, reason), message, outputs=outputs, **more)


_TYPES: Mapping[type, str] = {str: "string", int: "integer", bool: "boolean"}


@functools.cache
def _specs(parameters: type[Any]) -> tuple[FieldSpec, ...]:
    types = get_type_hints(parameters)  # also where annotations are text
    return tuple(_spec(declared, types[declared.name]) for declared in dataclasses.fields(parameters))


def _spec(declared: "dataclasses.Field[Any]", kind: type) -> FieldSpec:
    required = declared.default is dataclasses.MISSING
    return FieldSpec(
        name=declared.name,
        type=_TYPES[kind],
        description=declared.metadata["description"],
        required=required,
        default=None if required else cast(Scalar, declared.default),
        minimum=declared.metadata["minimum"],
        maximum=declared.metadata["maximum"],
    )


def _typed(action: str, spec: FieldSpec, value: Scalar) -> Scalar:
    refusal = CommandRejected(
        f"{action}: parameter {spec.name!r} must be {spec.type} ({_bounds(spec)}), not {value!r}",
        code="invalid_parameters",
    )
    match spec.type, value:
        case "boolean", bool():
            return value
        case "boolean", "true" | "false":
            return value == "true"
        case "string", str() if len(value) <= (spec.maximum or 0):
            return value
        case "integer", int() | str() if not isinstance(value, bool):
            try:
                number = int(value)
            except ValueError:
                raise refusal from None
            if (spec.minimum or 0) <= number <= (spec.maximum or 0):
                return number
    raise refusal


def _bounds(spec: FieldSpec) -> str:
    match spec.type:
        case "boolean":
            return "true or false"
        case "string":
            return f"at most {spec.maximum} characters"
        case _:
            return f"{spec.minimum} to {spec.maximum}"
