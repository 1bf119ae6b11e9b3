"""The fold of history: a function of the set of steps, whatever their order, and honest about what does not fit."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stories import BORN, NODE, OTHER_NODE, REBORN, Story, step_of
from workers.domain.history.execution import FOREIGN_NODE, Execution, FoldedStep, StepKey, fold
from workers.domain.ids import NO_EXECUTION, ExecutionId, NodeId
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import EFFECT_LOST, ActionResult

STORY = Story(1)

NODE_RESULTS = st.builds(
    lambda stage, outcome, attempt, seq, node_id, at_ns, holds: replace(
        STORY.claimed(attempt=attempt, seq=seq),
        stage=stage,
        outcome=outcome if stage is Stage.ENDED else None,
        node_id=node_id,
        at_ns=at_ns,
        effect_holds=holds,
    ),
    st.sampled_from([Stage.CLAIMED, Stage.ENDED]),
    st.sampled_from(Outcome),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([NODE, OTHER_NODE]),
    st.integers(0, 5),
    st.booleans(),
)
DISPATCHER_RESULTS = st.sampled_from(
    [
        STORY.requested(),
        STORY.held(),
        STORY.dispatched(),
        STORY.alarmed(),
        STORY.refused(),
        STORY.lost(),
        STORY.refused(Outcome.EXPIRED, "undelivered"),
        replace(STORY.requested(), code="another_version"),
    ]
)
RESULTS = st.one_of(NODE_RESULTS, DISPATCHER_RESULTS)
MANY = st.lists(RESULTS, min_size=1, max_size=8)


def folded(*results: ActionResult) -> Execution:
    return fold(STORY.id, [step_of(result) for result in results])


@given(MANY, st.randoms())
def test_any_order_and_any_duplication_give_the_same_execution(results: list[ActionResult], random: Random) -> None:
    shuffled = [*results, *results[: len(results) // 2]]
    random.shuffle(shuffled)
    assert folded(*shuffled) == folded(*results)


@given(MANY, MANY, MANY)
def test_folding_is_associative(
    first: list[ActionResult], second: list[ActionResult], third: list[ActionResult]
) -> None:
    left = fold(STORY.id, folded(*first, *second).steps + folded(*third).steps)
    right = fold(STORY.id, folded(*first).steps + folded(*second, *third).steps)
    assert left == right == folded(*first, *second, *third)


@given(MANY)
def test_folding_again_changes_nothing(results: list[ActionResult]) -> None:
    once = folded(*results)
    assert fold(STORY.id, once.steps) == once
    assert fold(STORY.id, once.steps + once.steps) == once


@given(MANY, RESULTS)
def test_another_step_never_takes_a_step_away_nor_a_conflict(
    results: list[ActionResult], another: ActionResult
) -> None:
    before, after = folded(*results), folded(*results, another)
    assert set(map(step_key, before.steps)) <= set(map(step_key, after.steps))
    assert set(before.alarms) - {FOREIGN_NODE} <= set(after.alarms)
    assert before.updated_at_ns <= max(after.updated_at_ns, before.updated_at_ns)


@given(MANY)
def test_an_outcome_stands_exactly_on_what_has_ended(results: list[ActionResult]) -> None:
    execution = folded(*results)
    assert (execution.outcome is not None) == (execution.stage is Stage.ENDED)
    assert (execution.ended_at_ns > 0 or execution.outcome is None) or any(result.at_ns == 0 for result in results)


def step_key(step: FoldedStep) -> StepKey:
    return step.key


def test_the_ladder_is_climbed_step_by_step() -> None:
    stages = [folded(*STORY.whole()[: count + 1]).stage for count in range(4)]
    assert stages == [Stage.REQUESTED, Stage.DISPATCHED, Stage.CLAIMED, Stage.ENDED]


def test_a_finished_execution_knows_its_times_its_configuration_and_what_was_asked() -> None:
    execution = folded(*STORY.whole())
    assert (execution.dispatched_at_ns, execution.claimed_at_ns, execution.ended_at_ns) == (
        STORY.dispatched().at_ns,
        STORY.claimed().at_ns,
        STORY.ended().at_ns,
    )
    assert execution.configuration == {"trigger": "ALL"}
    assert execution.command_sha256 == "c" * 64
    assert execution.asked == STORY.request().steps[0]
    assert execution.requested_at_ns == STORY.at_ns
    assert (execution.node_id, execution.attempts, execution.conflict, execution.alarms) == (NODE, 1, False, ())


def test_until_the_request_arrives_the_time_is_the_one_inside_the_id() -> None:
    execution = folded(STORY.dispatched())
    assert execution.request is None
    assert execution.requested_at_ns == STORY.at_ns


def test_unknown_is_settled_by_what_a_probe_found_later() -> None:
    execution = folded(*STORY.whole(Outcome.UNKNOWN), STORY.ended(Outcome.COMPLETED, seq=3))
    assert (execution.outcome, execution.conflict) == (Outcome.COMPLETED, False)


def test_a_lost_nodes_unknown_never_hides_the_outcome_the_node_gave() -> None:
    execution = folded(*STORY.whole(), STORY.lost())
    assert (execution.outcome, execution.conflict) == (Outcome.COMPLETED, False)


def test_a_lost_nodes_unknown_ends_an_execution_that_has_not_ended() -> None:
    execution = folded(STORY.requested(), STORY.dispatched(), STORY.claimed(), STORY.lost())
    assert (execution.stage, execution.outcome) == (Stage.ENDED, Outcome.UNKNOWN)
    assert execution.code.endswith("node_state_lost")
    assert execution.incarnation == REBORN != BORN


def test_a_silent_node_is_an_alarm_and_no_end() -> None:
    execution = folded(STORY.requested(), STORY.dispatched(), STORY.alarmed())
    assert (execution.stage, execution.outcome, execution.alarms) == (Stage.DISPATCHED, None, ("node_silent",))
    assert (execution.code, execution.dispatched_at_ns) == ("", STORY.dispatched().at_ns)


def test_an_alarm_that_came_before_everything_else_is_no_end_either() -> None:
    execution = folded(STORY.alarmed())
    assert (execution.stage, execution.outcome, execution.alarms) == (Stage.DISPATCHED, None, ("node_silent",))


def test_an_alarm_stays_listed_after_the_end() -> None:
    execution = folded(STORY.alarmed(), *STORY.whole())
    assert (execution.outcome, execution.alarms, execution.conflict) == (Outcome.COMPLETED, ("node_silent",), False)


@pytest.mark.parametrize("late", [True, False])
def test_an_effect_that_its_node_found_lost_holds_no_more(late: bool) -> None:
    whole = STORY.whole(effect_holds=True)
    assert folded(*whole).effect_holds
    alarm = replace(STORY.claimed(seq=3), alarm=EFFECT_LOST)
    execution = folded(*whole, alarm) if late else folded(alarm, *whole)
    assert (execution.outcome, execution.effect_holds, execution.conflict) == (Outcome.COMPLETED, False, False)
    assert execution.alarms == (EFFECT_LOST,)


@pytest.mark.parametrize("order", [1, -1])
def test_two_final_outcomes_are_a_conflict_in_either_order(order: int) -> None:
    execution = folded(*[*STORY.whole(), STORY.refused(Outcome.EXPIRED, "undelivered")][::order])
    assert execution.conflict
    assert execution.outcome is Outcome.COMPLETED


def test_two_versions_of_one_step_are_a_conflict() -> None:
    assert folded(STORY.requested(), replace(STORY.requested(), message="otherwise")).conflict


def test_the_same_step_under_a_new_record_number_is_no_conflict() -> None:
    again = replace(STORY.ended(), record_no=99)
    execution = folded(*STORY.whole(), again)
    assert (execution.conflict, len(execution.steps)) == (False, 5)


def test_a_node_that_was_not_sent_to_ends_nothing() -> None:
    forged = replace(STORY.ended(Outcome.FAILED), node_id=OTHER_NODE)
    execution = folded(STORY.requested(), STORY.dispatched(), forged)
    assert (execution.stage, execution.outcome, execution.node_id) == (Stage.DISPATCHED, None, NODE)
    assert (execution.conflict, execution.alarms) == (True, (FOREIGN_NODE,))
    assert len(execution.steps) == 3


def test_until_the_dispatcher_has_given_it_to_a_node_no_node_has_a_say() -> None:
    execution = folded(STORY.claimed(), STORY.ended(effect_holds=True))
    assert (execution.stage, execution.outcome, execution.node_id) == (Stage.REQUESTED, None, "")
    assert (execution.effect_holds, execution.conflict, execution.alarms) == (False, True, (FOREIGN_NODE,))
    waiting = folded(STORY.requested(), STORY.ended())
    assert (waiting.outcome, waiting.conflict) == (None, True)
    settled = folded(STORY.ended(), STORY.requested(), STORY.dispatched())
    assert (settled.outcome, settled.conflict, settled.alarms) == (Outcome.COMPLETED, False, ())


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.REJECTED, Outcome.UNKNOWN])
def test_what_the_dispatcher_ended_before_signing_no_node_ends_otherwise(outcome: Outcome) -> None:
    before = folded(STORY.requested(), replace(STORY.refused(), node_id=NodeId("")))
    for node_id in (NODE, OTHER_NODE):
        reported = replace(STORY.ended(outcome, attempt=9, seq=9), node_id=node_id, message="otherwise")
        after = folded(*[step.result for step in before.steps], reported)
        assert replace(after, steps=(), conflict=False, alarms=()) == replace(before, steps=())
        assert (after.conflict, after.alarms) == (True, (FOREIGN_NODE,))


def test_an_undo_counts_only_for_what_the_dispatcher_bound_it_to() -> None:
    stolen = [replace(result, undo_of=Story(7).id) for result in (STORY.claimed(), STORY.ended())]
    execution = folded(STORY.requested(), STORY.dispatched(), *stolen)
    assert (execution.undo_of, execution.conflict) == ("", True)


def speaking(*node_ids: NodeId) -> st.SearchStrategy[list[ActionResult]]:
    """Any steps that these nodes could sign, about executions of any node and about none."""
    about = st.sampled_from([STORY, Story(1, action="file_quarantine"), Story(2, undo_of=STORY.id), Story(3)])
    return st.lists(
        st.builds(
            lambda story, result, node_id, alarm, undo_of: replace(
                result,
                execution_id=story.id,
                node_id=node_id,
                alarm=EFFECT_LOST if alarm and result.stage is Stage.CLAIMED else "",
                undo_of=undo_of,
            ),
            about,
            NODE_RESULTS,
            st.sampled_from(node_ids),
            st.booleans(),
            st.sampled_from([NO_EXECUTION, STORY.id]),
        ),
        max_size=6,
    )


@given(MANY, speaking(OTHER_NODE, NodeId("c" * 32)))
def test_nothing_that_other_nodes_sign_changes_what_is_known_of_a_node(
    results: list[ActionResult], forged: list[ActionResult]
) -> None:
    own = [result for result in results if result.node_id in ("", NODE)]
    foreign = [result for result in forged if result.execution_id == STORY.id]
    if not own:
        return
    before, after = folded(*own), folded(*own, *foreign)
    assert plain(after) == plain(before)
    assert set(after.alarms) - {FOREIGN_NODE} == set(before.alarms) - {FOREIGN_NODE}
    assert after.conflict >= before.conflict
    if foreign:
        assert (after.conflict, FOREIGN_NODE in after.alarms) == (True, True)


def plain(execution: Execution) -> Execution:
    """Without what shows that somebody else spoke too; a time is no time while nobody may speak."""
    updated_at_ns = execution.updated_at_ns if execution.node_id or execution.request else 0
    return replace(execution, steps=(), conflict=False, alarms=(), updated_at_ns=updated_at_ns)


def test_an_end_without_an_outcome_is_unknown() -> None:
    assert folded(STORY.dispatched(), replace(STORY.ended(), outcome=None)).outcome is Outcome.UNKNOWN


def test_the_fold_refuses_nothing_and_another_executions_step() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        fold(STORY.id, [])
    with pytest.raises(ValueError, match=STORY.id):
        fold(STORY.id, [step_of(Story(2).requested())])


def test_an_undo_names_what_it_undoes() -> None:
    undo = Story(2, undo_of=STORY.id, action="start_container")
    assert fold(undo.id, map(step_of, undo.whole())).undo_of == STORY.id
    assert folded(*STORY.whole()).undo_of == ExecutionId("")
    assert replace(STORY.requested()).node_id == NodeId("")
