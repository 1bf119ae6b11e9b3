"""Outcomes and stages: how an execution ended, or how far it is.

Made by actions and by the workers that end an execution; folded by ``domain.history.execution``. Pure values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

Scalar: TypeAlias = str | int | bool
Values: TypeAlias = Mapping[str, Scalar]
"""Parameters and outputs as they travel: flat, and of three types only."""

NOTHING: Values = MappingProxyType({})


class Outcome(StrEnum):
    """How an execution ended. ``UNKNOWN`` is an end only until a probe settles it."""

    COMPLETED = "COMPLETED"
    PARTIAL = "PARTIAL"
    NO_ACTION = "NO_ACTION"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    EXPIRED = "EXPIRED"
    CANCELED = "CANCELED"
    DRY_RUN = "DRY_RUN"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def _missing_(cls, value: object) -> "Outcome":
        """An outcome of a newer version reads as UNKNOWN, since this version cannot interpret it."""
        return cls.UNKNOWN

    @property
    def is_final(self) -> bool:
        """Whether nothing may follow."""
        return self is not Outcome.UNKNOWN


class Stage(StrEnum):
    """Where an execution is. ``ENDED`` carries an outcome, the others do not."""

    REQUESTED = "REQUESTED"
    HELD = "HELD"
    DISPATCHED = "DISPATCHED"
    CLAIMED = "CLAIMED"
    ENDED = "ENDED"

    @classmethod
    def _missing_(cls, value: object) -> "Stage":
        """A stage of a newer version ranks lowest, so that it never hides what this version understands."""
        return cls.REQUESTED


@dataclass(frozen=True, slots=True)
class PostCondition:
    """What was checked after acting, and whether it held."""

    name: str
    holds: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """An action's report on one run: the outcome, its stable code, and the proof."""

    outcome: Outcome
    code: str
    message: str
    post_condition: PostCondition | None = None
    outputs: Values = field(default_factory=lambda: NOTHING)
    effect_holds: bool = False
    """Whether an effect is in place that can be undone; ``contained`` lists these."""
    cause: str = "action"
    """``action``, or ``unproven`` where a probe after a crash found the effect without proof of what made it."""


NEVER_SEEN: Final = "target_never_seen"
"""The reason of the one NO_ACTION that is no success: the target may never have been there."""


def code(action: str, outcome: Outcome, reason: str) -> str:
    """The stable code ``<action>_<success|error>_<reason>``."""
    good = outcome in (Outcome.COMPLETED, Outcome.NO_ACTION, Outcome.DRY_RUN) and reason != NEVER_SEEN
    return f"{action}_{'success' if good else 'error'}_{reason}"
