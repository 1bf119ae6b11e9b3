"""Response rules: which events they match, and which actions they request.

Made by ``system.rule_files``; matched and planned (``domain.rules.plan``) by the responder and ``douse rules
test``. Pure and frozen. A rule never decides whether something may be done: that is the dispatcher's and the node's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from workers.domain.event import PRIORITIES, RuntimeEvent
from workers.domain.outcome import NOTHING, Scalar, Values
from workers.domain.rules.glob import Glob
from workers.domain.target import Target

INTERNAL: Final = "internal"
"""Source of a detector's events about itself (drops, metrics); such events never trigger anything."""


class Mode(StrEnum):
    """``observe`` requests a dry run: everything is checked and recorded, nothing touched."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Operator(StrEnum):
    """How a field is compared."""

    EQUALS = "equals"
    IN = "in"
    GLOB = "glob"
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One output field against the values that satisfy it, as text: ``0`` and ``"0"`` are the same to a detector."""

    name: str
    operator: Operator
    wanted: tuple[str, ...]
    _globs: tuple[Glob, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare the patterns once."""
        globs = tuple(Glob(text) for text in self.wanted) if self.operator is Operator.GLOB else ()
        object.__setattr__(self, "_globs", globs)

    def holds(self, fields: Values) -> bool:
        """Whether the event has the field, with such a value."""
        found = fields.get(self.name)
        if found is None:
            return False
        text = plain(found)
        match self.operator:
            case Operator.GLOB:
                return any(glob.matches(text) for glob in self._globs)
            case Operator.PREFIX:
                return text.startswith(self.wanted)
            case Operator.EQUALS | Operator.IN:
                return text in self.wanted


@dataclass(frozen=True, slots=True)
class Match:
    """What an event must be like: every part that is given must hold."""

    rules: tuple[Glob, ...] = ()
    """The detector's rule names; any of them."""
    tags_any: frozenset[str] = frozenset()
    tags_all: frozenset[str] = frozenset()
    priority: str = ""
    """The least severe priority that still counts; empty for any."""
    sources: frozenset[str] = frozenset()
    fields: tuple[FieldTest, ...] = ()

    def holds(self, event: RuntimeEvent) -> bool:
        """Whether the event matches."""
        return (
            (not self.rules or any(glob.matches(event.rule) for glob in self.rules))
            and (not self.tags_any or not self.tags_any.isdisjoint(event.tags))
            and self.tags_all.issubset(event.tags)
            and (not self.priority or event.priority in at_least(self.priority))
            and (not self.sources or event.source in self.sources)
            and all(test.holds(event.fields) for test in self.fields)
        )


@dataclass(frozen=True, slots=True)
class RuleStep:
    """One action of a rule."""

    action: str
    target: type[Target]
    """The kind of target the action takes, from the catalogue."""
    parameters: Values = field(default_factory=lambda: NOTHING)
    ancestor: int = 0
    """How many generations above the event's process the action reaches."""
    on: tuple[str, ...] = ()
    """Outcomes of the step before on which this one is released; empty for any success."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One response rule. Times are seconds."""

    name: str
    match: Match
    steps: tuple[RuleStep, ...]
    mode: Mode = Mode.ENFORCE
    enabled: bool = True
    cooldown_s: int = 60
    ttl_s: int = 0
    """0 takes the action's own."""
    undo_after_s: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ActionShape:
    """What a rule must know of an action; made from the catalogue by wiring, so that the domain imports no action."""

    target: type[Target]
    parse: Callable[[Values], object]
    """Typed parameters; raises ``CommandRejected`` with the reason."""
    reversible: bool = False
    undo_only: bool = False


Actions: TypeAlias = Mapping[str, ActionShape]
"""Every action by its name."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules in the order of their files, indexed so that an event is compared only with those that may match it."""

    every: tuple[Rule, ...] = ()
    _by_rule: Mapping[str, Sequence[int]] = field(init=False, repr=False, compare=False)
    _by_tag: Mapping[str, Sequence[int]] = field(init=False, repr=False, compare=False)
    _by_priority: Mapping[str, Sequence[int]] = field(init=False, repr=False, compare=False)
    _always: Sequence[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """File each enabled rule under its narrowest key: rule names, else tags, else priority."""
        by_rule, by_tag, by_priority = (defaultdict[str, list[int]](list) for _ in range(3))
        always: list[int] = []
        for number, rule in enumerate(self.every):
            match = rule.match
            if not rule.enabled:
                continue
            if match.rules and all(glob.is_literal for glob in match.rules):
                _file(by_rule, {glob.pattern for glob in match.rules}, number)
            elif match.tags_any or match.tags_all:
                _file(by_tag, match.tags_any or {min(match.tags_all)}, number)
            elif match.priority:
                _file(by_priority, at_least(match.priority), number)
            else:
                always.append(number)
        for name, index in (("rule", by_rule), ("tag", by_tag), ("priority", by_priority)):
            object.__setattr__(self, f"_by_{name}", dict(index))
        object.__setattr__(self, "_always", always)

    def matching(self, event: RuntimeEvent) -> tuple[Rule, ...]:
        """The rules that the event matches, in their order; none for a detector's event about itself."""
        if event.source == INTERNAL:
            return ()
        numbers = {*self._always, *self._by_rule.get(event.rule, ()), *self._by_priority.get(event.priority, ())}
        for tag in event.tags:
            numbers.update(self._by_tag.get(tag, ()))
        candidates = (self.every[number] for number in sorted(numbers))
        return tuple(rule for rule in candidates if rule.match.holds(event))


def at_least(priority: str) -> tuple[str, ...]:
    """The priorities that are as severe or more."""
    return PRIORITIES[: PRIORITIES.index(priority) + 1]


def plain(value: Scalar) -> str:
    """A value as a rule file would spell it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _file(index: defaultdict[str, list[int]], keys: Iterable[str], number: int) -> None:
    for key in keys:
        index[key].append(number)
