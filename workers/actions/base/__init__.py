"""How an action describes itself, and the four things it can do: admit, bind, execute, probe.

Subclassed in the files of ``workers.actions``; driven by the node worker; read by catalogue, gateway, CLI and docs.
An action knows the domain and ports only. It never touches the journal, Kafka or a clock of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

from workers.actions.base.claims import Effect, claim_of, values_of
from workers.actions.base.parameters import FieldSpec, NoParameters, parameter, parse_parameters, specs_of
from workers.domain.command import ActionCommand
from workers.domain.errors import CommandRejected
from workers.domain.outcome import NOTHING, Outcome, Report, Scalar, Values, code
from workers.domain.pace import Pace
from workers.domain.retry import LONGEST_PROBE_S
from workers.domain.target import Target
from workers.host.ports import Host
from workers.settings import ActionSettings

__all__ = [
    "Action",
    "AnyAction",
    "Begun",
    "Done",
    "Effect",
    "FieldSpec",
    "Job",
    "Lane",
    "NoParameters",
    "NotDone",
    "Pending",
    "Permission",
    "Probe",
    "parameter",
    "values_of",
]


class Lane(StrEnum):
    """Separate pools: containment never waits for gathering."""

    CONTAINMENT = "containment"
    GATHERING = "gathering"


class Permission(StrEnum):
    """The class of permission a caller needs."""

    CONTAINMENT = "containment-response-actions"
    GATHERING = "data-gathering-response-actions"


P = TypeVar("P")
C = TypeVar("C")
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Job(Generic[P]):
    """One verified command, its parameters parsed, ready to run."""

    command: ActionCommand
    parameters: P
    deadline_ns: int
    """When the run must be over: claim time + timeout, in nanoseconds since the epoch."""
    undoes: Effect[Any] | None = None
    """For an undo: the effect that it undoes, out of this node's own journal."""
    pace: Pace | None = None
    """Of an action that is ``paced``: moves its deadline with every step forward."""

    @property
    def target(self) -> Target | None:
        """What the command acts on."""
        return self.command.target

    def undone_claim(self, *shapes: type[W], missing: str) -> W:
        """The claim of the effect that this undo undoes.

        Raises:
            CommandRejected: the journal has none of these shapes (``nothing_to_revert``); ``missing`` is the message.
        """
        if self.undoes is None or not isinstance(self.undoes.claim, shapes):
            raise CommandRejected(missing, code="nothing_to_revert")
        return self.undoes.claim


@dataclass(frozen=True, slots=True)
class Done:
    """The probe found the effect in place, or a state that ends the execution."""

    report: Report


@dataclass(frozen=True, slots=True)
class NotDone:
    """The probe is sure the effect is not in place: running (again) is safe."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Not settled yet: the report is UNKNOWN and names what it waits for. Probe again later."""

    report: Report
    within_s: float = LONGEST_PROBE_S
    """Probe again after so many seconds at the latest."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The effect is half made. ``execute`` finishes it, or takes it back, from where it stands; also after the
    command's expiry, which bounds beginnings: what has begun must not be left half done."""


Probe: TypeAlias = Done | NotDone | Pending | Begun


class Action(ABC, Generic[P, C]):
    """One response action with parameters ``P`` and claim ``C``. Class attributes are its description; instances hold
    no state."""

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
    claims: ClassVar[tuple[type, ...]]
    """The shapes of its claim (``base.claims``), the one with the most required fields first."""
    outputs: ClassVar[tuple[FieldSpec, ...]]
    privileges: ClassVar[tuple[str, ...]]
    """Linux capabilities needed to act on other users' objects, without ``CAP_``."""
    mounts: ClassVar[tuple[str, ...]]
    """Host paths that a containerised worker needs for it."""
    settings: ClassVar[type[ActionSettings]] = ActionSettings
    """Its section in a node's settings, under its name."""
    failpoints: ClassVar[tuple[str, ...]] = ()
    """Every point inside ``execute`` where a fault test may end the worker."""
    reversible_by: ClassVar[str | None] = None
    undo_only: ClassVar[bool] = False
    """Runs only as another action's undo, never on its own request."""
    local: ClassVar[bool] = False
    """``admit`` and ``bind`` ask the kernel and nothing that may hang: then an idle node claims a command in the very
    commit that takes it in."""
    paced: ClassVar[bool] = False
    """Its timeout is how long a run may stand still, not how long it may last: it moves ``Job.pace``."""
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
        return specs_of(cls.parameters)

    @classmethod
    def parse(cls, values: Values) -> P:
        """Typed parameters out of wire values.

        Raises:
            CommandRejected: unknown, missing or ill-typed parameter (``invalid_parameters``).
        """
        return cast(P, parse_parameters(cls.name, cls.parameters, values))

    @classmethod
    def claim_of(cls, values: Values) -> C:
        """The typed claim that a journal entry holds.

        Raises:
            PermanentFailure: the values are not a claim of this action (``claim_unreadable``).
        """
        return cast(C, claim_of(cls.claims, values))

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
    def bind(self, job: Job[P], host: Host) -> C:
        """Identity and pre-state, read now; durable in the journal before ``execute``. Touches nothing."""

    @abstractmethod
    def execute(self, job: Job[P], claim: C, host: Host) -> Report:
        """Act on exactly what ``claim`` names, check the post-condition, and report the outcome.

        Raises:
            TransientFailure, PermanentFailure, LimitExceeded, Indeterminate: see ``domain.errors``.
        """

    @abstractmethod
    def probe(self, job: Job[P], claim: C, host: Host) -> Probe:
        """Whether the effect of ``claim`` is in place already. Touches nothing."""

    def conclude(self, job: Job[P], claim: C, host: Host) -> Report:
        """Finish or take back what the probe found ``Begun``, by the shortest way: called instead of ``execute`` after
        the worker died several times in it. Raises as ``execute``."""
        return self.execute(job, claim, host)

    def holds(self, claim: C) -> str:
        """What an effect on this claim is on, named so that two claims on it have one name: then only one execution of
        a node holds it at a time. Empty where there is nothing to hold, or where effects do not meet."""
        del claim
        return ""

    def lost(self, effect: Effect[C], host: Host) -> str:
        """Why an effect that was reported to hold is no longer in place; empty while it is. Touches nothing. Owed by
        every action that can be undone: the node calls it again and again for as long as the effect is reported to
        hold.

        Raises:
            TransientFailure: it cannot be checked now.
        """
        del effect, host
        return ""

    def weakened(self, effect: Effect[C], host: Host) -> str:
        """What was changed about an effect that is still in place, so that it may do less than was reported; empty
        while nothing was. It can be undone as before. Called after ``lost``. Touches nothing. Raises as ``lost``."""
        del effect, host
        return ""

    def dry_run_report(self, job: Job[P], claim: C, host: Host) -> Report:
        """The report of a dry run: admitted and bound, nothing done."""
        del job, host
        return self.report(
            Outcome.DRY_RUN, "dry_run", "would have acted; nothing was touched", outputs=values_of(claim)
        )

    def outputs_of(self, claim: C) -> dict[str, Scalar]:
        """The outputs that the claim already knows."""
        declared = {spec.name for spec in self.outputs}
        return {name: value for name, value in values_of(claim).items() if name in declared}

    def report(self, outcome: Outcome, reason: str, message: str, *, outputs: Values = NOTHING, **more: Any) -> Report:
        """A report with this action's stable code; ``more`` are further fields of ``Report``."""
        return Report(outcome, code(self.name, outcome, reason), message, outputs=outputs, **more)


AnyAction: TypeAlias = Action[Any, Any]
"""For those that handle all actions alike."""
