"""Ten thousand dry runs and five hundred kills in one go for one node, and somebody urgent among them.

On a real Kafka: the embedded broker would forget half of such a partition. A person asks for one kill a second while
the flood is being worked off; each is timed from the request's writing to the kernel's word that the process died.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bench.board import Board
from tests.bench.through_kafka import Client, ended, kill_request, requester
from tests.e2e.fleet import Fleet, make_topics
from tests.e2e.victim_processes import VictimProcesses, facts_of
from tests.kafka.cluster import KafkaCluster
from tests.kafka.distribution import Distribution
from workers.cli.up.data_dir import DataDir
from workers.domain.ids import ExecutionId
from workers.domain.log.topics import REQUESTS_PEOPLE, REQUESTS_RULES, RESULTS
from workers.domain.request import ActorKind
from workers.domain.result import ActionResult
from workers.domain.trust.envelope import Envelope
from workers.system import yaml_files
from workers.wire.avro import AvroCodec

DRY_RUN_RANKS = 10_000
KILLS = 500
QUEUE = 20_000
GIVE_UP_S = 240


@pytest.mark.fault("F26")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("flood", [ActorKind.RULE, ActorKind.PERSON])
def test_an_urgent_kill_in_a_burst_of_ten_thousand(
    kafka_distribution: Distribution, tmp_path: Path, board: Board, flood: ActorKind
) -> None:
    with (
        KafkaCluster(kafka_distribution) as cluster,
        Fleet(DataDir(tmp_path / "data"), cluster.bootstrap_servers, fetch_wait_ms=10_000) as fleet,
        VictimProcesses() as victims,
        ExitStack() as stack,
    ):
        make_topics(fleet.kafka, partitions=8)
        _long_queues(fleet)
        fleet.up()
        codec, client = AvroCodec(), stack.enter_context(closing(Client(fleet.kafka, RESULTS)))
        signer, person = requester(fleet.data.keys, flood), requester(fleet.data.keys)
        topic = REQUESTS_RULES if flood is ActorKind.RULE else REQUESTS_PEOPLE
        dry = [facts_of(victims.spawn()) for _ in range(16)]
        asked = [
            kill_request(signer, fleet.node_id, dry[number % 16], dry_run=True, by=flood)
            for number in range(DRY_RUN_RANKS)
        ]
        doomed = [facts_of(victims.spawn()) for _ in range(KILLS)]
        every = DRY_RUN_RANKS // KILLS
        for number, facts in enumerate(doomed):
            asked.insert(number * (every + 1), kill_request(signer, fleet.node_id, facts, dry_run=False, by=flood))
        processes = {role: psutil.Process(fleet.running[role].pid) for role in ("dispatcher", "node")}
        before = {role: process.memory_info().rss for role, process in processes.items()}

        began = time.monotonic()
        for key, body in asked:
            client.send(topic, body, key.encode())
        open_ = {key for key, _ in asked}
        urgent: list[Urgent] = []
        reported: list[Any] = []
        while open_:
            now = time.monotonic() - began
            assert now < GIVE_UP_S, f"{len(open_)} are open\n{fleet.log_tails()}"
            if now >= len(urgent) + 1:
                pid = victims.spawn()
                key, body = kill_request(person, fleet.node_id, facts_of(pid), dry_run=False)
                urgent.append(Urgent(key, pid, time.time_ns()))
                client.send(REQUESTS_PEOPLE, body, key.encode())
                open_.add(key)
            came = client.read(0.02)
            reported += came
            open_.difference_update(ended(came))
        took = time.monotonic() - began
        grown = {role: (process.memory_info().rss - before[role]) / 2**20 for role, process in processes.items()}
        waits = [each.seconds_to(victims.died_ns(each.pid)) for each in urgent]
        for each in urgent:
            print(f"{each.stages(reported, codec)}, died {each.seconds_to(victims.died_ns(each.pid)):.2f} s")
        fleet.no_traceback()
    name = f"burst of {DRY_RUN_RANKS:,} + {KILLS} by a {flood.value}"
    board.alone(
        f"{name}: all ended", "a second", (DRY_RUN_RANKS + KILLS) / took, f"within {took:.1f} s; F26 asks for 60 s"
    )
    board.alone(f"{name}: urgent kill at 1 s", "s", waits[0], "F26 asks for 2 s")
    board.alone(f"{name}: worst urgent kill", "s", max(waits), f"of {len(waits)}, one a second")
    for role, megabytes in grown.items():
        board.alone(f"{name}: {role} grew by", "MB", megabytes, "F26 asks for 200 MB at most")
    assert min(waits) > 0


@dataclass(frozen=True, slots=True)
class Urgent:
    """One kill that a person asked for in the middle."""

    key: ExecutionId
    pid: int
    sent_ns: int

    def seconds_to(self, moment_ns: int | None) -> float:
        """Since it was sent."""
        return ((moment_ns or 0) - self.sent_ns) / 1e9

    def stages(self, reported: Sequence[Any], codec: AvroCodec) -> str:
        """Where the time went, by what dispatcher and node said themselves."""
        ours = [message.value() for message in reported if self.key.encode() in (message.value() or b"")]
        steps = sorted((codec.decode(codec.decode(v, Envelope).payload, ActionResult) for v in ours), key=_at)
        return ", ".join(f"{step.stage} {self.seconds_to(step.at_ns):.2f} s" for step in steps)


def _at(step: ActionResult) -> int:
    return step.at_ns


def _long_queues(fleet: Fleet) -> None:
    path = fleet.data.config("node")
    settings = dict(yaml_files.read_mapping(path))
    settings["features"]["respond"]["response_actions"]["queue_length"] = QUEUE
    yaml_files.write(path, settings)
