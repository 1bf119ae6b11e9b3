"""A real Kafka dies, moves, vanishes behind a cut cable, is emptied or replaced, in the middle of mixed commands."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import TopicPartition

from tests.e2e.client import FleetClient
from tests.e2e.conftest import NewClient
from tests.e2e.fleet import COMMANDS, Fleet, fleet_on, make_topics
from tests.e2e.leaders import Leaders
from tests.e2e.tunnel import Tunnel, Way
from tests.kafka.cluster import KafkaCluster
from tests.kafka.distribution import Distribution
from tests.kafka.fixtures import StartKafka
from workers.cli.up.data_dir import COMMAND_PARTITIONS
from workers.domain.log.routing import partition_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTLE_S: Final = 120.0
"""For everything to end once the fault is over: clients back off for seconds before they dial again."""

MOVED: Final = (
    "response.requests.people",
    "response.requests.rules",
    "response.results",
    "response.audit",
    "runtime.events",
    "fleet.nodes",
    COMMANDS,
)


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread for the length of a block; what it raises is raised here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed over to the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


def ended_well(client: FleetClient, what: str, **figures: object) -> None:
    """Everything settles, the judge finds nothing, every file comes back as it was, no worker died."""
    settled_s = client.settled(SETTLE_S)
    client.judge()
    client.give_everything_back()
    verdict = client.judge()
    reported = ", ".join(f"{name} {value}" for name, value in figures.items())
    print(f"\n{what}: {reported}; settled {settled_s:.1f} s after; {verdict}")
    client.fleet.all_alive()
    client.fleet.no_traceback()


@pytest.mark.fault("F4")
@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.faults)])
def test_a_broker_killed_in_the_middle_of_mixed_commands_loses_and_doubles_nothing(
    kafka_fleet: Fleet, kafka_cluster: KafkaCluster, new_client: NewClient, count: int
) -> None:
    client = new_client(kafka_fleet)
    with meanwhile(lambda: client.mixed(count, randomness=random.Random(6), hard=True)):
        while len(client.orders) < count // 3:
            time.sleep(0.01)
        at = len(client.orders)
        kafka_cluster.kill()
        time.sleep(3)
        kafka_cluster.restart()
    ended_well(client, f"broker killed after {at} of {count}", down="3 s and its start")


@pytest.mark.fault("F5")
@pytest.mark.parametrize("seconds", [6, pytest.param(30, marks=pytest.mark.faults)])
def test_leaders_that_change_twice_a_second_lose_and_double_nothing(
    start_kafka: StartKafka, tmp_path: Path, new_client: NewClient, seconds: int
) -> None:
    cluster = start_kafka(nodes=3)
    with fleet_on(cluster, tmp_path / "data", partitions=2) as fleet:
        fleet.up()
        client = new_client(fleet)
        leaders = Leaders(cluster, MOVED)
        before = leaders.led()
        leaders.move_all()
        assert leaders.led() != before
        randomness = random.Random(7)
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                client.mixed(16, randomness=randomness, at_once=8, hard=True)

        with meanwhile(ask):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                began = time.monotonic()
                leaders.move_all()
                time.sleep(max(0.0, 0.5 - (time.monotonic() - began)))
            over.set()
        ended_well(client, f"leaders of {len(before)} partitions moved for {seconds} s", moves=leaders.moves)


@pytest.mark.fault("F6")
@pytest.mark.parametrize(
    ("seconds", "ways"),
    [
        (8, Way.BOTH),
        pytest.param(60, Way.BOTH, marks=pytest.mark.faults),
        pytest.param(60, Way.OUT, marks=pytest.mark.faults),
        pytest.param(60, Way.IN, marks=pytest.mark.faults),
    ],
)
def test_a_worker_cut_off_from_its_broker_runs_nothing_that_expired_meanwhile(
    kafka_distribution: Distribution, tmp_path: Path, new_client: NewClient, seconds: int, ways: Way
) -> None:
    """Cut both ways, or so that what it says is not heard, or so that it hears nothing while its questions arrive."""
    with (
        KafkaCluster(kafka_distribution) as cluster,
        Tunnel(int(cluster.bootstrap_servers.rpartition(":")[2]), tmp_path) as tunnel,
        fleet_on(cluster, tmp_path / "data", partitions=2, prefixes={"node": tunnel.prefix}) as fleet,
    ):
        fleet.up()
        client = new_client(fleet)
        client.mixed(10, randomness=random.Random(8))
        client.settled(SETTLE_S)
        tunnel.cut(ways)
        cut = time.monotonic()
        ttl_s = max(2, seconds // 4)
        doomed = [ask(ttl_s=ttl_s) for ask in (client.kill, client.quarantine) for _ in range(10)]
        client.mixed(20, randomness=random.Random(9))
        time.sleep(max(0.0, seconds - (time.monotonic() - cut)))
        tunnel.mend()
        cut_s = time.monotonic() - cut
        ended_well(client, f"cut off for {cut_s:.0f} s, {ways.value}", expired_meanwhile=len(doomed))
        # One question may have been under way when its answers were still let through.
        done = [each for each in doomed if client.outcome(each) != "EXPIRED"]
        assert not done or ways is Way.OUT, "executed after its deadline"


def audited(client: FleetClient, worker: str, *kinds: str) -> list[Mapping[str, Any]]:
    """What a worker audited of these kinds, each once."""
    reported = {(record["chain_id"], record["record_no"]): record for record in client.wire.audit()}
    return [record for record in reported.values() if record["worker"] == worker and record["kind"] in kinds]


def partition_of(fleet: Fleet) -> TopicPartition:
    """Where this node's commands lie."""
    return TopicPartition(COMMANDS, partition_for(fleet.node_id, COMMAND_PARTITIONS))


