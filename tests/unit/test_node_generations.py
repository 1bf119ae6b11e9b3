"""Growth as a node sees it: both generations are read, nothing is forgotten too early, only operators are followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.failpoints import Crash
from tests.fakes.node import DISPATCHER_KEY, NODE, NODE_KEY, OPERATOR_KEY, PARTITIONS, TOPIC, NodeBench
from tests.fakes.signing import fake_key
from tests.guarantees.node import check_all
from workers.domain.command import ActionCommand
from workers.domain.errors import LimitExceeded
from workers.domain.log import topics
from workers.domain.log.record import OutRecord
from workers.domain.log.routing import command_topic
from workers.domain.log.topology import READ_ON_NS, Topology
from workers.domain.outcome import Outcome
from workers.domain.trust.keyset import KeyRole
from workers.node.executor import TOPOLOGY
from workers.node.feed import LOOK_AGAIN_NS

G2 = command_topic("default", 2)
G3 = command_topic("default", 3)


@pytest.fixture
def bench() -> NodeBench:
    made = NodeBench()
    for number in range(1, 10):
        made.world.spawn(number)
    return made


def sent(bench: NodeBench, number: int) -> ActionCommand:
    command = bench.command(number=number)
    bench.send(command)
    return command


def outcomes(bench: NodeBench, *commands: ActionCommand) -> list[list[Outcome]]:
    return [[r.outcome for r in bench.results(command.command_id) if r.outcome] for command in commands]


def read(bench: NodeBench) -> list[str]:
    """Topics of the command partitions that are read, the newest first."""
    return [topic for topic, _ in bench.executor.partitions() if topic != topics.TOPOLOGY]


def test_both_generations_are_read_side_by_side_without_a_restart(bench: NodeBench) -> None:
    before = sent(bench, 1)
    bench.settle()
    unread = sent(bench, 2)
    bench.grow(16)
    after = sent(bench, 3)
    bench.settle()
    assert read(bench) == [G2, TOPIC]
    assert outcomes(bench, before, unread, after) == [[Outcome.COMPLETED]] * 3
    assert bench.started == 1
    check_all(bench.observation())


def test_a_command_dispatched_before_the_growth_runs_once_though_it_is_read_after_it(bench: NodeBench) -> None:
    bench.settle()
    late = bench.command(number=1)
    bench.grow(16)
    bench.settle()
    bench.topology = replace(bench.topology, generation=1, topic=TOPIC, partitions=PARTITIONS)
    bench.send(late)
    bench.settle()
    bench.restart()
    bench.settle()
    assert outcomes(bench, late) == [[Outcome.COMPLETED]]
    check_all(bench.observation())


def test_a_node_that_was_off_finds_every_growth_at_its_next_start(bench: NodeBench) -> None:
    first = sent(bench, 1)
    bench.settle()
    waiting = sent(bench, 2)
    bench.grow(16)
    between = sent(bench, 3)
    bench.grow(64)
    newest = sent(bench, 4)
    bench.restart()
    bench.settle()
    assert read(bench) == [G3, G2, TOPIC]
    assert outcomes(bench, first, waiting, between, newest) == [[Outcome.COMPLETED]] * 4
    assert [a.detail["generation"] for a in bench.audit("topology")] == [2, 3]
    check_all(bench.observation())


def test_a_node_born_long_after_a_growth_finds_it_at_every_start(bench: NodeBench) -> None:
    bench.grow(16)
    bench.clock.advance(40 * 86_400)
    for number in (1, 2):
        bench.restart()
        bench.settle()
        assert read(bench) == [G2, TOPIC]
        command = sent(bench, number)
        bench.settle()
        assert outcomes(bench, command) == [[Outcome.COMPLETED]]


def test_a_growth_that_was_announced_is_followed_by_the_next_start_though_no_command_came(bench: NodeBench) -> None:
    bench.grow(16)
    bench.settle()
    bench.restart()
    bench.settle()
    assert read(bench) == [G2, TOPIC]


def test_a_command_copied_into_the_new_generation_does_nothing_more(bench: NodeBench) -> None:
    command = sent(bench, 1)
    bench.settle()
    bench.grow(16)
    sealed = bench.bus.values(TOPIC)[0]
    bench.put(sealed)
    bench.settle()
    assert len(bench.world.effects) == 1
    assert set(outcomes(bench, command)[0]) == {Outcome.COMPLETED}
    check_all(bench.observation())


def test_the_old_generation_is_dropped_once_no_command_in_it_can_live(bench: NodeBench) -> None:
    bench.settle()
    bench.grow(16)
    bench.settle()
    bench.clock.advance(READ_ON_NS / 1e9 - 1)
    bench.settle()
    assert read(bench) == [G2, TOPIC]
    bench.clock.advance(2)
    bench.settle()
    assert read(bench) == [G2]
    again = sent(bench, 1)
    bench.settle()
    assert outcomes(bench, again) == [[Outcome.COMPLETED]]


def test_what_was_read_of_a_generation_is_remembered_though_the_record_is_gone(bench: NodeBench) -> None:
    sent(bench, 1)
    bench.settle()
    bench.grow(16)
    bench.settle()
    bench.bus.create_topic(topics.TOPOLOGY, 1)
    bench.restart()
    command = sent(bench, 2)
    bench.settle()
    assert read(bench) == [G2, TOPIC]
    assert outcomes(bench, command) == [[Outcome.COMPLETED]]


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({}, DISPATCHER_KEY, "not_an_operator"),
        ({}, NODE_KEY, "not_an_operator"),
        ({}, fake_key("mallory", KeyRole.OPERATOR), "unknown_key"),
        ({"generation": 1, "topic": TOPIC}, OPERATOR_KEY, "known_generation"),
        ({"generation": 3, "topic": G3}, OPERATOR_KEY, "skipped_generation"),
        ({"topic": "response.commands.other.g2"}, OPERATOR_KEY, "wrong_topic"),
        ({"partitions": 0}, OPERATOR_KEY, "bad_partitions"),
    ],
)
def test_a_record_that_is_forged_or_does_not_follow_is_audited_once_and_never_followed(
    bench: NodeBench, change: dict[str, Any], key: Any, reason: str
) -> None:
    bench.bus.create_topic(G2, 16)
    bench.settle()
    wanted = replace(bench.topology.grown(16, at_ns=1), **change)
    record = bench.tell(wanted, key=key)
    bench.settle()
    bench.restart()
    command = sent(bench, 1)
    bench.settle()
    (audited,) = bench.audit("topology_refused")
    assert (audited.detail["reason"], audited.detail["offset"]) == (reason, record.offset)
    assert read(bench) == [TOPIC]
    assert outcomes(bench, command) == [[Outcome.COMPLETED]]
    check_all(bench.observation())


@pytest.mark.parametrize("value", [None, b"", b"\x00garbage", b"[" * 100_000])
def test_bytes_that_are_no_topology_stop_nothing(bench: NodeBench, value: bytes | None) -> None:
    bench.bus.append(OutRecord(topics.TOPOLOGY, b"default/2", value))
    bench.grow(16)
    command = sent(bench, 1)
    bench.settle()
    assert len(bench.audit("topology_refused")) == 1
    assert outcomes(bench, command) == [[Outcome.COMPLETED]]


def test_another_zone_s_growth_is_none_of_this_node_s_business(bench: NodeBench) -> None:
    bench.settle()
    bench.tell(Topology("other", 2, 16, command_topic("other", 2), 1))
    bench.settle()
    assert read(bench) == [TOPIC]
    assert not bench.audit("topology_refused")


def test_a_new_topic_that_is_not_there_yet_is_waited_for_while_the_old_one_is_read(bench: NodeBench) -> None:
    bench.settle()
    bench.topology = bench.topology.grown(16, at_ns=1)
    bench.tell(bench.topology)
    bench.settle()
    old = bench.command(number=1)
    bench.topology, newest = replace(bench.topology, topic=TOPIC, partitions=PARTITIONS), bench.topology
    bench.send(old)
    bench.settle()
    assert outcomes(bench, old) == [[Outcome.COMPLETED]]
    bench.bus.create_topic(G2, 16)
    bench.topology = newest
    command = sent(bench, 2)
    bench.clock.advance(LOOK_AGAIN_NS / 1e9)
    bench.settle()
    assert outcomes(bench, command) == [[Outcome.COMPLETED]]


def test_an_old_topic_that_the_operator_removed_is_done_without(bench: NodeBench) -> None:
    sent(bench, 1)
    bench.settle()
    bench.grow(16)
    bench.settle()
    bench.bus.remove_topic(TOPIC)
    bench.restart()
    command = sent(bench, 2)
    bench.settle()
    assert outcomes(bench, command) == [[Outcome.COMPLETED]]
    assert bench.telemetry.events("warning").count("not_there") == 1


def test_without_a_topology_topic_commands_flow_all_the_same(bench: NodeBench) -> None:
    bench.bus.remove_topic(topics.TOPOLOGY)
    command = sent(bench, 1)
    bench.settle()
    assert outcomes(bench, command) == [[Outcome.COMPLETED]]


def test_a_full_disk_delays_a_growth_and_loses_nothing(bench: NodeBench) -> None:
    bench.settle()
    bench.journal.break_with(LimitExceeded("full", code="journal_full"))
    bench.grow(16)
    command = sent(bench, 1)
    assert not bench.read()
    assert read(bench) == [TOPIC]
    bench.journal.break_with(None)
    bench.clock.advance(2)
    bench.settle(patience_s=5)
    assert read(bench) == [G2, TOPIC]
    assert outcomes(bench, command) == [[Outcome.COMPLETED]]


def test_the_feed_reads_the_topology_topic_last(bench: NodeBench) -> None:
    assert bench.executor.partitions()[-1] == TOPOLOGY
    assert bench.executor.partitions()[0] == bench.topology.place_of(NODE)


@given(st.data())
def test_whatever_happens_in_whatever_order_every_command_runs_exactly_once(data: st.DataObject) -> None:
    """Growth, crashes, forgeries, copied commands, and genuine ones in the newest generation all the while."""
    bench, sends = NodeBench(), 0
    kinds = ["command", "command", "command", "grow", "restart", "crash", "forge", "settle", "copy"]
    for kind in data.draw(st.lists(st.sampled_from(kinds), max_size=14)):
        if kind == "command":
            sends += 1
            bench.world.spawn(sends)
            sent(bench, sends)
        elif kind == "crash":
            crash(bench, data.draw(st.sampled_from(["node.intake.before_commit", "node.execute.after"])))
        else:
            OTHERS[kind](bench)
    bench.settle(patience_s=60)
    assert len(bench.world.effects) == sends
    check_all(bench.observation())
    assert read(bench)[0] == bench.topology.topic


def crash(bench: NodeBench, place: str) -> None:
    bench.failpoints.arm(place)
    try:
        bench.settle()
    except Crash:
        bench.restart()
    bench.failpoints.disarm()


def grow(bench: NodeBench) -> None:
    if bench.topology.generation < 4:
        bench.grow(bench.topology.partitions * 4)


def copy(bench: NodeBench) -> None:
    """A broker puts an old command into the newest generation."""
    for record in bench.bus.records(TOPIC)[:1]:
        bench.put(record.value)


OTHERS: Mapping[str, Callable[[NodeBench], object]] = {
    "grow": grow,
    "restart": NodeBench.restart,
    "forge": lambda bench: bench.tell(bench.topology.grown(7, at_ns=1), key=DISPATCHER_KEY),
    "settle": NodeBench.settle,
    "copy": copy,
}
