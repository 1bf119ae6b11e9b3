"""Fleets for the whole-system tests: one on the embedded broker, one on a real Kafka, for the length of a module."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.client import FleetClient
from tests.e2e.fleet import Fleet, embedded_zones, fleet_on
from tests.e2e.victim_files import VictimFiles
from tests.e2e.victim_processes import VictimProcesses
from tests.kafka.cluster import KafkaCluster
from tests.kafka.distribution import Distribution
from workers.cli.up.data_dir import DataDir
from workers.wiring import one_machine


@pytest.fixture(scope="module")
def embedded_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Five workers on the embedded broker."""
    root = tmp_path_factory.mktemp("embedded")
    with (
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(root / "data"), servers, log_id="this-run", fetch_wait_ms=2) as fleet,
    ):
        yield fleet.up()


@pytest.fixture(scope="module")
def kafka_cluster(kafka_distribution: Distribution) -> Iterator[KafkaCluster]:
    """A real broker of this module's own: the names of our topics are fixed."""
    with KafkaCluster(kafka_distribution) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kafka_fleet(kafka_cluster: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Five workers on a real Kafka."""
    root = tmp_path_factory.mktemp("kafka")
    with fleet_on(kafka_cluster, root / "data", partitions=4) as fleet:
        yield fleet.up()


@pytest.fixture
def fresh_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Five workers on an embedded broker, for one test that breaks them."""
    with (
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(tmp_path / "data"), servers, log_id="this-run", fetch_wait_ms=2) as fleet,
    ):
        yield fleet.up()


class NewClient:
    """Opens clients that are closed with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, fleet: Fleet) -> FleetClient:
        processes = self._stack.enter_context(VictimProcesses())
        wire = self._stack.enter_context(fleet.wire())
        files = VictimFiles(fleet.data.root.parent / f"files-{secrets.token_hex(4)}", fleet.vault)
        return self._stack.enter_context(FleetClient(fleet, processes, files, wire))


@pytest.fixture
def new_client() -> Iterator[NewClient]:
    """`new_client(fleet)`: sends requests and checks what came of them."""
    with ExitStack() as stack:
        yield NewClient(stack)
