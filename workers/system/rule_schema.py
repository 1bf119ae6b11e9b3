"""What a rule file may hold: the type of every value and of every mapping in it, and the rule that it makes.

Used by ``rule_files`` alone, which reports what does not fit. An unknown key is a fault: a misspelt condition that is
silently ignored would act on more than was meant.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from workers.domain.errors import CommandRejected
from workers.domain.event import MAX_ANCESTORS, PRIORITIES
from workers.domain.outcome import Outcome, Scalar, Values
from workers.domain.rules.glob import Glob
from workers.domain.rules.rule import Actions, FieldTest, Match, Mode, Operator, Rule, RuleStep, plain

MOST_STEPS: Final = 8
"""One rule is one containment, not a playbook."""

_LONGEST_NAME: Final = 128
_DAY_S: Final = 86_400
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": _DAY_S}
_DURATION: Final = re.compile(r"(\d{1,9})\s*([smhd])")
_LONGEST_SHOWN: Final = 80
"""Characters of a faulty value in a message."""

_SCALAR: Final = "text, a whole number or a truth value"


def shown(value: object) -> str:
    """A faulty value in a message."""
    return repr(value)[:_LONGEST_SHOWN]


def _line(longest: int) -> BeforeValidator:
    """Text on one line, its white space folded."""

    def check(value: Any) -> str:
        line = " ".join(value.split()) if isinstance(value, str) else ""
        if not line or len(line) > longest or not line.isprintable():
            raise ValueError(f"must be text of 1 to {longest} printable characters, not {shown(value)}")
        return line

    return BeforeValidator(check)


def _seconds(most: int) -> BeforeValidator:
    """Seconds, as a number or like ``90s``, ``5m``, ``2h``, ``1d``."""

    def check(value: Any) -> int:
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        number = int(found[1]) * _UNITS_S[found[2]] if found else value
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
            raise ValueError(f"must be seconds or like 90s, 5m, 2h, 1d, at most {most} s, not {shown(value)}")
        return number

    return BeforeValidator(check)


def _texts(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ValueError(f"must be text or a list of texts, not {shown(value)}")
    return tuple(items)


def _scalar(value: Any) -> Scalar:
    if not isinstance(value, str | int | bool):
        raise ValueError(f"takes {_SCALAR}, not {shown(value)}")  # noqa: TRY004 - pydantic reports ValueError
    return value


def _priority(value: Any) -> str:
    priority = value.lower() if isinstance(value, str) else ""
    if priority not in PRIORITIES:
        raise ValueError(f"{shown(value)} is none of {', '.join(PRIORITIES)}")
    return priority


def _outcomes(value: Any) -> tuple[str, ...]:
    known = tuple(outcome.value for outcome in Outcome)
    texts = _texts(value)
    for text in texts:
        if text.upper() not in known:
            raise ValueError(f"{text!r} is no outcome; known: {', '.join(known)}")
    return tuple(text.upper() for text in texts)


def _comparison(value: Any) -> tuple[Operator, tuple[str, ...]]:
    """``field: value`` is equality; ``field: {in|glob|prefix|equals: value or list}`` names how to compare."""
    compared = value if isinstance(value, Mapping) else {Operator.EQUALS.value: value}
    operators = [operator for operator in Operator if operator.value in compared]
    if len(operators) != 1 or len(compared) != 1:
        raise ValueError(f"takes a value, or one of {', '.join(Operator)} with a value or a list")
    operator = operators[0]
    wanted = compared[operator.value]
    items = wanted if isinstance(wanted, list) and operator is not Operator.EQUALS else [wanted]
    if not items or not all(isinstance(item, str | int | bool) for item in items):
        raise ValueError(f"{operator} takes {_SCALAR}, not {shown(wanted)}")
    return operator, tuple(plain(item) for item in items)


def _no_condition(value: Any) -> None:
    raise ValueError("CEL is not evaluated yet; use match.rules, tags, priority, source and fields")


_Name = Annotated[str, _line(_LONGEST_NAME)]
_Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
_Comparison = Annotated[tuple[Operator, tuple[str, ...]], BeforeValidator(_comparison)]


class _Mapping(BaseModel):
    """A key with nothing behind it counts as absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _present(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        named = {("on" if key is True else key): value for key, value in content.items()}  # YAML 1.1 reads a bare `on`
        return {key: value for key, value in named.items() if value is not None or key not in cls.model_fields}


class _Tags(_Mapping):
    any: _Texts = ()
    all: _Texts = ()

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, content: Any) -> Any:
        """``tags: [a, b]`` means any of them."""
        return content if isinstance(content, Mapping) else {"any": content}


