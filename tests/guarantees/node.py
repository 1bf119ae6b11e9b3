"""The promises a node keeps, as objects: each looks at an observation and complains where it was broken.

Used under these names by unit, property, integration and e2e tests. `check` raises AssertionError that names the
execution; `ALL` is every promise a single node can keep.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, Protocol

from tests.guarantees.observation import Observation
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import ActionResult


class Guarantee(Protocol):
    """One promise."""

    def check(self, observation: Observation) -> None:
        """Raises AssertionError when it was broken."""


@dataclass(frozen=True, slots=True)
class EveryAcceptedCommandEndsInExactlyOneOutcome:
    """Nothing is lost, nothing ends twice, nothing stays unknown."""

    def check(self, observation: Observation) -> None:
        for execution_id in observation.accepted:
            if execution_id in observation.stuck:
                continue
            ends = [r for r in observation.of(execution_id) if r.stage is Stage.ENDED]
            # the very same record may travel many times, so content is what counts
            finals = {repr(r) for r in ends if r.outcome is not None and r.outcome.is_final}
            assert finals, f"{execution_id} has no final outcome: {[(r.stage, r.outcome) for r in ends]}"
            assert len(finals) == 1, f"{execution_id} ended {len(finals)} times: {[(r.seq, r.outcome) for r in ends]}"
        for result in observation.results:
            assert result.execution_id in observation.accepted, f"{result.execution_id} was answered, never accepted"
        steps: dict[tuple[str, int, int], ActionResult] = {}
        for result in observation.results:
            first = steps.setdefault((result.execution_id, result.attempt, result.seq), result)
            assert result == first, f"{result.execution_id}: two different records for step {result.seq}"


@dataclass(frozen=True, slots=True)
class AtMostOneEffectPerTargetIncarnation:
    """A crash between the effect and its record never makes it happen twice."""

    def check(self, observation: Observation) -> None:
        twice = [target for target, count in Counter(e.target for e in observation.effects).items() if count > 1]
        assert not twice, f"done more than once to {twice}"


@dataclass(frozen=True, slots=True)
class NoEffectWithoutPriorIntent:
    """Before anything happened, journal row and audit intent were durable; and in the end everybody can read so."""

    def check(self, observation: Observation) -> None:
        intents = {record.execution_id for record in observation.audit if record.kind == "intent"}
        claims = {result.execution_id for result in observation.results if result.stage is Stage.CLAIMED}
        for effect in observation.effects:
            assert effect.intended is not False, f"{effect.execution_id} acted on {effect.target} before its intent"
            assert effect.execution_id in intents, f"{effect.execution_id} acted without an audit record of its intent"
            assert effect.execution_id in claims, f"{effect.execution_id} acted without a CLAIMED result"


@dataclass(frozen=True, slots=True)
class NodeRunsOnlyItsOwnSignedFreshCommands:
    """Whatever came over the bus, only genuine, current commands for this node did anything or got a result."""

    def check(self, observation: Observation) -> None:
        for effect in observation.effects:
            command = observation.accepted.get(effect.execution_id)
            assert command is not None, f"{effect.execution_id} acted and is no command of ours"
            # nothing starts after the expiry, and what has started has its timeout
            last_ns = command.expires_at_ns + command.timeout_s * 1_000_000_000
            assert effect.at_ns <= last_ns, f"{effect.execution_id} acted too late"
            assert not command.dry_run, f"{effect.execution_id} was a dry run and acted"
        for result in observation.results:
            assert result.execution_id not in observation.strangers, f"{result.execution_id} got a result"


@dataclass(frozen=True, slots=True)
class RejectedMeansUntouched:
    """An execution that says REJECTED, EXPIRED or DRY_RUN did nothing, ever."""

    def check(self, observation: Observation) -> None:
        acted = {effect.execution_id for effect in observation.effects}
        for result in observation.results:
            if result.outcome in (Outcome.REJECTED, Outcome.EXPIRED, Outcome.DRY_RUN):
                assert result.execution_id not in acted, f"{result.execution_id} says {result.outcome} but acted"


@dataclass(frozen=True, slots=True)
class ContainmentNeverWaitsForGathering:
    """With every gathering hand busy for ever, each containment command still ended."""

    def check(self, observation: Observation) -> None:
        assert observation.gathering_stuck, "nothing was stuck, so nothing was shown"
        contained = replace(observation, effects=[e for e in observation.effects if e.lane == "containment"])
        EveryAcceptedCommandEndsInExactlyOneOutcome().check(contained)
        assert contained.effects, "no containment command acted, so nothing was shown"


@dataclass(frozen=True, slots=True)
class TheNodeWins:
    """What the node switched off or protects was not touched, whoever signed."""

    def check(self, observation: Observation) -> None:
        for effect in observation.effects:
            command = observation.accepted.get(effect.execution_id)
            action = command.action if command is not None else ""
            assert action not in observation.switched_off, f"{action} is switched off and acted"
            untouchable = {effect.target, effect.target.partition("/")[0]} & observation.protected
            assert not untouchable, f"{effect.execution_id} touched the protected {effect.target}"


ALWAYS: Final[tuple[Guarantee, ...]] = (
    EveryAcceptedCommandEndsInExactlyOneOutcome(),
    AtMostOneEffectPerTargetIncarnation(),
    NoEffectWithoutPriorIntent(),
    NodeRunsOnlyItsOwnSignedFreshCommands(),
    RejectedMeansUntouched(),
    TheNodeWins(),
)
"""Every promise that any observation can be held against; `ContainmentNeverWaitsForGathering` needs its own setting."""


def check_all(observation: Observation) -> None:
    """All of `ALWAYS`."""
    for guarantee in ALWAYS:
        guarantee.check(observation)
