"""A zone grows on a real Kafka: under load, with workers killed in the middle, and with the operator's own command."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.client import FleetClient
from tests.e2e.fleet import ZONE, Fleet, fleet_on
from tests.e2e.test_broker_faults import SETTLE_S, meanwhile
from tests.e2e.verdicts import Order
from tests.e2e.victim_files import VictimFiles
from tests.e2e.victim_processes import VictimProcesses
from tests.e2e.wire import Wire
from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.cluster import KafkaCluster
from workers.cli import main
from workers.cli.exits import Exit
from workers.cli.growth import FAILPOINTS
from workers.cli.up.data_dir import ROLES
from workers.domain.ids import NodeId
from workers.domain.log.routing import command_topic, partition_for
from workers.log.admin import TopicAdmin
from workers.log.topic_catalogue import load_topics
from workers.system import yaml_files
from workers.system.clock import SystemClock
from workers.system.failpoints import KILLED, VARIABLE
from workers.wire.keys import add_node
from workers.wiring.cluster import Cluster, cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXTRA: Final = {"node-b": NodeId("b" * 32), "node-c": NodeId("c" * 32)}
G2: Final = command_topic(ZONE, 2)
WAIT_S: Final = 60.0


class Operator:
    """Somebody with the operator's key, at a shell."""

    def __init__(self, fleet: Fleet, config: Path) -> None:
        keys = fleet.data.keys
        self.config = config
        kafka = fleet.kafka.model_dump(mode="json", exclude_defaults=True)
        signing = {"keyset": str(keys / "keyset.json"), "private_key": str(keys / "operator.key")}
        yaml_files.write(config, {"kafka": kafka, "keys": signing})
        self._fleet = fleet

    def words(self, zone: str, partitions: int) -> list[str]:
        named = ["--config", str(self.config), "--zone", zone, "--partitions", str(partitions)]
        return ["topics", "grow", *named, "--replication", "1"]

    def grow(self, zone: str, partitions: int) -> int:
        """In this process; its exit code."""
        with pytest.raises(SystemExit) as ended:
            main(self.words(zone, partitions))
        return int(ended.value.code or 0)

    def grow_and_die(self, zone: str, partitions: int, place: str) -> None:
        """In a process of its own that is killed there."""
        command = [sys.executable, "-m", "workers", *self.words(zone, partitions)]
        done = subprocess.run(command, env={**os.environ, VARIABLE: f"{place}=kill"}, timeout=WAIT_S, check=False)
        assert done.returncode == KILLED

    def seen(self, *zones: str) -> Cluster:
        return cluster(self.config, zones, 1)

    def make_zone(self, zone: str, partitions: int = 2) -> None:
        """A small command topic."""
        specs = [replace(spec, partitions=partitions) for spec in load_topics() if "commands" in spec.name]
        admin = TopicAdmin(self._fleet.kafka, telemetry=FakeTelemetry(), clock=SystemClock(), replication=1)
        admin.create(specs, zones=[zone])


