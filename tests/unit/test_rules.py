"""Rules match as defined, the index hides nothing, and a plan's ids follow from its causes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.actions import FAKE_ACTIONS
from workers.domain.event import PRIORITIES, ContainerRef, ProcessRef, RuntimeEvent
from workers.domain.falco.alert import event_from
from workers.domain.ids import EventId, is_execution_id, uuid7_time_ns
from workers.domain.request import ActionRequest, ActorKind, Verb
from workers.domain.rules.plan import Plan, Refusal, plan
from workers.domain.rules.rule import Rule, Rules
from workers.domain.target import ContainerTarget, FileTarget, NetworkTarget, ProcessTarget
from workers.system.rule_files import parse_rules

NOW = 1783198004_180672852
EVENT = RuntimeEvent(
    event_id=EventId("e1"),
    detector="falco",
    source="syscall",
    rule="Terminal shell in container",
    priority="notice",
    occurred_at_ns=NOW,
    host="web-1",
    tags=("shell", "container"),
    process_line=(ProcessRef(4711, NOW - 5), ProcessRef(4700), ProcessRef(1)),
    container=ContainerRef("16514a12c7ad"),
    file_path="/etc/shadow",
    fields={"proc.name": "sh", "user.uid": 0, "fd.name": "/etc/shadow", "proc.is_exe_upper_layer": True},
)


def rules(*matches: dict[str, Any], **changes: Any) -> Rules:
    step = {"steps": [{"action": "kill_process"}]}
    return parse_rules(
        {
            "r": {
                "rules": [
                    {"name": f"r{number}", "match": match, **step, **changes} for number, match in enumerate(matches)
                ]
            }
        },
        FAKE_ACTIONS,
    )


def rule(*steps: dict[str, Any], **changes: Any) -> Rule:
    wanted = list(steps) or [{"action": "kill_process"}]
    return rules({"rules": ["*"]}, **{"steps": wanted, **changes}).every[0]


def planned(event: RuntimeEvent, of: Rule, *, now_ns: int = NOW) -> Plan:
    return plan(event, of, now_ns=now_ns, oldest_event_s=300)


def request(event: RuntimeEvent, of: Rule) -> ActionRequest:
    found = planned(event, of)
    assert isinstance(found, ActionRequest), found
    return found


def cooldown(event: RuntimeEvent, of: Rule) -> str:
    return request(event, of).cooldown_key


def refusal(event: RuntimeEvent, of: Rule, *, now_ns: int = NOW) -> Refusal:
    found = planned(event, of, now_ns=now_ns)
    assert isinstance(found, Refusal), found
    return found


def changed(**changes: Any) -> RuntimeEvent:
    return dataclasses.replace(EVENT, **changes)


@pytest.mark.parametrize(
    "match",
    [
        {"rules": ["Terminal shell in container"]},
        {"rules": ["Other", "Terminal*"]},
        {"tags": ["shell", "other"]},
        {"tags": {"all": ["shell", "container"]}},
        {"priority": "notice"},
        {"priority": "debug"},
        {"source": ["syscall", "k8s_audit"]},
        {"fields": {"proc.name": "sh"}},
        {"fields": {"proc.name": {"in": ["bash", "sh"]}}},
        {"fields": {"user.uid": "0", "fd.name": {"prefix": "/etc/"}}},
        {"fields": {"fd.name": {"glob": ["/root/*", "/etc/*"]}}},
        {"fields": {"proc.is_exe_upper_layer": True}},
    ],
)
def test_an_event_that_has_everything_matches(match: dict[str, Any]) -> None:
    assert [found.name for found in rules(match).matching(EVENT)] == ["r0"]


@pytest.mark.parametrize(
    "match",
    [
        {"rules": ["terminal shell in container"]},
        {"rules": ["Terminal shell in container"], "tags": ["other"]},
        {"tags": {"all": ["shell", "other"]}},
        {"tags": {"any": ["shell"], "all": ["other"]}},
        {"priority": "warning"},
        {"source": "k8s_audit"},
        {"fields": {"proc.name": "bash"}},
        {"fields": {"proc.pname": "sh"}},
        {"fields": {"proc.name": "sh", "user.uid": 1}},
        {"fields": {"fd.name": {"prefix": "/root"}}},
    ],
)
def test_an_event_that_lacks_one_thing_does_not_match(match: dict[str, Any]) -> None:
    assert rules(match).matching(EVENT) == ()


def test_all_matching_rules_are_found_in_their_order() -> None:
    found = rules(
        {"priority": "debug"}, {"rules": ["*"]}, {"tags": ["nope"]}, {"tags": ["shell"]}, {"rules": [EVENT.rule]}
    )
    assert [each.name for each in found.matching(EVENT)] == ["r0", "r1", "r3", "r4"]


def test_a_disabled_rule_matches_nothing() -> None:
    assert rules({"rules": ["*"]}, enabled=False).matching(EVENT) == ()


def test_a_detector_speaking_of_itself_matches_nothing() -> None:
    internal = event_from({"rule": "Falco internal: syscall event drop", "time": "2026-07-04T20:46:44Z"})
    everything = rules({"rules": ["*"]}, {"rules": [internal.rule]}, {"priority": "debug"})
    assert everything.matching(internal) == ()
    assert refusal(internal, rule(), now_ns=internal.occurred_at_ns).code == "internal_event"


MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "rules": st.lists(st.sampled_from(["A", "B", "*", "A*"]), min_size=1, max_size=2),
        "tags": st.fixed_dictionaries(
            {},
            optional={
                "any": st.lists(st.sampled_from("xyz"), min_size=1, max_size=2),
                "all": st.lists(st.sampled_from("xyz"), min_size=1, max_size=2),
            },
        ),
        "priority": st.sampled_from(PRIORITIES),
        "source": st.sampled_from(["s", "t"]),
    },
).filter(lambda match: any(match.values()))


@given(
    st.lists(MATCHES, max_size=6),
    st.sampled_from(["A", "B", "AB"]),
    st.lists(st.sampled_from("xyz"), unique=True),
    st.sampled_from([*PRIORITIES, "odd"]),
    st.sampled_from(["s", "t"]),
)
def test_the_index_finds_what_trying_every_rule_finds(
    matches: list[dict[str, Any]], name: str, tags: list[str], priority: str, source: str
) -> None:
    event = changed(rule=name, tags=tuple(tags), priority=priority, source=source)
    found = rules(*matches) if matches else Rules()
    assert found.matching(event) == tuple(each for each in found.every if each.match.holds(event))


def test_a_request_carries_everything_the_dispatcher_needs() -> None:
    found = request(
        EVENT,
        rule(
            {"action": "kill_process", "parameters": {"ancestor": 1}},
            {"action": "stop_container", "on": ["FAILED"]},
            {"action": "file_quarantine"},
            mode="observe",
            ttl=90,
            undo_after=600,
            cooldown=30,
        ),
    )
    assert (found.verb, found.actor.kind, found.actor.name) == (Verb.EXECUTE, ActorKind.RULE, "r0")
    assert (found.host, found.dry_run, found.ttl_s, found.undo_after_s, found.cooldown_s) == (
        "web-1",
        True,
        90,
        600,
        30,
    )
    assert (found.causation.event_id, found.causation.rule, found.causation.depth) == ("e1", "r0", 0)
    assert (found.requested_at_ns, found.detected_at_ns) == (NOW, NOW)
    assert found.reason == "Terminal shell in container (falco)"
    first, second, third = found.steps
    assert first.target == ProcessTarget(EVENT.process_line[:2], NOW), "no more of the line than the action reaches"
    assert dict(first.parameters) == {"ancestor": 1}
    assert (second.target, second.on) == (ContainerTarget("16514a12c7ad", NOW), ("FAILED",))
    assert third.target == FileTarget(b"/etc/shadow", NOW, "16514a12c7ad")


def test_a_rule_isolates_the_container_of_its_event_and_the_host_where_there_is_none() -> None:
    of = rule({"action": "isolate_network"})
    (step,) = request(EVENT, of).steps
    assert step.target == NetworkTarget(NOW, "16514a12c7ad")
    assert cooldown(EVENT, of).endswith("/network/16514a12c7ad")
    assert refusal(changed(container=None), of).field == "container.id", "no host is isolated for want of a field"
    assert refusal(changed(container=None, fields={"container.id": "web"}), of).code == "container_unclear"
    bare = changed(container=None, fields={"container.id": "host"})
    (step,) = request(bare, of).steps
    assert step.target == NetworkTarget(NOW)
    assert cooldown(bare, of).endswith("/network/")
    assert refusal(changed(container=None, detector="other"), of).field == "container.id", "whoever the detector is"
    (step,) = request(dataclasses.replace(bare, detector="other"), of).steps
    assert step.target == NetworkTarget(NOW)


def test_ids_follow_from_event_rule_and_step_alone() -> None:
    of = rule({"action": "kill_process"}, {"action": "kill_process"})
    one, two = (step.execution_id for step in request(EVENT, of).steps)
    assert is_execution_id(one)
    assert one != two
    assert uuid7_time_ns(one) == NOW // 1_000_000 * 1_000_000
    later = plan(EVENT, of, now_ns=NOW + 10**9, oldest_event_s=300)
    assert isinstance(later, ActionRequest)
    assert [step.execution_id for step in later.steps] == [one, two]
    assert request(changed(event_id="e2"), of).steps[0].execution_id != one
    assert request(EVENT, dataclasses.replace(of, name="other")).steps[0].execution_id != one


@pytest.mark.parametrize(
    ("event", "step", "field"),
    [
        (changed(process_line=()), {"action": "kill_process"}, "proc.pid"),
        (
            changed(process_line=EVENT.process_line[:1]),
            {"action": "kill_process", "parameters": {"ancestor": 1}},
            "proc.ppid",
        ),
        (EVENT, {"action": "kill_process", "parameters": {"ancestor": 5}}, "proc.apid[3]"),
        (changed(container=None), {"action": "stop_container"}, "container.full_id"),
        (changed(file_path=""), {"action": "file_quarantine"}, "fd.name"),
        (changed(container=None), {"action": "file_quarantine"}, "container.id"),
    ],
)
def test_a_refusal_names_the_field_that_is_lacking(event: RuntimeEvent, step: dict[str, Any], field: str) -> None:
    found = refusal(event, rule(step))
    assert (found.code, found.field) == ("lacks_field", field)
    assert f"event lacks {field}: add" in found.message
    assert "append_output" in found.message


def test_one_step_without_a_target_refuses_the_whole_request() -> None:
    found = refusal(changed(container=None), rule({"action": "kill_process"}, {"action": "stop_container"}))
    assert found.field == "container.full_id"


def test_pid_1_is_never_a_target() -> None:
    assert refusal(EVENT, rule({"action": "kill_process", "parameters": {"ancestor": 2}})).code == "protected_pid"
    assert refusal(changed(process_line=(ProcessRef(1),)), rule()).code == "protected_pid"


@pytest.mark.parametrize(
    ("event", "age_s", "code"),
    [
        (EVENT, 301, "too_old"),
        (EVENT, -62, "from_the_future"),
        (changed(host=""), 0, "no_host"),
        (changed(caused_by="01980000-0000-7000-8000-000000000000"), 0, "loop_suppressed"),
        (changed(source="douse"), 0, "loop_suppressed"),
        (changed(detector="douse"), 0, "loop_suppressed"),
    ],
)
def test_what_must_never_trigger_is_refused_with_its_reason(event: RuntimeEvent, age_s: int, code: str) -> None:
    assert refusal(event, rule(), now_ns=NOW + age_s * 10**9).code == code


@pytest.mark.parametrize("age_s", [0, 300, -60])
def test_an_event_within_the_bounds_of_time_is_acted_on(age_s: int) -> None:
    assert isinstance(planned(EVENT, rule(), now_ns=NOW + age_s * 10**9), ActionRequest)


def test_a_cooldown_is_one_for_each_rule_and_target_incarnation() -> None:
    of = rule()
    same = changed(event_id="e2", occurred_at_ns=NOW + 10**9)
    assert cooldown(same, of) == cooldown(EVENT, of)
    younger = changed(process_line=(ProcessRef(4711, NOW - 4),))
    assert cooldown(younger, of) != cooldown(EVENT, of)
    assert cooldown(EVENT, dataclasses.replace(of, name="x")) != cooldown(EVENT, of)
    assert cooldown(changed(host="web-2"), of) != cooldown(EVENT, of)


def test_without_a_start_time_a_cooldown_forgets_a_pid_after_its_second() -> None:
    of = rule()
    bare = changed(process_line=(ProcessRef(4711),))
    soon = dataclasses.replace(bare, occurred_at_ns=NOW + 10**8)
    later = dataclasses.replace(bare, occurred_at_ns=NOW + 10**9)
    assert cooldown(bare, of) == cooldown(soon, of) != cooldown(later, of)


def test_containers_and_files_cool_down_by_themselves() -> None:
    stop, quarantine = rule({"action": "stop_container"}), rule({"action": "file_quarantine"})
    full = changed(container=ContainerRef("16514a12c7ad" + "0" * 52))
    assert cooldown(full, stop) == cooldown(EVENT, stop)
    assert cooldown(changed(file_path="/etc/passwd"), quarantine) != cooldown(EVENT, quarantine)
