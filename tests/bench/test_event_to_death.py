"""From an alert on the bus to a dead process: all of Douse, beside the least that could do it.

The bare echo is one process that reads pids and kills them: no rule, no signature, nothing durable. The bare chain
passes the pid through as many processes as an alert of ours goes through (responder, dispatcher, node). Death is the
kernel's word, by pidfd. One alert at a time, in turns, on both brokers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.board import Board, percentile
from tests.bench.through_kafka import Client, hop
from tests.e2e.fleet import Fleet, embedded_zones, make_topics
from tests.e2e.victim_processes import VictimProcesses, facts_of
from tests.kafka.cluster import KafkaCluster
from workers.cli.demo.detection import falco_event
from workers.cli.up.data_dir import DataDir
from workers.domain.log.routing import command_topic
from workers.domain.log.topic_spec import ZONE
from workers.domain.log.topics import FALCO_EVENTS, RESULTS
from workers.log.embedded import EmbeddedBroker
from workers.log.topic_catalogue import load_topics

ROUNDS = 5
DEATHS = 30
"""Of each kind in a round."""
WARM = 10
SETTLE_S = 0.03
"""Older than the clock error that an event's time may have, so that no start time has to decide."""
ECHO, CHAIN = "bare.echo", ("bare.first", "bare.second", "bare.third")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(params=["embedded broker", "real Kafka"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> Fleet:
    """Five workers, and the bare topics beside theirs."""
    bare = dict.fromkeys((ECHO, *CHAIN), 1)
    if request.param == "real Kafka":
        cluster = stack.enter_context(KafkaCluster(request.getfixturevalue("kafka_distribution")))
        for topic in bare:
            cluster.create_topic(topic)
        real = stack.enter_context(
            Fleet(DataDir(tmp_path / "data"), cluster.bootstrap_servers, fetch_wait_ms=10_000, unsigned_events=True)
        )
        make_topics(real.kafka, partitions=4)
        return real.up()
    topics = {spec.name: spec.partitions for spec in load_topics() if ZONE not in spec.name}
    topics |= {command_topic(zone): count for zone, count in embedded_zones().items()} | bare
    broker = stack.enter_context(EmbeddedBroker(topics))
    data = DataDir(tmp_path / "data")
    return stack.enter_context(
        Fleet(data, broker.bootstrap_servers, log_id="this-run", fetch_wait_ms=1, unsigned_events=True)
    ).up()


@pytest.mark.timeout(600)
def test_from_event_to_dead_process(
    fleet: Fleet, request: pytest.FixtureRequest, stack: ExitStack, board: Board
) -> None:
    where = request.node.callspec.params["fleet"]
    hop(stack, fleet.kafka, ECHO, 0, "kill")
    for topic, onward in zip(CHAIN, (*CHAIN[1:], "kill"), strict=True):
        hop(stack, fleet.kafka, topic, 0, onward)
    client, victims = Client(fleet.kafka, RESULTS), stack.enter_context(VictimProcesses())
    stack.callback(client.close)

    def alert(pid: int) -> None:
        client.send(FALCO_EVENTS, json.dumps(falco_event(facts_of(pid), ())).encode(), b"")

    ways: dict[str, Callable[[int], None]] = {
        "Douse": alert,
        "bare echo": lambda pid: client.send(ECHO, b"%d" % pid, b"", 0),
        "bare chain of three": lambda pid: client.send(CHAIN[0], b"%d" % pid, b"", 0),
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            one = [_until_dead(victims, way) for _ in range(DEATHS if number else WARM)]
            taken[name] += [one] if number else []
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        figures = {name: [percentile(one, share) for one in rounds] for name, rounds in taken.items()}
        for beside in ("bare echo", "bare chain of three"):
            board.compare(f"{where}: event to dead process, {what}", "ms", figures["Douse"], beside, figures[beside])
    fleet.no_traceback()


def _until_dead(victims: VictimProcesses, way: Callable[[int], None]) -> float:
    """Milliseconds."""
    pid = victims.spawn()
    time.sleep(SETTLE_S)
    began = time.time_ns()
    way(pid)
    while (died := victims.died_ns(pid)) is None:
        assert time.time_ns() - began < 60_000_000_000, f"{pid} lives"
        time.sleep(0.0005)
    return (died - began) / 1e6
