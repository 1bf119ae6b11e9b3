"""A catalogue of scripted actions over a small world of targets, and the record of everything done to that world.

The actions keep the rules that real ones must keep (bind touches nothing, act on exactly the claim, probe is
truthful), so that what a test finds broken is the worker. A script makes one run of one target behave badly.
"""

# No `from __future__ import annotations`: an action's parameters are described by their real types.

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.guarantees.observation import Effect
from workers.actions.base import (
    Action,
    AnyAction,
    Done,
    Job,
    Lane,
    NoParameters,
    NotDone,
    Pending,
    Permission,
    Probe,
    parameter,
)
from workers.actions.base import Effect as Lasting
from workers.domain.errors import (
    CommandRejected,
    Indeterminate,
    LimitExceeded,
    PermanentFailure,
    TransientFailure,
)
from workers.domain.event import ProcessRef
from workers.domain.ids import ExecutionId
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.target import ProcessTarget
from workers.host.ports import Host

Script = str
"""`transient`, `transient_after`, `hang`, `hang_after`, `permanent`, `limit`, `bug`, `reject`, `slow`: the next run."""

_RAISES: Mapping[Script, Callable[[], Exception]] = {
    "transient": TransientFailure,
    "transient_after": TransientFailure,
    "hang": Indeterminate,
    "hang_after": Indeterminate,
    "permanent": lambda: PermanentFailure("no permission", code="permission"),
    "limit": lambda: LimitExceeded("too large", code="too_large"),
    "bug": lambda: ValueError("secret text"),
    "reject": lambda: CommandRejected("changed before", code="target_changed"),
}


@dataclass
class World:
    """Targets by number; each has one living incarnation, or none."""

    clock: Callable[[], int]
    alive: dict[int, int] = field(default_factory=dict)
    """Number to incarnation."""
    protected: set[int] = field(default_factory=set)
    scripts: dict[int, list[Script]] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)
    """Targets whose probe is pending."""
    admit_fails: dict[int, list[Exception]] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    touched: int = 0
    """Calls of execute, whatever they did."""
    probed: int = 0
    """Calls of probe."""
    intended: Callable[[ExecutionId], bool] = lambda _: True
    """Whether the journal holds a durable intent for an execution at this very moment."""
    during: Callable[[str], None] = lambda _: None
    """Called inside each execute: `before` and `after` its effect."""
    born: int = 0
    silent: bool = False
    """Whether an effect holds cannot be checked now."""
    meddled: str = ""
    """What was changed about everything that was stopped."""
    looked: int = 0
    """How often the effect was checked."""

    def spawn(self, number: int) -> int:
        """A new incarnation under this number."""
        self.born += 1
        self.alive[number] = self.born
        return self.born

    def end(self, number: int, job: Job[Any], lane: str) -> None:
        """The effect."""
        incarnation = self.alive.pop(number)
        execution_id = job.command.command_id
        self.effects.append(
            Effect(execution_id, f"{number}/{incarnation}", self.clock(), lane, self.intended(execution_id))
        )


@dataclass(frozen=True, slots=True)
class ScriptedParameters:
    """One of each kind."""

    level: int = parameter("A number", default=0, maximum=9)


@dataclass(frozen=True, slots=True)
class ScriptedClaim:
    """Which incarnation of which target; 0 where there is none."""

    number: int
    incarnation: int = 0


