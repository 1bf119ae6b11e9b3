"""What Falco must print so that actions have a target, and what an alert, a rule file or a configuration lacks of it.

Called by ``douse doctor`` and ``douse rules``. Pure. Each kind of target lists the fields it is made of
(``detector_fields``); ``domain.falco.alert`` reads them, ``deploy/falco/append_output.yaml`` adds all of them, and a
test checks that the three agree.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from workers.domain.falco.container import NO_CONTAINER, OF_THE_HOST, WHERE_FIELDS
from workers.domain.rules.rule import Actions, Rule

HOST: Final = "hostname"
"""A key of the alert itself, not an output field."""


@dataclass(frozen=True, slots=True)
class Lack:
    """One field that is not there."""

    action: str
    field: str
    """One field, or several of which one is enough, joined by ``or``."""
    needed: bool
    """Without it the action is refused; otherwise it does less well, as ``why`` explains."""
    why: str


_PRINTED: Final = re.compile(r"%([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+(?:\[[^\]\s]*\])?)")
"""A field in a Falco output text: ``%proc.aname[2]``."""


def lacks(present: Collection[str], actions: Actions) -> tuple[Lack, ...]:
    """What an event with these fields lacks, for each action that takes a target."""
    return tuple(
        Lack(name, " or ".join(field for field in need.any_of if field != OF_THE_HOST), need.needed, need.without)
        for name, shape in sorted(actions.items())
        if not shape.undo_only
        for need in shape.target.detector_fields
        if not any(field in present for field in need.any_of)
    )


def fields_of_alert(alert: Mapping[str, Any]) -> frozenset[str]:
    """The fields a decoded alert carries with a value, ``hostname`` among them; ``OF_THE_HOST`` where it states that
    there is no container."""
    found = alert.get("output_fields")
    fields = found.items() if isinstance(found, Mapping) else ()
    known = {name for name, value in fields if isinstance(name, str) and value not in (None, "", "<NA>", NO_CONTAINER)}
    if isinstance(found, Mapping) and found.get("container.id") == NO_CONTAINER:
        known.add(OF_THE_HOST)
    if alert.get(HOST) or "evt.hostname" in known:
        known.add(HOST)
    return frozenset(known)


def fields_of_rules(documents: Iterable[Any]) -> Mapping[str, frozenset[str]]:
    """What each Falco rule prints, by rule name, out of rule files (lists) and configurations (``append_output``).

    Appended output counts for the rules it matches, in whatever order the files are given. Anything that is neither
    is skipped: Falco itself reports the faults of its files.
    """
    rules: dict[str, _FalcoRule] = {}
    appended: list[Mapping[str, Any]] = []
    for document in documents:
        if isinstance(document, list):
            for item in document:
                _collect(item, rules)
        elif isinstance(document, Mapping):
            appended += [entry for entry in _list(document.get("append_output")) if isinstance(entry, Mapping)]
    return {name: frozenset(rule.fields | _added(rule, appended)) for name, rule in rules.items() if rule.is_syscall}


def fields_appended(document: Any) -> frozenset[str]:
    """What a configuration's ``append_output`` adds to every rule on system calls."""
    entries = document.get("append_output") if isinstance(document, Mapping) else None
    every = _FalcoRule("", frozenset(), "syscall", frozenset())
    return frozenset(_added(every, [entry for entry in _list(entries) if isinstance(entry, Mapping)]))


def conditions(rule: Rule) -> tuple[str, ...]:
    """What an event must state so that each step of a rule has a target that is nowhere else: for people, one sentence
    for each action on a path or a network."""
    kinds = {
        step.action: step.target
        for step in rule.steps
        if any(need.any_of == WHERE_FIELDS for need in step.target.detector_fields)
    }
    return tuple(
        f"{action} is refused for an event that does not say which {kind.kind} it means: needed is container.full_id "
        f"or container.id, a usable id or {NO_CONTAINER!r}, and no other field that contradicts it"
        for action, kind in sorted(kinds.items())
    )


@dataclass(frozen=True, slots=True)
class _FalcoRule:
    name: str
    fields: frozenset[str]
    source: str
    tags: frozenset[str]

    @property
    def is_syscall(self) -> bool:
        return self.source == "syscall"


def _collect(item: Any, rules: dict[str, _FalcoRule]) -> None:
    if not isinstance(item, Mapping) or not isinstance(item.get("rule"), str):
        return
    name = item["rule"]
    known = rules.get(name)
    printed = _printed(item.get("output"))
    override = item.get("override")
    replaces = not isinstance(override, Mapping) or override.get("output") == "replace"
    if known is not None and not (replaces and printed):
        printed |= known.fields
    source = item.get("source", known.source if known else "syscall")
    tags = frozenset(tag for tag in _list(item.get("tags")) if isinstance(tag, str))
    rules[name] = _FalcoRule(name, printed, str(source), tags | (known.tags if known else frozenset()))


def _added(rule: _FalcoRule, entries: Sequence[Mapping[str, Any]]) -> set[str]:
    added: set[str] = set()
    for entry in entries:
        if _applies(entry.get("match"), rule):
            added |= _printed(entry.get("extra_output"))
            for extra in _list(entry.get("extra_fields")):
                added |= {extra} if isinstance(extra, str) else set(extra) if isinstance(extra, Mapping) else set()
    return added


def _applies(match: Any, rule: _FalcoRule) -> bool:
    """All conditions of an entry must hold; without any it is for every rule."""
    if not isinstance(match, Mapping):
        return True
    return (
        match.get("source") in (None, rule.source)
        and match.get("rule") in (None, rule.name)
        and rule.tags.issuperset(tag for tag in _list(match.get("tags")) if isinstance(tag, str))
    )


def _printed(output: Any) -> frozenset[str]:
    return frozenset(_PRINTED.findall(output)) if isinstance(output, str) else frozenset()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