@pytest.fixture(scope="module")
def fleet(kafka_cluster: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Five workers on a real Kafka, two more nodes to be started, and every topic but the commands' narrow."""
    with fleet_on(kafka_cluster, tmp_path_factory.mktemp("growth") / "data", partitions=2) as made:
        for name, node_id in EXTRA.items():
            add_node(made.data.keys, name=name, node_id=node_id)
            _configure(made, name, node_id)
        yield made


def _configure(fleet: Fleet, name: str, node_id: NodeId) -> None:
    settings: dict[str, Any] = dict(yaml_files.read_mapping(fleet.data.config("node")))
    home = fleet.data.root / name
    node = settings["node"] | {"id": node_id, "data_dir": str(home), "host_names": [name]}
    actions = {"file_quarantine": {"quarantine_path": str(home / "quarantine")}}
    settings |= {
        "node": node,
        "keys": settings["keys"] | {"private_key": str(fleet.data.keys / f"{name}.key")},
        "features": {"respond": {"response_actions": actions}},
    }
    yaml_files.write(fleet.data.config(name), settings)


@pytest.fixture
def operator(fleet: Fleet, tmp_path: Path) -> Operator:
    return Operator(fleet, tmp_path / "operator.yaml")


class OfAllNodes(FleetClient):
    """Asks one node after the other."""

    hosts: Callable[[], str] | None = None

    def host(self) -> str:
        return self.hosts() if self.hosts is not None else super().host()

    def kill_at(self, host: str, **more: Any) -> Order:
        asks, self.hosts = self.hosts, lambda: host
        try:
            return self.kill(**more)
        finally:
            self.hosts = asks


# The operator's command


@pytest.mark.parametrize("place", FAILPOINTS)
def test_an_operator_s_command_killed_between_any_two_steps_is_run_again_to_the_same_end(
    operator: Operator, place: str
) -> None:
    zone = f"killed-{place.replace('.', '-').replace('_', '-')}"
    operator.make_zone(zone)
    operator.grow_and_die(zone, 4, place)
    assert operator.grow(zone, 4) == Exit.OK
    assert operator.grow(zone, 4) == Exit.OK, "a third time changes nothing"
    seen = operator.seen(zone)
    topologies = seen.growth.read()
    assert [(t.generation, t.partitions, t.topic) for t in topologies.chains[zone]] == [(2, 4, command_topic(zone, 2))]
    assert topologies.ignored == []
    assert seen.topics.partitions_of(command_topic(zone, 2)) == 4
    assert seen.topics.partitions_of(command_topic(zone)) == 2
    assert _of_commands(seen) == []


def _of_commands(seen: Cluster) -> list[str]:
    """What `topics diff` says of command topics, but of how many partitions the first has: it is narrow here."""
    found = seen.differences(seen.growth.read())
    first = {command_topic(zone) for zone in seen.zones}
    return [f"{d.topic} {d.setting}" for d in found if "commands" in d.topic and d.topic not in first]


def test_what_cannot_be_grown_is_refused_in_one_line_and_nothing_is_written(
    operator: Operator, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.make_zone("refused")
    assert operator.grow("refused", 1) == Exit.FAILED
    assert "never shrinks" in capsys.readouterr().err
    assert operator.grow("nowhere", 4) == Exit.NOT_FOUND
    assert "there is no zone nowhere" in capsys.readouterr().err
    seen = operator.seen("refused")
    three = replace(_newest(seen, "refused").grown(3, at_ns=1))
    seen.make(three)
    assert operator.grow("refused", 4) == Exit.FAILED
    assert "already exists with 3 partitions" in capsys.readouterr().err
    content = dict(yaml_files.read_mapping(operator.config))
    yaml_files.write(
        operator.config, content | {"keys": content["keys"] | {"private_key": str(_key(fleet, "gateway"))}}
    )
    assert operator.grow("refused", 4) == Exit.USAGE
    assert "keys.private_key: is no operator's key" in capsys.readouterr().err
    yaml_files.write(operator.config, {"kafka": content["kafka"]})
    assert operator.grow("refused", 4) == Exit.USAGE
    assert "keys: is missing" in capsys.readouterr().err
    yaml_files.write(operator.config, content)
    assert "refused" not in operator.seen("refused").growth.read().chains


def test_a_second_growth_follows_the_first_and_the_oldest_topic_may_go(
    operator: Operator, kafka_cluster: KafkaCluster
) -> None:
    zone = "twice"
    operator.make_zone(zone)
    assert (operator.grow(zone, 4), operator.grow(zone, 8)) == (Exit.OK, Exit.OK)
    seen = operator.seen(zone)
    assert [t.generation for t in seen.growth.read().chains[zone]] == [2, 3]
    kafka_cluster.delete_topic(command_topic(zone))
    assert _of_commands(seen) == []
    kafka_cluster.delete_topic(command_topic(zone, 3))
    assert _of_commands(seen) == [f"{command_topic(zone, 3)} topic"]
    topologies = seen.growth.read()
    needed = seen.create(topologies)
    assert command_topic(zone, 3) in needed
    assert command_topic(zone) not in needed


def _newest(seen: Cluster, zone: str) -> Any:
    newest = seen.newest(seen.growth.read(), zone)
    assert newest is not None
    return newest


def _key(fleet: Fleet, name: str) -> Path:
    return fleet.data.keys / f"{name}.key"


# The fleet


@pytest.mark.parametrize("load_s", [0.2, pytest.param(60, marks=pytest.mark.faults)])
def test_a_growth_under_load_with_workers_killed_in_the_middle_loses_and_doubles_nothing(
    fleet: Fleet, operator: Operator, load_s: float
) -> None:
    """64 partitions become 256 (then 512) while three nodes receive commands to kill; one of them is off all the while,
    and the dispatcher and another node die just then."""
    before = _newest(operator.seen(ZONE), ZONE)
    after = before.grown(before.partitions * (4 if before.generation == 1 else 2), at_ns=1)
    if not fleet.running:
        fleet.up([role for role in ROLES if role != "responder"])
    for name in EXTRA:
        if name not in fleet.running:
            fleet.spawn(name)
    nodes = {"node": fleet.node_id, **EXTRA}
    with _asking(fleet) as client:
        _await_nodes(fleet)
        turns = itertools.cycle(nodes.values())
        client.hosts = lambda: next(turns)
        client.kill()
        fleet.kill("node-c")
        waiting = [client.kill_at(EXTRA["node-c"], ttl_s=600) for _ in range(5)]
        over = threading.Event()

        def load() -> None:
            while not over.is_set():
                client.mixed(6, randomness=_KILLS, at_once=3)

        with meanwhile(load):
            _await(lambda: len(client.orders) > 20, "the load began")
            assert operator.grow(ZONE, after.partitions) == Exit.OK
            kills = _kill_in_turns(fleet, load_s)
            at = len(client.orders)
            _await(lambda: len(client.orders) > at + 12, "the load went on")
            over.set()
        fleet.spawn("node-c")
        back = time.monotonic()
        for host in nodes.values():
            client.kill_at(host)
        settled_s = client.settled(SETTLE_S, since=back)
        verdict = client.judge()
        fleet.all_alive()
        fleet.no_traceback()
        lain = _where_commands_lie(fleet, before.topic, after.topic)
    ids = [each.execution_id for each in client.orders]
    assert all(len(lain[execution_id]) == 1 for execution_id in ids), "a command on two generations, or on none"
    assert all(
        lain[each.execution_id] == {(before.topic, partition_for(EXTRA["node-c"], before.partitions))}
        for each in waiting
    )
    by_topic = Counter(topic for execution_id in ids for topic, _ in lain[execution_id])
    on_new = {partition for execution_id in ids for topic, partition in lain[execution_id] if topic == after.topic}
    assert on_new == {partition_for(node_id, after.partitions) for node_id in nodes.values()}
    print(
        f"\n{before.partitions} to {after.partitions} partitions, {kills} kills under load: {verdict}; by topic "
        f"{dict(by_topic)}; all settled {settled_s:.1f} s after the last node was started again"
    )


def _kill_in_turns(fleet: Fleet, seconds: float) -> int:
    """The dispatcher, then a node, then the other, and so on; each is started again at once. How many."""
    end = time.monotonic() + seconds
    for count, role in enumerate(itertools.cycle(["dispatcher", "node-b", "node"])):
        if count >= 2 and time.monotonic() > end:
            return count
        fleet.kill(role)
        fleet.spawn(role)
        time.sleep(min(1.5, seconds))
    raise AssertionError


class _Kills:
    """In place of a random choice: this load is kills only."""

    def choices(self, kinds: list[Any], weights: list[int], *, k: int) -> list[Any]:
        return kinds[:1] * k


_KILLS: Any = _Kills()


@contextmanager
def _asking(fleet: Fleet) -> Iterator[OfAllNodes]:
    with ExitStack() as stack:
        processes, wire = stack.enter_context(VictimProcesses()), stack.enter_context(fleet.wire())
        files = VictimFiles(fleet.data.root.parent / "files", fleet.vault)
        yield stack.enter_context(OfAllNodes(fleet, processes, files, wire))


def _await_nodes(fleet: Fleet) -> None:
    with fleet.http_client() as http:
        for node_id in EXTRA.values():
            _await(lambda node=node_id: http.get(f"/api/v1/nodes/{node}").is_success, f"node {node_id}")  # type: ignore[misc]


def _await(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def _where_commands_lie(fleet: Fleet, *topics: str) -> Mapping[str, set[tuple[str, int]]]:
    """Topics and partitions by execution id, as an outsider reads them."""
    lain: dict[str, set[tuple[str, int]]] = defaultdict(set)
    with Wire(fleet.bootstrap_servers, topics) as wire:
        wire.read_to_the_end()
        for topic in topics:
            for record in wire.records(topic):
                lain[record.read.fields["command_id"]].add((topic, record.partition))
    return lain
