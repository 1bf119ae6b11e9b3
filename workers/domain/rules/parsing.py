"""Rule files to rules: everything that is wrong with them, all at once, each with its place and what to do.

Called by wiring and by ``douse rules``, with the plain data that the YAML doorway read. Pure. An unknown key is a
fault: a misspelt narrowing that is silently ignored would act on more than was meant.
"""

from collections.abc import Mapping
from typing import Any, Final

from workers.domain.errors import CommandRejected, ConfigError, Problem
from workers.domain.event import MAX_ANCESTORS, PRIORITIES
from workers.domain.outcome import Outcome, Values
from workers.domain.rules.glob import Glob
from workers.domain.rules.part import DAY_S, Part
from workers.domain.rules.rules import Actions, FieldTest, Match, Mode, Operator, Rule, Rules, RuleStep, plain
from workers.domain.target import ProcessTarget, Target

LONGEST_NAME: Final = 128
MOST_STEPS: Final = 8
"""One rule is one containment, not a playbook."""


def parse_rules(files: Mapping[str, Mapping[str, Any]], actions: Actions) -> Rules:
    """The rules of several files (name → content), merged in their order.

    Raises:
        ConfigError: every fault of every file.
    """
    faults: list[Problem] = []
    rules: list[Rule] = []
    first_seen: dict[str, str] = {}
    for name, content in files.items():
        top = Part(f"{name}: ", content, faults)
        for part in top.parts("rules", least=0):
            rule = _rule(part, actions)
            if rule.name and rule.name in first_seen:
                part.fault("name", f"{rule.name!r} is taken by {first_seen[rule.name]}; a rule's name is its identity")
            first_seen.setdefault(rule.name, part.place)
            rules.append(rule)
        top.end()
    if faults:
        raise ConfigError(tuple(faults))
    return Rules(tuple(rules))


def _rule(part: Part, actions: Actions) -> Rule:
    name = part.text("name", longest=LONGEST_NAME, required=True)
    part.text("description", longest=4096)
    enabled = part.truth("enabled", default=True)
    mode = part.one_of("mode", tuple(Mode), default=Mode.ENFORCE)
    steps = tuple(_step(step, number, actions) for number, step in enumerate(part.parts("steps")))
    if len(steps) > MOST_STEPS:
        part.fault("steps", f"{len(steps)} steps; at most {MOST_STEPS}")
    cooldown_s = part.seconds("cooldown", default=60, most=DAY_S)
    ttl_s = part.seconds("ttl", default=0, most=DAY_S)
    undo_after_s = part.seconds("undo_after", default=0, most=30 * DAY_S)
    if undo_after_s and not any(actions[s.action].reversible for s in steps if s.action in actions):
        part.fault("undo_after", "none of the steps can be undone; remove this key")
    reason = part.text("reason", longest=512)
    if part.take("condition") is not None:
        part.fault("condition", "CEL is not evaluated yet; say it with match.rules, tags, priority, source and fields")
    match = _match(part.part("match"))
    part.end()
    return Rule(name, match, steps, mode, enabled, cooldown_s, ttl_s, undo_after_s, reason)


def _match(part: Part | None) -> Match:
    if part is None:
        return Match()
    rules = tuple(Glob(text) for text in part.texts("rules"))
    tags = part.take("tags")
    tags_any, tags_all = _tags(part, tags)
    priority = part.text("priority", longest=LONGEST_NAME).lower()
    if priority and priority not in PRIORITIES:
        part.fault("priority", f"{priority!r} is none of {', '.join(PRIORITIES)}")
        priority = ""
    sources = frozenset(part.texts("source"))
    inner = part.part("fields", required=False)
    fields = tuple(_field_test(inner, name) for name in inner.names()) if inner is not None else ()
    part.end()
    if not (rules or tags_any or tags_all or priority or sources or fields):
        part.fault("", 'matches nothing in particular; to match every event, say rules: ["*"]')
    return Match(rules, tags_any, tags_all, priority, sources, fields)


def _tags(part: Part, tags: Any) -> tuple[frozenset[str], frozenset[str]]:
    """``tags: [a, b]`` means any of them; ``tags: {any: […], all: […]}`` says it."""
    if tags is None:
        return frozenset(), frozenset()
    given = Part(f"{part.place}.tags", tags if isinstance(tags, Mapping) else {"any": tags}, part.faults)
    found = frozenset(given.texts("any")), frozenset(given.texts("all"))
    given.end()
    return found


def _field_test(part: Part, name: str) -> FieldTest:
    """``field: value`` is equality; ``field: {in|glob|prefix|equals: value or list}`` says how to compare."""
    value = part.take(name)
    if not isinstance(value, Mapping):
        value = {Operator.EQUALS.value: value}
    operators = [operator for operator in Operator if operator.value in value]
    if len(operators) != 1 or len(value) != 1:
        part.fault(name, f"takes a value, or one of {', '.join(Operator)} with a value or a list")
        return FieldTest(name, Operator.EQUALS, ())
    operator = operators[0]
    wanted = value[operator.value]
    items = wanted if isinstance(wanted, list) and operator is not Operator.EQUALS else [wanted]
    if not items or not all(isinstance(item, str | int | bool) for item in items):
        part.fault(name, f"{operator} takes text, a whole number or a truth value, not {wanted!r}")
        return FieldTest(name, operator, ())
    return FieldTest(name, operator, tuple(plain(item) for item in items))


def _step(part: Part, number: int, actions: Actions) -> RuleStep:
    action = part.text("action", longest=LONGEST_NAME, required=True)
    parameters = _parameters(part)
    outcomes = part.texts("on")
    if outcomes and number == 0:
        part.fault("on", "the first step has no outcome before it; remove this key")
    ends = tuple(outcome.value for outcome in Outcome)
    for outcome in outcomes:
        if outcome.upper() not in ends:
            part.fault("on", f"{outcome!r} is no outcome; known: {', '.join(ends)}")
    part.end()
    target, ancestor = _checked(part, action, parameters, actions)
    return RuleStep(action, target, parameters, ancestor, tuple(outcome.upper() for outcome in outcomes))


def _checked(part: Part, action: str, parameters: Values, actions: Actions) -> tuple[type[Target], int]:
    """The action's kind of target and the generation it reaches, by the action's own validator."""
    shape = actions.get(action)
    if shape is None:
        if action:
            part.fault("action", f"{action!r} is no action; known: {', '.join(sorted(actions)) or 'none'}")
        return ProcessTarget, 0  # of a rule that is refused
    if shape.undo_only:
        part.fault("action", f"{action} only undoes another action; say undo_after on the rule instead")
    try:
        typed = shape.parse(parameters)
    except CommandRejected as error:
        part.fault("parameters", error.message)
        return shape.target, 0
    ancestor = getattr(typed, "ancestor", 0)
    return shape.target, ancestor if isinstance(ancestor, int) and 0 <= ancestor <= MAX_ANCESTORS else 0


def _parameters(part: Part) -> Values:
    inner = part.part("parameters", required=False)
    if inner is None:
        return {}
    given = {name: inner.take(name) for name in inner.names()}
    for name, value in given.items():
        if not isinstance(value, str | int | bool):
            inner.fault(name, f"takes text, a whole number or a truth value, not {value!r}")
    return {name: value for name, value in given.items() if isinstance(value, str | int | bool)}
