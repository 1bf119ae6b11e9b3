"""Every decision before anything is touched, as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workers.domain.admission import (
    MEMORY_NS,
    UNKNOWN_HERE,
    Addressee,
    Local,
    Refused,
    judge,
    misaddressed,
)
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.ids import ExecutionId, Incarnation, KeyId, NodeId, uuid7
from workers.domain.outcome import Outcome
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.retry import backoff_s, probe_delay_s, settle_by_ns
from workers.domain.target import ContainerTarget, ProcessTarget
from workers.domain.trust.keyset import KeyRole, Signatory

NOW = 1_900_000_000_000_000_000
ME = Addressee(NodeId("a" * 32), KeyId("k" * 32), Incarnation("born"))
DISPATCHER = Signatory(KeyId("d" * 32), KeyRole.DISPATCHER, "dispatcher")
HERE = Local(known=True, takes=ProcessTarget)

COMMAND = ActionCommand(
    command_id=ExecutionId(uuid7(NOW, bytes(10))),
    node_id=ME.node_id,
    node_key=ME.key_id,
    incarnation=ME.incarnation,
    action="kill_process",
    target=ProcessTarget((), 1),
    parameters={"ancestor": 1},
    parameters_sha256=parameters_digest({"ancestor": 1}),
    issued_at_ns=NOW,
    not_before_ns=NOW,
    expires_at_ns=NOW + 300,
    timeout_s=60,
    actor=Actor(ActorKind.RULE, "miner"),
)


def test_a_genuine_command_for_this_node_is_accepted() -> None:
    assert misaddressed(COMMAND, DISPATCHER, ME, now_ns=NOW) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"node_id": "b" * 32}, "wrong_node"),
        ({"node_key": "other"}, "wrong_key"),
        ({"incarnation": "earlier life"}, "wrong_incarnation"),
        ({"command_id": "not-a-uuid"}, "bad_command_id"),
        ({"command_id": "9b2c1a52-3b0e-4a51-b1a9-2f34be1c4c10"}, "bad_command_id"),
        ({"parameters": {"ancestor": "1"}}, "wrong_parameters"),
        ({"parameters": {}}, "wrong_parameters"),
        ({"expires_at_ns": NOW - MEMORY_NS - 1}, "too_old"),
    ],
)
def test_a_command_for_another_node_is_a_dead_letter(change: dict[str, Any], reason: str) -> None:
    stray = misaddressed(replace(COMMAND, **change), DISPATCHER, ME, now_ns=NOW)
    assert stray is not None
    assert stray.reason == reason


@pytest.mark.parametrize("role", [role for role in KeyRole if role is not KeyRole.DISPATCHER])
def test_only_a_dispatcher_may_command(role: KeyRole) -> None:
    stray = misaddressed(COMMAND, replace(DISPATCHER, role=role), ME, now_ns=NOW)
    assert stray is not None
    assert stray.reason == "wrong_role"


def test_a_command_that_may_start_is_clear_until_the_last_nanosecond() -> None:
    assert judge(COMMAND, HERE, now_ns=NOW) is None
    assert judge(COMMAND, HERE, now_ns=COMMAND.expires_at_ns) is None


@pytest.mark.parametrize(
    ("change", "local", "now_ns", "outcome", "reason"),
    [
        ({}, HERE, NOW + 301, Outcome.EXPIRED, "expired"),
        ({}, UNKNOWN_HERE, NOW, Outcome.REJECTED, "unsupported"),
        ({}, replace(HERE, switched_off_by="kill_process.trigger: NONE"), NOW, Outcome.REJECTED, "disabled"),
        ({"approval_class": "two"}, HERE, NOW, Outcome.REJECTED, "approval_missing"),
        ({"approval_class": "two", "approvals": (b"x", b"y")}, HERE, NOW, Outcome.REJECTED, "approval_missing"),
        ({"approval_class": "three"}, HERE, NOW, Outcome.REJECTED, "approval_missing"),
        ({"causation": Causation(depth=1)}, HERE, NOW, Outcome.REJECTED, "loop"),
        ({"target": ContainerTarget("ab" * 32, 1)}, HERE, NOW, Outcome.REJECTED, "wrong_target"),
        ({"target": None}, HERE, NOW, Outcome.REJECTED, "wrong_target"),
        ({}, replace(HERE, undo_only=True), NOW, Outcome.REJECTED, "undo_only"),
        ({"not_before_ns": NOW + 10}, HERE, NOW + 20, Outcome.REJECTED, "unsupported"),
    ],
)
def test_what_may_not_start_is_refused_for_one_stated_reason(
    change: dict[str, Any], local: Local, now_ns: int, outcome: Outcome, reason: str
) -> None:
    verdict = judge(replace(COMMAND, **change), local, now_ns=now_ns)
    assert isinstance(verdict, Refused)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.message


def test_a_person_may_act_on_what_automation_caused() -> None:
    command = replace(COMMAND, actor=Actor(ActorKind.PERSON, "ada"), causation=Causation(depth=2))
    assert judge(command, HERE, now_ns=NOW) is None


def test_an_undo_brings_no_target_of_its_own() -> None:
    undo = replace(COMMAND, target=None, undo_of=ExecutionId("x"))
    assert judge(undo, replace(HERE, undo_only=True), now_ns=NOW) is None


def test_unknown_outcomes_are_looked_into_ever_more_rarely_but_for_ever() -> None:
    assert [probe_delay_s(n) for n in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert probe_delay_s(10**6) == 60


def test_an_unreachable_broker_is_tried_again_within_five_seconds() -> None:
    assert backoff_s(1) == pytest.approx(0.1)
    assert max(backoff_s(n) for n in (1, 5, 50, 10**6)) == 5


def test_an_outcome_is_overdue_when_the_latest_run_must_have_ended() -> None:
    assert settle_by_ns(COMMAND, 60) == COMMAND.expires_at_ns + 60_000_000_000
