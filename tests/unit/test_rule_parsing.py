"""Rule files are read whole or refused whole, with every fault and its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.actions import FAKE_ACTIONS
from workers.domain.errors import ConfigError
from workers.domain.rules.rule import Mode, Operator, Rule
from workers.system.rule_files import parse_rules
from workers.system.yaml_files import read_text

FULL = """
rules:
  - name: kill-shell
    description: >
      A shell in a container
      has no business there.
    enabled: true
    mode: observe
    match:
      rules: [Terminal shell in container, "*shell*"]
      tags: {any: [shell, container], all: [mitre_execution]}
      priority: Notice
      source: syscall
      fields:
        proc.name: {in: [sh, bash]}
        user.uid: 0
        fd.name: {glob: "/etc/*"}
        proc.exepath: {prefix: /tmp/}
        proc.is_exe_upper_layer: true
    steps:
      - action: kill_process
        parameters: {ancestor: 1}
      - action: stop_container
        on: [completed, NO_ACTION]
    cooldown: 5m
    ttl: 90
    undo_after: 1h
    reason: no shells
"""
MINIMAL: dict[str, Any] = {"name": "r", "match": {"rules": ["*"]}, "steps": [{"action": "kill_process"}]}


def parsed(*rules: dict[str, Any]) -> tuple[Rule, ...]:
    return parse_rules({"r.yaml": {"rules": list(rules)}}, FAKE_ACTIONS).every


def faults(content: Any, name: str = "r.yaml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_rules({name: content}, FAKE_ACTIONS)
    return [str(problem) for problem in caught.value.problems]


def changed(**changes: Any) -> dict[str, Any]:
    return {"rules": [copy.deepcopy(MINIMAL) | changes]}


def test_a_rule_file_is_read_with_all_its_parts() -> None:
    (rule,) = parse_rules({"a.yaml": read_text(FULL, name="a.yaml")}, FAKE_ACTIONS).every
    assert rule.name == "kill-shell"
    assert rule.mode is Mode.OBSERVE
    assert [glob.pattern for glob in rule.match.rules] == ["Terminal shell in container", "*shell*"]
    assert rule.match.tags_any == {"shell", "container"}
    assert rule.match.tags_all == {"mitre_execution"}
    assert rule.match.priority == "notice"
    assert rule.match.sources == {"syscall"}
    tests = {test.name: (test.operator, test.wanted) for test in rule.match.fields}
    assert tests == {
        "proc.name": (Operator.IN, ("sh", "bash")),
        "user.uid": (Operator.EQUALS, ("0",)),
        "fd.name": (Operator.GLOB, ("/etc/*",)),
        "proc.exepath": (Operator.PREFIX, ("/tmp/",)),
        "proc.is_exe_upper_layer": (Operator.EQUALS, ("true",)),
    }
    first, second = rule.steps
    assert (first.action, first.ancestor, dict(first.parameters), first.on) == ("kill_process", 1, {"ancestor": 1}, ())
    assert (second.action, second.on) == ("stop_container", ("COMPLETED", "NO_ACTION")), "a bare `on` is a key too"
    assert (rule.cooldown_s, rule.ttl_s, rule.undo_after_s, rule.reason) == (300, 90, 3600, "no shells")


def test_a_key_that_is_left_out_has_a_default() -> None:
    (rule,) = parsed(MINIMAL)
    assert (rule.enabled, rule.mode, rule.cooldown_s, rule.ttl_s, rule.undo_after_s) == (True, Mode.ENFORCE, 60, 0, 0)


def test_several_files_are_merged_in_their_order() -> None:
    files = {"a.yaml": changed(name="a"), "b.yaml": changed(name="b")}
    assert [rule.name for rule in parse_rules(files, FAKE_ACTIONS).every] == ["a", "b"]


def test_a_name_taken_in_another_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"b\.yaml: rules\[0\]\.name: 'r' is taken by a\.yaml: rules\[0\]"):
        parse_rules({"a.yaml": changed(), "b.yaml": changed()}, FAKE_ACTIONS)


def test_all_faults_are_reported_at_once() -> None:
    content = {"rules": [{"nam": "x", "match": {"priority": "loud"}, "steps": [{"action": "explode"}]}], "more": 1}
    assert faults(content) == [
        "r.yaml: rules[0].name: is missing",
        (
            "r.yaml: rules[0].match.priority: 'loud' is none of emergency, alert, critical, error, warning, notice, "
            "informational, debug"
        ),
        (
            "r.yaml: rules[0].steps[0].action: 'explode' is no action; known: file_quarantine, isolate_network, "
            "kill_process, start_container, stop_container"
        ),
        (
            "r.yaml: rules[0].nam: unknown key; known here: condition, cooldown, description, enabled, match, mode, "
            "name, reason, steps, ttl, undo_after"
        ),
        "r.yaml: more: unknown key; known here: rules",
    ]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": ""}, "rules[0].name: must be text"),
        ({"name": "x" * 129}, "rules[0].name: must be text of 1 to 128"),
        ({"name": "a\x1b[31m"}, "rules[0].name: must be text"),
        ({"enabled": "yes"}, "rules[0].enabled: must be true or false"),
        ({"mode": "dry"}, "rules[0].mode: must be one of enforce, observe"),
        ({"mode": ["enforce"]}, "rules[0].mode: must be one of"),
        ({"match": None}, "rules[0].match: is missing"),
        ({"match": {}}, 'rules[0].match: matches nothing in particular; to match every event, write rules: ["*"]'),
        ({"match": "all"}, "rules[0].match: must be a mapping, not 'all'"),
        ({"match": {"rules": [1]}}, "rules[0].match.rules: must be text or a list of texts"),
        ({"match": {"rules": []}}, "rules[0].match.rules: must be text or a list of texts"),
        ({"match": {"tags": {"none": ["a"]}}}, "rules[0].match.tags.none: unknown key; known here: all, any"),
        ({"match": {"fields": {"a": {"like": "b"}}}}, "rules[0].match.fields.a: takes a value, or one of equals, in"),
        ({"match": {"fields": {"a": {"in": [], "glob": "b"}}}}, "rules[0].match.fields.a: takes a value, or one of"),
        ({"match": {"fields": {"a": {"in": []}}}}, "rules[0].match.fields.a: in takes text"),
        ({"match": {"fields": {"a": None}}}, "rules[0].match.fields.a: equals takes text"),
        ({"match": {"fields": {"a": [1]}}}, "rules[0].match.fields.a: equals takes text"),
        ({"match": {"fields": {"a": 1.5}}}, "rules[0].match.fields.a: equals takes text"),
        ({"match": {"fields": {1: "a"}}}, "rules[0].match.fields.1: must be text; put it in quotes"),
        ({"condition": "event.rule == 'x'"}, "rules[0].condition: CEL is not evaluated yet"),
        ({"steps": []}, "rules[0].steps: must be a list with at least one entry"),
        ({"steps": [{"action": "kill_process"}] * 9}, "rules[0].steps: 9 steps; at most 8"),
        ({"steps": [{}]}, "rules[0].steps[0].action: is missing"),
        ({"steps": [{"action": "start_container"}]}, "only undoes another action"),
        ({"steps": [{"action": "kill_process", "parameters": {"x": 1}}]}, "steps[0].parameters: kill_process takes"),
        ({"steps": [{"action": "kill_process", "parameters": {"ancestor": None}}]}, "parameters.ancestor: takes text"),
        ({"steps": [{"action": "kill_process", "on": ["FAILED"]}]}, "steps[0].on: the first step has no outcome"),
        ({"steps": [{"action": "kill_process"}, {"action": "kill_process", "on": "maybe"}]}, "'maybe' is no outcome"),
        ({"cooldown": -1}, "rules[0].cooldown: must be seconds"),
        ({"cooldown": "soon"}, "rules[0].cooldown: must be seconds"),
        ({"cooldown": True}, "rules[0].cooldown: must be seconds"),
        ({"ttl": "2d"}, "rules[0].ttl: must be seconds"),
        ({"undo_after": 60}, "rules[0].undo_after: none of the steps can be undone"),
        ({"reason": "x" * 513}, "rules[0].reason: must be text of 1 to 512"),
        ({7: "x"}, "rules[0].7: must be text; put it in quotes"),
    ],
)
def test_a_fault_is_reported_with_its_path(changes: dict[Any, Any], complaint: str) -> None:
    content = {"rules": [{**MINIMAL, **changes}]}
    assert any(complaint in fault for fault in faults(content)), faults(content)


def test_an_empty_list_of_rules_is_a_file_to_begin_with() -> None:
    assert parse_rules({"r.yaml": {"rules": []}}, FAKE_ACTIONS).every == ()


@pytest.mark.parametrize("content", [{}, {"rules": None}, {"rules": {}}, {"rules": [None]}, {"rules": [1]}])
def test_a_file_without_rules_is_refused(content: Any) -> None:
    assert faults(content)


@pytest.mark.parametrize(
    ("written", "seconds"), [(0, 0), (90, 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400)]
)
def test_times_are_seconds_or_have_a_unit(written: object, seconds: int) -> None:
    (rule,) = parsed(MINIMAL | {"cooldown": written})
    assert rule.cooldown_s == seconds


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["name", "enabled", "mode", "match", "steps", "cooldown", "ttl", "undo_after", "reason", "condition"]
)


@given(JUNK | st.fixed_dictionaries({"rules": st.lists(st.dictionaries(KEYS, JUNK), min_size=1, max_size=2)}))
def test_junk_is_refused_and_never_crashes(content: Any) -> None:
    with pytest.raises(ConfigError):
        parse_rules({"junk.yaml": content}, FAKE_ACTIONS)


@given(st.dictionaries(st.sampled_from(["rules", "tags", "priority", "source", "fields"]), JUNK))
def test_a_junk_match_is_a_match_or_a_fault(match: Any) -> None:
    try:
        parsed(MINIMAL | {"match": match})
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
    assert all(str(problem).startswith("r.yaml: rules[0].match") for problem in problems)
