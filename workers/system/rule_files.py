"""Rule files to rules and back: every fault at once, each with its path, the reason and what to do.

Called by wiring and by ``douse rules``, with the plain data that ``yaml_files`` read. What may stand in a rule file is
in ``rule_schema``.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from workers.domain.errors import ConfigError, Problem
from workers.domain.rules.rule import Actions, FieldTest, Mode, Operator, Rule, Rules
from workers.system.rule_schema import MAPPINGS, MOST_STEPS, RuleFile, shown


def parse_rules(files: Mapping[str, Any], actions: Actions) -> Rules:
    """The rules of several files (name → content), merged in their order.

    Raises:
        ConfigError: every fault of every file.
    """
    problems: list[Problem] = []
    rules: list[Rule] = []
    first_use: dict[str, str] = {}
    for file, content in files.items():
        problems += _first_step_problems(file, content)
        try:
            parsed = RuleFile.model_validate(content, context=actions)
        except ValidationError as error:
            problems += (_problem(file, fault) for fault in error.errors(include_url=False))
            continue
        for number, entry in enumerate(parsed.rules):
            path = f"{file}: rules[{number}]"
            if entry.name in first_use:
                reason = f"{entry.name!r} is taken by {first_use[entry.name]}; a rule's name is its identity"
                problems.append(Problem(f"{path}.name", reason))
            first_use.setdefault(entry.name, path)
            rules.append(entry.rule(actions))
    if problems:
        raise ConfigError(tuple(problems))
    return Rules(tuple(rules))


def rules_document(rules: Rules) -> Mapping[str, Any]:
    """The content of one file that holds all of these rules, defaults included; parsed, it gives the same rules."""
    return {"rules": [_rule_document(rule) for rule in rules.every]}


def _problem(file: str, fault: Any) -> Problem:
    *owners, last = fault["loc"] or ("",)
    if last == "[key]":  # what is wrong is the key, not what it holds
        *owners, last = owners
        last = str(last)
    parts = (*owners, str(last) if fault["type"] == "invalid_key" else last)
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    reason = _REASONS.get(fault["type"], _message)(fault)
    return Problem(f"{file}: {path}".removesuffix(": "), reason)


def _first_step_problems(file: str, content: Any) -> Iterator[Problem]:
    """Looked for in the plain data, because a step does not know its number."""
    rules = content.get("rules") if isinstance(content, Mapping) else None
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        match rule:
            case {"steps": [{"on": on}, *_]} | {"steps": [{True: on}, *_]} if on is not None:
                path = f"{file}: rules[{number}].steps[0].on"
                yield Problem(path, "the first step has no outcome before it; remove this key")


def _message(fault: Any) -> str:
    return str(fault["msg"]).removeprefix("Value error, ")


def _unknown(fault: Any) -> str:
    *owners, _ = [part for part in ("", *fault["loc"]) if isinstance(part, str)]
    known = sorted(MAPPINGS[owners[-1]].model_fields) if owners and owners[-1] in MAPPINGS else []
    return f"unknown key; known here: {', '.join(known)}"


def _must_be(wanted: str) -> Callable[[Any], str]:
    return lambda fault: f"must be {wanted}, not {shown(fault['input'])}"


_REASONS: Final[Mapping[str, Callable[[Any], str]]] = {
    "missing": lambda _: "is missing",
    "extra_forbidden": _unknown,
    "invalid_key": lambda _: "must be text; put it in quotes",
    "string_type": lambda _: "must be text; put it in quotes",
    "model_type": _must_be("a mapping"),
    "dict_type": _must_be("a mapping"),
    "list_type": _must_be("a list"),
    "bool_type": _must_be("true or false"),
    "enum": _must_be(f"one of {', '.join(Mode)}"),
    "too_short": lambda _: "must be a list with at least one entry",
    "too_long": lambda fault: f"{fault['ctx']['actual_length']} steps; at most {MOST_STEPS}",
}


def _rule_document(rule: Rule) -> Mapping[str, Any]:
    match = rule.match
    tags = _without_empty({"any": sorted(match.tags_any), "all": sorted(match.tags_all)})
    return _without_empty(
        {
            "name": rule.name,
            "enabled": rule.enabled,
            "mode": rule.mode.value,
            "match": _without_empty(
                {
                    "rules": [glob.pattern for glob in match.rules],
                    "tags": tags,
                    "priority": match.priority,
                    "source": sorted(match.sources),
                    "fields": {test.name: _comparison_document(test) for test in match.fields},
                }
            ),
            "steps": [
                _without_empty({"action": step.action, "parameters": dict(step.parameters), "on": list(step.on)})
                for step in rule.steps
            ],
            "cooldown": rule.cooldown_s,
            "ttl": rule.ttl_s,
            "undo_after": rule.undo_after_s,
            "reason": rule.reason,
        }
    )


def _comparison_document(test: FieldTest) -> Mapping[str, Any]:
    return {test.operator.value: test.wanted[0] if test.operator is Operator.EQUALS else list(test.wanted)}


def _without_empty(content: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty texts, lists and mappings; numbers and truth values stay."""
    return {key: value for key, value in content.items() if value not in ("", [], {})}
