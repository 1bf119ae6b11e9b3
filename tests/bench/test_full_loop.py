"""Request → dispatcher → node → recorded result, two nodes: Douse, a bare Kafka loop with the same hops, and its peers.

All systems run in one test, in turns, round by round, each alone on the machine's cores while it is measured. What is
asked is a no-op (our dry run), so that the figures are those of the way, not of what is done at its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.bench.board import Board
from tests.bench.contest import Contestant, Figures, measure, of
from tests.bench.through_kafka import Bare, Douse, bare_topics
from tests.components import require
from tests.e2e.fleet import Fleet, embedded_zones, make_topics
from tests.kafka.cluster import KafkaCluster
from tests.kafka.distribution import Distribution
from tests.victims import Victims, victims
from workers.cli.up.data_dir import DataDir
from workers.domain.log.routing import command_topic
from workers.domain.log.topic_spec import ZONE
from workers.log.embedded import EmbeddedBroker
from workers.log.topic_catalogue import load_topics

ROUNDS = 3
BURST = 1_000
ONES = 100
RATE = 200
STEADY_S = 3.0

COLUMNS = {
    "burst": (f"burst of {BURST:,}, two nodes", "a second"),
    "one_p50": ("one in flight, p50", "ms"),
    "one_p99": ("one in flight, p99", "ms"),
    "steady_p50": (f"{RATE} a second, p50", "ms"),
    "steady_p99": (f"{RATE} a second, p99", "ms"),
    "drain": (f"drain of {BURST:,} by the nodes", "a second"),
}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def targets() -> Iterator[Victims]:
    with victims() as started:
        yield started


def on_embedded(root: Path, stack: ExitStack, targets: Victims) -> tuple[Contestant, Contestant]:
    """Douse and the bare loop on one embedded broker."""
    topics = {spec.name: spec.partitions for spec in load_topics() if ZONE not in spec.name}
    topics |= {command_topic(zone): count for zone, count in embedded_zones().items()} | bare_topics()
    broker = stack.enter_context(EmbeddedBroker(topics))
    data = DataDir(root)
    fleet = stack.enter_context(Fleet(data, broker.bootstrap_servers, log_id="this-run", fetch_wait_ms=1))
    return both("embedded broker", fleet, stack, targets)


def on_kafka(
    distribution: Distribution, root: Path, stack: ExitStack, targets: Victims
) -> tuple[Contestant, Contestant]:
    """Douse and the bare loop on one real Kafka, with the waits of production."""
    cluster = stack.enter_context(KafkaCluster(distribution))
    for topic, partitions in bare_topics().items():
        cluster.create_topic(topic, partitions)
    fleet = stack.enter_context(Fleet(DataDir(root), cluster.bootstrap_servers, fetch_wait_ms=10_000))
    make_topics(fleet.kafka, partitions=4)
    return both("real Kafka", fleet, stack, targets)


def both(where: str, fleet: Fleet, stack: ExitStack, targets: Victims) -> tuple[Contestant, Contestant]:
    """Us, and what stands beside us."""
    douse = stack.enter_context(closing(Douse(f"Douse, {where}", fleet, targets)))
    return douse, stack.enter_context(closing(Bare(f"bare loop, {where}", fleet.kafka, stack)))


def peers(root: Path, stack: ExitStack, board: Board) -> list[Contestant]:
    """Celery and Dramatiq, each with both ways of keeping Redis's log."""
    redis = pytest.importorskip(
        "tests.bench.through_redis", reason="celery, dramatiq, redis: `make bench` installs them"
    )
    require("redis-server", "the peers' broker (Debian: redis-server)")
    found: list[Contestant] = []
    for sync in ("everysec", "always"):
        for kind in (redis.CeleryPeer, redis.DramatiqPeer):
            server = redis.RedisServer(root / f"redis-{sync}-{kind.__name__}", stack, sync=sync)
            board.versions["Redis"] = server.version
            found.append(kind(server, stack))
    return found


@pytest.mark.timeout(900)
def test_full_loop_beside_a_bare_one_and_beside_its_peers(
    kafka_distribution: Distribution, tmp_path: Path, stack: ExitStack, targets: Victims, board: Board
) -> None:
    embedded = on_embedded(tmp_path / "embedded", stack, targets)
    kafka = on_kafka(kafka_distribution, tmp_path / "kafka", stack, targets)
    others = peers(tmp_path, stack, board)
    systems = [*embedded, *kafka, *others]
    rounds: dict[str, list[Figures]] = {system.name: [] for system in systems}
    for _ in range(ROUNDS):
        for system in systems:
            figures = measure(system, burst=BURST, ones=ONES, rate=RATE, steady_s=STEADY_S)
            rounds[system.name].append(figures)
            print(system.name, figures)
    for ours, bare in (embedded, kafka):
        for column, (what, unit) in COLUMNS.items():
            for beside in (bare, *others):
                board.compare(
                    f"{ours.name}: {what}",
                    unit,
                    of(rounds[ours.name], column),
                    beside.name,
                    of(rounds[beside.name], column),
                )
