"""Rules back to what a rule file says: the merged whole that ``douse rules print`` shows.

Called by the command line. Pure. Parsing what is written here gives the same rules again.
"""

from collections.abc import Mapping
from typing import Any

from workers.domain.rules.rules import FieldTest, Match, Operator, Rule, Rules, RuleStep


def written(rules: Rules) -> Mapping[str, Any]:
    """The content of one file that holds all of them, defaults spelled out."""
    return {"rules": [_rule(rule) for rule in rules.every]}


def _rule(rule: Rule) -> Mapping[str, Any]:
    return _without_empty(
        {
            "name": rule.name,
            "enabled": rule.enabled,
            "mode": rule.mode.value,
            "match": _match(rule.match),
            "steps": [_step(step) for step in rule.steps],
            "cooldown": rule.cooldown_s,
            "ttl": rule.ttl_s,
            "undo_after": rule.undo_after_s,
            "reason": rule.reason,
        }
    )


def _match(match: Match) -> Mapping[str, Any]:
    tags = _without_empty({"any": sorted(match.tags_any), "all": sorted(match.tags_all)})
    return _without_empty(
        {
            "rules": [glob.pattern for glob in match.rules],
            "tags": tags,
            "priority": match.priority,
            "source": sorted(match.sources),
            "fields": {test.name: _test(test) for test in match.fields},
        }
    )


def _test(test: FieldTest) -> Mapping[str, Any]:
    wanted = test.wanted[0] if test.operator is Operator.EQUALS else list(test.wanted)
    return {test.operator.value: wanted}


def _step(step: RuleStep) -> Mapping[str, Any]:
    return _without_empty({"action": step.action, "parameters": dict(step.parameters), "on": list(step.on)})


def _without_empty(content: Mapping[str, Any]) -> dict[str, Any]:
    """Without texts, lists and mappings that say nothing; numbers and truth values stay."""
    return {key: value for key, value in content.items() if value not in ("", [], {})}