@pytest.mark.fault("F25")
def test_a_log_truncated_below_the_offset_is_an_audited_gap_and_what_it_took_expires_at_its_node(
    kafka_fleet: Fleet, kafka_cluster: KafkaCluster, new_client: NewClient
) -> None:
    """The gap is told, and ends nothing. Once they have expired, the node is asked again about the lost ones, and says
    itself that it never ran them: their targets live."""
    fleet, client = kafka_fleet, new_client(kafka_fleet)
    client.kill()
    client.settled(SETTLE_S)
    fleet.stop("node")
    lost = [client.kill(ttl_s=6) for _ in range(5)]
    ids = {each.execution_id for each in lost}
    _await_stage(client, ids, "DISPATCHED")
    place = partition_of(fleet)
    place.offset = -1  # up to the end
    kafka_cluster.admin.delete_records([place])[place].result(timeout=20)
    gaps = len(audited(client, "node", "gap"))
    fleet.spawn("node")
    client.kill()
    ended_well(client, "log truncated under a stopped node", commands_lost=len(lost))
    (gap,) = audited(client, "node", "gap")[gaps:]
    assert gap["detail"]["resumed_at"] - gap["detail"]["expected"] == len(lost), gap
    assert not [each for each in lost if client.processes.died_ns(each.pid) is not None]
    reported = [r for r in client.wire.results() if r["execution_id"] in ids and r["stage"] == "ENDED"]
    assert {(r["execution_id"], r["producer"], r["outcome"]) for r in reported} == {(i, "node", "EXPIRED") for i in ids}


@pytest.mark.parametrize("topic", [COMMANDS, "response.results"])
def test_a_topic_deleted_and_made_again_is_reported_loudly_and_work_goes_on(
    kafka_distribution: Distribution, tmp_path: Path, new_client: NewClient, topic: str
) -> None:
    with KafkaCluster(kafka_distribution) as cluster, fleet_on(cluster, tmp_path / "data", partitions=2) as fleet:
        fleet.up()
        first = new_client(fleet)
        first.mixed(10, randomness=random.Random(10))
        first.settled(SETTLE_S)
        first.judge()
        cluster.delete_topic(topic)
        make_topics(fleet.kafka, partitions=2)
        second = new_client(fleet)
        began = time.monotonic()
        second.mixed(10, randomness=random.Random(11))
        second.settled(SETTLE_S)
        second.judge()
        reader = "node" if topic == COMMANDS else "projector"
        output = {(record["worker"], record["kind"]) for record in second.wire.audit()}
        loud = {kind for worker, kind in output if worker == reader and kind in LOUD}
        print(f"\n{topic} made again: {reader} audits {loud}; 10 more settled in {time.monotonic() - began:.1f} s")
        assert loud, output
        fleet.all_alive()
        fleet.no_traceback()


LOUD: Final = {"gap", "new_log", "log_replaced"}


def test_a_cluster_that_was_replaced_is_reported_loudly_and_work_goes_on(
    kafka_distribution: Distribution, tmp_path: Path, new_client: NewClient
) -> None:
    with (
        KafkaCluster(kafka_distribution) as old,
        KafkaCluster(kafka_distribution) as new,
        fleet_on(old, tmp_path / "data", partitions=2) as fleet,
    ):
        fleet.up()
        first = new_client(fleet)
        first.mixed(10, randomness=random.Random(12))
        first.settled(SETTLE_S)
        first.judge()
        known = {each.execution_id or each.event_id for each in first.orders}
        fleet.stop(*fleet.running)
        old.stop()
        fleet.bootstrap_servers = new.bootstrap_servers
        make_topics(fleet.kafka, partitions=2)
        fleet.configure()
        fleet.up()
        second = new_client(fleet)
        second.mixed(10, randomness=random.Random(13))
        second.settled(SETTLE_S)
        second.judge()
        output = {(record["worker"], record["kind"]) for record in second.wire.audit()}
        loud = {worker for worker, kind in output if kind in LOUD}
        print(f"\ncluster replaced: audited by {sorted(loud)}; {len(known)} old executions kept")
        assert {"node", "projector"} <= loud, output
        with fleet.http_client() as asks:
            rows = asks.get("/api/v1/executions", params={"limit": 200}).json()["data"]
        assert known <= {row["id"] for row in rows} | {row["event_id"] for row in rows}
        fleet.no_traceback()


def _await_stage(client: FleetClient, ids: set[str], stage: str) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not ids <= {result["execution_id"] for result in client.wire.results() if result["stage"] == stage}:
        client.wire.look()
        assert time.monotonic() < deadline, f"not all are {stage}"