class _Scripted(Action[ScriptedParameters, ScriptedClaim]):
    permission = Permission.CONTAINMENT
    summary = "Ends a target of the scripted world"
    drawbacks = ("none",)
    target = ProcessTarget
    parameters = ScriptedParameters
    claims = (ScriptedClaim,)
    outputs = ()
    privileges = ()
    mounts = ()
    example: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, world: World) -> None:
        self.world = world

    def admit(self, job: Job[ScriptedParameters], host: Host) -> None:
        failures = self.world.admit_fails.get(_number(job))
        if failures:
            raise failures.pop(0)
        if _number(job) in self.world.protected:
            raise CommandRejected("protected here", code="protected_target")

    def bind(self, job: Job[ScriptedParameters], host: Host) -> ScriptedClaim:
        number = _number(job)
        return ScriptedClaim(number, self.world.alive.get(number, 0))

    def execute(self, job: Job[ScriptedParameters], claim: ScriptedClaim, host: Host) -> Report:
        world, number = self.world, claim.number
        world.touched += 1
        scripts = world.scripts.get(number, [])
        script = scripts.pop(0) if scripts else ""
        world.during("before")
        if script in _RAISES and not script.endswith("_after"):
            raise _RAISES[script]()
        if not self._there(claim):
            return self.report(Outcome.NO_ACTION, "target_gone", "it has ended by itself")
        world.end(number, job, str(self.lane))
        world.during("after")
        if script.endswith("_after"):
            raise _RAISES[script]()
        return self._ended()

    def probe(self, job: Job[ScriptedParameters], claim: ScriptedClaim, host: Host) -> Probe:
        self.world.probed += 1
        if claim.number in self.world.unsure:
            return Pending(self.report(Outcome.UNKNOWN, "pending", "not settled yet"))
        return NotDone() if self._there(claim) else Done(self._ended())

    def _there(self, claim: ScriptedClaim) -> bool:
        return self.world.alive.get(claim.number, 0) == claim.incarnation != 0

    def _ended(self) -> Report:
        gone = PostCondition("gone", holds=True)
        holds = self.reversible_by is not None
        return self.report(Outcome.COMPLETED, "ended", "it is gone", post_condition=gone, effect_holds=holds)


class ScriptedKill(_Scripted):
    """In the containment lane; not reversible."""

    name = "scripted_kill"
    lane = Lane.CONTAINMENT


class QuickKill(_Scripted):
    """The same, claimed at intake where the lane is idle."""

    name = "quick_kill"
    lane = Lane.CONTAINMENT
    local = True


class ScriptedStop(_Scripted):
    """In the containment lane; reversible; lost when the number is spawned again."""

    name = "scripted_stop"
    lane = Lane.CONTAINMENT
    reversible_by = "scripted_start"

    def lost(self, effect: Lasting[ScriptedClaim], host: Host) -> str:
        if self.world.silent:
            raise TransientFailure("no answer")
        self.world.looked += 1
        return "it runs again" if effect.claim.number in self.world.alive else ""

    def weakened(self, effect: Lasting[ScriptedClaim], host: Host) -> str:
        return self.world.meddled


class ScriptedStart(Action[NoParameters, ScriptedClaim]):
    """Undoes `scripted_stop` with what the node's own journal knows."""

    name = "scripted_start"
    summary = "Starts what was stopped"
    drawbacks = ("none",)
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = ProcessTarget
    parameters = NoParameters
    claims = (ScriptedClaim,)
    outputs = ()
    privileges = ()
    mounts = ()
    undo_only = True
    example: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, world: World) -> None:
        self.world = world

    def admit(self, job: Job[NoParameters], host: Host) -> None:
        pass

    def bind(self, job: Job[NoParameters], host: Host) -> ScriptedClaim:
        return job.undone_claim(ScriptedClaim, missing="nothing was stopped")

    def execute(self, job: Job[NoParameters], claim: ScriptedClaim, host: Host) -> Report:
        self.world.spawn(claim.number)
        return self.report(Outcome.COMPLETED, "started", "it runs again")

    def probe(self, job: Job[NoParameters], claim: ScriptedClaim, host: Host) -> Probe:
        if claim.number in self.world.alive:
            return Done(self.report(Outcome.COMPLETED, "started", "it runs again"))
        return NotDone()


class ScriptedCopy(_Scripted):
    """In the gathering lane."""

    name = "scripted_copy"
    lane = Lane.GATHERING


KINDS: Mapping[str, Any] = {
    kind.name: kind for kind in (ScriptedKill, QuickKill, ScriptedStop, ScriptedStart, ScriptedCopy)
}
"""The classes, by the name of the action."""


def catalogue(world: World) -> Mapping[str, AnyAction]:
    """Every scripted action by name."""
    return {name: kind(world) for name, kind in KINDS.items()}


def target(number: int) -> ProcessTarget:
    """A target of the scripted world."""
    return ProcessTarget((ProcessRef(number),), observed_at_ns=1)


def _number(job: Job[Any]) -> int:
    assert isinstance(job.target, ProcessTarget)
    return job.target.line[0].pid
