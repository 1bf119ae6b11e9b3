"""Routing: Kafka's own murmur2, so that every client agrees on a node's partition."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.ids import NodeId
from workers.domain.log.routing import command_topic, murmur2, partition_for


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        # The vectors of Apache Kafka's own UtilsTest.testMurmur2, as Java's signed numbers.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafka_s(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % (1 << 32)


@given(st.binary(max_size=64))
def test_murmur2_is_32_bits(data: bytes) -> None:
    assert 0 <= murmur2(data) < 1 << 32


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(1, 10_000))
def test_a_partition_exists_and_is_always_the_same(node_id: str, partitions: int) -> None:
    partition = partition_for(NodeId(node_id), partitions)
    assert 0 <= partition < partitions
    assert partition == partition_for(NodeId(node_id), partitions)


def test_nodes_spread_over_the_partitions() -> None:
    counts = Counter(partition_for(NodeId(f"{n:032x}"), 64) for n in range(6400))
    assert len(counts) == 64
    assert max(counts.values()) < 200


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_topic_without_partitions_is_refused(partitions: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        partition_for(NodeId("a" * 32), partitions)


def test_a_new_generation_is_a_topic_of_its_own() -> None:
    assert command_topic("eu") == "response.commands.eu"
    assert command_topic("eu", 2) == "response.commands.eu.g2"
