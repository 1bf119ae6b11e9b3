"""Which signatory may sign what, once the signature itself is genuine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stories import BORN, NODE, OTHER_NODE, Story, heartbeat
from workers.domain.ids import ChainId, ExecutionId, KeyId
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import NODE_ALARMS, ActionResult
from workers.domain.trust.audit import GENESIS, AuditRecord
from workers.domain.trust.authority import audit_objection, heartbeat_objection, result_objection
from workers.domain.trust.keyset import KeyRole, Signatory

STORY = Story(1)
KEY = KeyId("k" * 32)
NODE_KEY = Signatory(KEY, KeyRole.NODE, NODE)
OTHER_KEY = Signatory(KEY, KeyRole.NODE, OTHER_NODE)
DISPATCHER = Signatory(KEY, KeyRole.DISPATCHER, "dispatcher")
GATEWAY = Signatory(KEY, KeyRole.WORKER, "gateway")
OPERATOR = Signatory(KEY, KeyRole.OPERATOR, "alice")


@pytest.mark.parametrize("outcome", Outcome)
def test_a_node_may_end_its_own_executions_in_any_way(outcome: Outcome) -> None:
    assert result_objection(STORY.ended(outcome), NODE_KEY) == ""
    assert result_objection(STORY.claimed(), NODE_KEY) == ""


@pytest.mark.parametrize("alarm", sorted(NODE_ALARMS))
def test_a_node_may_raise_its_own_alarms(alarm: str) -> None:
    assert result_objection(replace(STORY.claimed(), alarm=alarm), NODE_KEY) == ""
    assert result_objection(replace(STORY.ended(), alarm=alarm), NODE_KEY) == "not_a_nodes_word"


@pytest.mark.parametrize(
    "signatory", [OTHER_KEY, DISPATCHER, GATEWAY, OPERATOR, replace(NODE_KEY, role=KeyRole.WORKER)]
)
def test_no_other_signatory_may_report_for_a_node(signatory: Signatory) -> None:
    assert result_objection(STORY.ended(), signatory) == "not_its_node"


@pytest.mark.parametrize(
    "result",
    [
        replace(STORY.claimed(), stage=Stage.DISPATCHED),
        replace(STORY.claimed(), stage=Stage.HELD),
        replace(STORY.claimed(), stage=Stage.REQUESTED, request=STORY.request()),
        replace(STORY.claimed(), alarm="node_silent"),
    ],
)
def test_a_node_may_not_report_what_only_the_dispatcher_may(result: ActionResult) -> None:
    assert result_objection(result, NODE_KEY) == "not_a_nodes_word"


@pytest.mark.parametrize(
    "result",
    [
        STORY.requested(),
        STORY.held(),
        STORY.dispatched(),
        STORY.alarmed(),
        STORY.refused(),
        STORY.refused(Outcome.EXPIRED, "undelivered"),
        STORY.refused(Outcome.CANCELED, "canceled"),
        STORY.lost(),
    ],
)
def test_the_dispatcher_may_report_its_own_decisions(result: ActionResult) -> None:
    assert result_objection(result, DISPATCHER) == ""
    for signatory in (NODE_KEY, GATEWAY, OPERATOR):
        assert result_objection(result, signatory) == "not_the_dispatcher"


@pytest.mark.parametrize(
    "result",
    [
        *(STORY.refused(outcome) for outcome in Outcome if outcome not in ("REJECTED", "EXPIRED", "CANCELED")),
        replace(STORY.refused(), outcome=None),
        replace(STORY.refused(), alarm="node_silent"),
        replace(STORY.claimed(), producer="dispatcher"),
    ],
)
def test_the_dispatcher_may_not_report_what_only_a_node_can_know(result: ActionResult) -> None:
    assert result_objection(result, DISPATCHER) == "not_the_dispatchers_word"


@pytest.mark.parametrize("producer", ["", "gateway", "NODE", "node ", "responder"])
def test_there_are_two_producers_of_results(producer: str) -> None:
    for signatory in (NODE_KEY, DISPATCHER, GATEWAY):
        assert result_objection(replace(STORY.claimed(), producer=producer), signatory) == "unknown_producer"


@pytest.mark.parametrize("bad", ["", "x", "11111111-1111-4111-8111-111111111111", STORY.id.upper(), STORY.id + "0"])
def test_an_execution_id_is_a_uuid7(bad: str) -> None:
    assert result_objection(replace(STORY.ended(), execution_id=ExecutionId(bad)), NODE_KEY) == "bad_execution_id"
    if bad:
        assert result_objection(replace(STORY.ended(), undo_of=ExecutionId(bad)), NODE_KEY) == "bad_execution_id"


@pytest.mark.parametrize(
    ("chain_id", "owner"),
    [
        (f"node/{NODE}/{BORN}", NODE_KEY),
        ("dispatcher/anything", DISPATCHER),
        ("gateway/1", GATEWAY),
        ("alice/1", OPERATOR),
    ],
)
def test_a_chain_is_written_by_its_owner_alone(chain_id: str, owner: Signatory) -> None:
    record = AuditRecord(ChainId(chain_id), 0, GENESIS, 1, "x", "intent")
    for signatory in (NODE_KEY, OTHER_KEY, DISPATCHER, GATEWAY, OPERATOR):
        assert audit_objection(record, signatory) == ("" if signatory == owner else "not_its_chain")


@pytest.mark.parametrize("chain_id", ["", "node", "gateway/", "node/"])
def test_a_chain_names_its_worker_and_more(chain_id: str) -> None:
    record = AuditRecord(ChainId(chain_id), 0, GENESIS, 1, "x", "intent")
    assert audit_objection(record, NODE_KEY) == "bad_chain_id"


def test_a_heartbeat_is_its_nodes_own() -> None:
    assert heartbeat_objection(heartbeat(1), NODE_KEY) == ""
    assert heartbeat_objection(heartbeat(1), OTHER_KEY) == "not_its_node"
    assert heartbeat_objection(heartbeat(1), DISPATCHER) == "not_its_node"
