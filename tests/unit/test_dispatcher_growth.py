"""Growth as the dispatcher sees it: new commands follow the newest generation, and no command is on two topics."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dispatching import (
    COMMANDS,
    DISPATCHER_KEY,
    LOG,
    NODE,
    NODE_KEYS,
    OPERATOR_KEY,
    OTHER,
    SECOND,
    World,
    an_id,
    execute,
)
from tests.unit.test_dispatcher_loop import Station, StopWhen
from workers.dispatcher.follow import PROOF_MARGIN_NS
from workers.dispatcher.loop import LISTEN_AGAIN_NS
from workers.domain.ids import LogId
from workers.domain.log import topics
from workers.domain.log.record import LogPosition
from workers.domain.log.routing import command_topic, partition_for
from workers.domain.log.topology import Topology, first
from workers.domain.node_state import CommandPosition
from workers.domain.outcome import Outcome

FIRST = first("default", 64)
SECOND_G = FIRST.grown(256, at_ns=7)
THIRD_G = SECOND_G.grown(512, at_ns=8)
G2, G3 = SECOND_G.topic, THIRD_G.topic


@pytest.fixture
def world() -> World:
    made = World()
    made.beat()
    return made


def sent(world: World) -> dict[str, int]:
    """How many commands wait for each command topic."""
    found = [row.record.topic for row in world.ledger.outbox(limit=1_000_000)]
    return {topic: found.count(topic) for topic in (COMMANDS, G2, G3) if topic in found}


def test_new_commands_go_to_the_newest_generation_and_old_ones_stay_where_they_are(world: World) -> None:
    world.ask(execute("one"))
    world.announce(SECOND_G)
    world.ask(execute("two"))
    assert sent(world) == {COMMANDS: 1, G2: 1}
    (record,) = world.out(G2)
    assert record.partition == partition_for(NODE, 256)
    assert [a.detail["generation"] for a in world.audit() if a.kind == "topology"] == [2]


def test_a_restart_knows_it_without_the_record(world: World) -> None:
    world.announce(SECOND_G)
    again = world.restarted()
    again.ask(execute())
    assert sent(again) == {G2: 1}


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({}, DISPATCHER_KEY, "not_an_operator"),
        ({}, NODE_KEYS[NODE], "not_an_operator"),
        ({"generation": 1, "topic": COMMANDS}, OPERATOR_KEY, "known_generation"),
        ({"generation": 3, "topic": G3}, OPERATOR_KEY, "skipped_generation"),
        ({"topic": G3}, OPERATOR_KEY, "wrong_topic"),
        ({"partitions": 10_001}, OPERATOR_KEY, "bad_partitions"),
    ],
)
def test_a_record_that_is_forged_or_does_not_follow_changes_nothing_and_is_reported(
    world: World, change: dict[str, Any], key: Any, reason: str
) -> None:
    world.announce(replace(SECOND_G, **change), signed_by=key)
    world.ask(execute())
    assert sent(world) == {COMMANDS: 1}
    assert [letter.reason for letter in world.dead_letters()] == [reason]
    assert [a.detail["reason"] for a in world.audit() if a.kind == "dead_letter"] == [reason]
    assert "topology_refused" in world.telemetry.events("error")


@pytest.mark.parametrize("value", [None, b"", b"garbage"])
def test_bytes_that_are_no_topology_are_a_dead_letter(world: World, value: bytes | None) -> None:
    world.dispatcher.take([world.record(topics.TOPOLOGY, value, key=b"default/2")])
    assert len(world.dead_letters()) == 1


def test_an_older_record_that_comes_again_is_reported_and_the_same_one_is_ignored(world: World) -> None:
    for topology in (SECOND_G, THIRD_G, replace(THIRD_G, at_ns=99)):
        world.announce(topology)
    assert world.dead_letters() == []
    world.announce(SECOND_G)
    assert [letter.reason for letter in world.dead_letters()] == ["known_generation"]
    world.ask(execute())
    assert sent(world) == {G3: 1}


def test_a_zone_that_is_served_only_later_has_its_growth_already(world: World) -> None:
    world.announce(first("east", 64).grown(256, at_ns=1))
    world.dispatcher = world.another_dispatcher(zones={"default": 64, "east": 64})
    world.beat(OTHER, zone="east")
    world.ask(execute("east", host=OTHER))
    assert [record.partition for record in world.out(command_topic("east", 2))] == [partition_for(OTHER, 256)]
    assert set(world.dispatcher.command_topics()) == {
        (COMMANDS, True),
        (command_topic("east"), False),
        (command_topic("east", 2), True),
    }


def test_what_was_never_delivered_is_proven_by_the_generation_that_it_went_to(world: World) -> None:
    world.announce(SECOND_G)
    world.tails.note(LogPosition(LOG, *SECOND_G.place_of(NODE)), 5)
    world.ask(execute(ttl_s=1))
    expired_ns = SECOND + PROOF_MARGIN_NS

    def at(topic: str, partitions: int, next_offset: int) -> CommandPosition:
        return CommandPosition(LOG, topic, partition_for(NODE, partitions), next_offset)

    world.clock.advance(expired_ns / SECOND)
    world.beat(positions=(at(COMMANDS, 64, 0),))
    assert world.ends() == {}, "the old generation's offset proves nothing about it"
    world.beat(positions=(at(COMMANDS, 64, 0), at(G2, 256, 5)))
    assert world.ends() == {an_id("one", 0): (Outcome.EXPIRED, "kill_error_undelivered")}


def test_a_lost_log_is_made_good_in_the_generation_that_held_the_command(world: World) -> None:
    world.ask(execute("one", ttl_s=600))
    world.announce(SECOND_G)
    world.tails.note(LogPosition(LogId("log-2"), *FIRST.place_of(NODE)), 0)
    assert world.dispatcher.send_again() == 1
    assert sent(world) == {COMMANDS: 2}


@given(st.lists(st.sampled_from(["ask", "grow", "replay", "forge", "skip", "restart"]), max_size=20))
def test_in_whatever_order_records_come_each_command_goes_once_and_to_the_newest_generation(kinds: list[str]) -> None:
    world, announced, asked = World(), [FIRST], 0
    world.beat()
    expected: list[str] = []
    for kind in kinds:
        newest = announced[-1]
        match kind:
            case "ask":
                asked += 1
                world.ask(execute(asked))
                expected.append(newest.topic)
            case "grow":
                announced.append(newest.grown(newest.partitions + 64, at_ns=1))
                world.announce(announced[-1])
            case "replay" if len(announced) > 1:
                world.announce(announced[1])
            case "forge":
                world.announce(newest.grown(3, at_ns=1), signed_by=DISPATCHER_KEY)
            case "skip":
                world.announce(newest.grown(128, at_ns=1).grown(256, at_ns=1))
            case _:
                world = world.restarted()
    rows = [row.record for row in world.ledger.outbox(limit=1_000_000)]
    assert [record.topic for record in rows if record.topic.startswith("response.commands.")] == expected


# The loop, on a broker in memory


class Growing(Station):
    """A broker on which the operator makes generations."""

    def grow(self, topology: Topology) -> None:
        self.log.create_topic(topology.topic, topology.partitions)
        self._append(self.world.topology_record(topology))

    def on(self, topic: str) -> int:
        return len(self.log.records(topic))

    def run_until_sent(self, topic: str, count: int = 1) -> None:
        self.loop().run(StopWhen(lambda: self.on(topic) == count))


@pytest.fixture
def station() -> Growing:
    made = Growing()
    made.log.create_topic(topics.TOPOLOGY, 1)
    made.beat()
    return made


def test_a_growth_is_read_before_the_requests_that_waited(station: Growing) -> None:
    station.ask(execute())
    station.grow(SECOND_G)
    station.run_until_sent(G2)
    assert station.on(COMMANDS) == 0


def test_a_new_ledger_reads_a_growth_of_long_ago(station: Growing) -> None:
    station.grow(SECOND_G)
    station.clock.advance(40 * 86_400)
    station.beat()
    station.ask(replace(execute(), requested_at_ns=station.clock.now_ns()))
    station.run_until_sent(G2)


def test_a_growth_while_it_runs_is_followed_and_what_is_sent_then_can_be_proven(station: Growing) -> None:
    script = [
        (lambda: station.on(COMMANDS) == 1, lambda: station.grow(SECOND_G)),
        (lambda: bool(rows(station, "topology")), lambda: station.ask(execute("two"))),
    ]

    def step() -> bool:
        if script and script[0][0]():
            script.pop(0)[1]()
        return station.on(G2) == 1

    station.ask(execute())
    station.loop().run(StopWhen(step))
    executions = [json.loads(data) for data in rows(station, "execution")]
    assert {row["topic"]: row["log_id"] for row in executions} == {COMMANDS: "first", G2: "first"}


def test_a_missing_topology_topic_stops_nothing_and_is_looked_for_again(station: Growing) -> None:
    station.grow(SECOND_G)
    station.run_until_sent(COMMANDS, 0)
    station.log.remove_topic(topics.TOPOLOGY)
    station.ask(execute())
    step = iter(["made"])

    def grown() -> bool:
        if station.on(COMMANDS) == 1:
            for _ in step:
                station.log.create_topic(topics.TOPOLOGY, 1)
                station.grow(SECOND_G)
                station.clock.advance(LISTEN_AGAIN_NS / SECOND)
        return bool(rows(station, "topology"))

    station.loop().run(StopWhen(grown))
    assert "no_topology" in station.world.telemetry.events("warning")


def test_a_new_ledger_finds_its_way_though_the_first_generation_is_gone(station: Growing) -> None:
    station.grow(SECOND_G)
    station.log.remove_topic(COMMANDS)
    station.ask(execute())
    station.run_until_sent(G2)


def rows(station: Growing, kind: str) -> list[bytes]:
    """What the ledger holds of a kind."""
    with station.readable_ledger().begin() as tx:
        return [data for _, data in tx.scan(kind)]