class _Match(_Mapping):
    rules: _Texts = ()
    tags: _Tags = _Tags()
    priority: Annotated[str, BeforeValidator(_priority)] = ""
    source: _Texts = ()
    fields: dict[str, _Comparison] = {}

    @model_validator(mode="after")
    def _narrows(self) -> "_Match":
        if self == _Match.model_construct():
            raise ValueError('matches nothing in particular; to match every event, write rules: ["*"]')
        return self

    def match(self) -> Match:
        return Match(
            tuple(Glob(pattern) for pattern in self.rules),
            frozenset(self.tags.any),
            frozenset(self.tags.all),
            self.priority,
            frozenset(self.source),
            tuple(FieldTest(name, operator, wanted) for name, (operator, wanted) in self.fields.items()),
        )


class _Step(_Mapping):
    action: _Name
    parameters: dict[str, Annotated[Any, BeforeValidator(_scalar)]] = {}
    on: Annotated[tuple[str, ...], BeforeValidator(_outcomes)] = ()

    @field_validator("action")
    @classmethod
    def _known(cls, action: str, info: ValidationInfo) -> str:
        actions: Actions = info.context or {}
        if action not in actions:
            raise ValueError(f"{action!r} is no action; known: {', '.join(sorted(actions)) or 'none'}")
        if actions[action].undo_only:
            raise ValueError(f"{action} only undoes another action; give the rule undo_after instead")
        return action

    @field_validator("parameters")
    @classmethod
    def _fit(cls, parameters: Values, info: ValidationInfo) -> Values:
        """By the action's own validator."""
        actions: Actions = info.context or {}
        if (action := info.data.get("action")) is not None:
            try:
                actions[action].parse(parameters)
            except CommandRejected as error:
                raise ValueError(error.message) from None
        return parameters

    def step(self, actions: Actions) -> RuleStep:
        shape = actions[self.action]
        ancestor = getattr(shape.parse(self.parameters), "ancestor", 0)
        reaches = ancestor if isinstance(ancestor, int) and 0 <= ancestor <= MAX_ANCESTORS else 0
        return RuleStep(self.action, shape.target, self.parameters, reaches, self.on)


class _Rule(_Mapping):
    name: _Name
    description: Annotated[str, _line(4096)] = ""
    enabled: StrictBool = True
    mode: Mode = Mode.ENFORCE
    match: _Match
    steps: Annotated[list[_Step], Field(min_length=1, max_length=MOST_STEPS)]
    cooldown: Annotated[int, _seconds(_DAY_S)] = 60
    ttl: Annotated[int, _seconds(_DAY_S)] = 0
    undo_after: Annotated[int, _seconds(30 * _DAY_S)] = 0
    reason: Annotated[str, _line(512)] = ""
    condition: Annotated[None, BeforeValidator(_no_condition)] = None

    @field_validator("undo_after")
    @classmethod
    def _undoable(cls, undo_after: int, info: ValidationInfo) -> int:
        actions, steps = info.context or {}, info.data.get("steps")
        if undo_after and steps is not None and not any(actions[step.action].reversible for step in steps):
            raise ValueError("none of the steps can be undone; remove this key")
        return undo_after

    def rule(self, actions: Actions) -> Rule:
        return Rule(
            self.name,
            self.match.match(),
            tuple(step.step(actions) for step in self.steps),
            self.mode,
            self.enabled,
            self.cooldown,
            self.ttl,
            self.undo_after,
            self.reason,
        )


class RuleFile(_Mapping):
    rules: list[_Rule]


MAPPINGS: Final[Mapping[str, type[BaseModel]]] = {
    "": RuleFile,
    "rules": _Rule,
    "match": _Match,
    "tags": _Tags,
    "steps": _Step,
}
"""What each key holds: a mapping, or a list of them."""
