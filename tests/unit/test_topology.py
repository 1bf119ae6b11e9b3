"""Generations of a zone's command topic: every node has one partition in each, and records are followed in order
only."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from workers.domain.ids import KeyId, NodeId
from workers.domain.log.routing import command_topic, generation_of, partition_for
from workers.domain.log.topology import MAX_PARTITIONS, READ_ON_NS, Topology, first, objection
from workers.domain.request_bounds import DAY_S
from workers.domain.trust.keyset import KeyRole, Signatory
from workers.log.topic_catalogue import load_topics
from workers.wire.avro import AvroCodec

OPERATOR = Signatory(KeyId("k"), KeyRole.OPERATOR, "operator")
zones = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
node_ids = st.text("0123456789abcdef", min_size=32, max_size=32).map(NodeId)
growths = st.lists(st.integers(1, 3), max_size=4)
"""By how many doublings each generation is larger than the one before."""


def chain_of(zone: str, doublings: list[int], partitions: int = 64) -> list[Topology]:
    chain = [first(zone, partitions)]
    for number in doublings:
        chain.append(chain[-1].grown(min(chain[-1].partitions << number, MAX_PARTITIONS), at_ns=number))
    return chain


@given(zones, node_ids, growths)
def test_every_node_has_one_partition_in_every_generation(zone: str, node_id: NodeId, doublings: list[int]) -> None:
    chain = chain_of(zone, doublings)
    places = [topology.place_of(node_id) for topology in chain]
    assert len({topic for topic, _ in places}) == len(chain)
    for topology, (topic, partition) in zip(chain, places, strict=True):
        assert topic == command_topic(zone, topology.generation)
        assert partition == partition_for(node_id, topology.partitions)
        assert 0 <= partition < topology.partitions


@given(node_ids, growths)
def test_nodes_that_share_no_partition_never_share_one_after_a_doubling(node_id: NodeId, doublings: list[int]) -> None:
    """Growth by doubling only ever splits a partition's nodes: no node gets new neighbours."""
    chain = chain_of("default", doublings)
    for older, newer in itertools.pairwise(chain):
        if newer.partitions % older.partitions == 0:
            assert newer.place_of(node_id)[1] % older.partitions == older.place_of(node_id)[1]


@given(zones, zones, st.integers(1, 1000))
def test_a_topic_s_generation_is_read_off_its_name_in_its_own_zone_alone(zone: str, other: str, number: int) -> None:
    assert generation_of(command_topic(zone, number), zone) == number
    if other != zone:
        assert generation_of(command_topic(zone, number), other) == 0


@given(zones, st.text("0123456789g.-²", max_size=12))
def test_a_name_of_another_form_is_not_a_generation(zone: str, tail: str) -> None:
    topic = f"{command_topic(zone)}{tail}"
    number = generation_of(topic, zone)
    assert number == 0 or topic == command_topic(zone, number)


@given(growths, st.data())
def test_records_in_any_order_and_number_are_followed_one_by_one_and_never_back(
    doublings: list[int], data: st.DataObject
) -> None:
    chain = chain_of("default", doublings)
    newest, expected = chain[0], 1
    for record in data.draw(st.lists(st.sampled_from(chain), max_size=12)):
        fault = objection(record, OPERATOR, newest)
        follows = record.generation == expected + 1
        assert (fault == "") is follows
        if follows:
            newest, expected = record, record.generation
    assert newest.generation == expected


@given(st.sampled_from([role for role in KeyRole if role is not KeyRole.OPERATOR]))
def test_only_an_operator_is_followed(role: KeyRole) -> None:
    one = first("default", 64)
    assert objection(one.grown(256, at_ns=1), replace(OPERATOR, role=role), one) == "not_an_operator"


def test_each_generation_s_record_has_a_key_of_its_own() -> None:
    chain = chain_of("default", [2, 1])
    assert [topology.key for topology in chain] == [b"default/1", b"default/2", b"default/3"]


def test_a_record_travels_whole() -> None:
    codec, two = AvroCodec(), first("default", 64).grown(256, at_ns=9)
    assert codec.decode(codec.encode(two), Topology) == two


def test_an_old_generation_is_read_for_longer_than_a_command_can_live_or_lie_there() -> None:
    (kept_s,) = {topic.retention_s for topic in load_topics() if topic.name == command_topic("<zone>")}
    assert kept_s is not None
    assert max(DAY_S, kept_s) * 1_000_000_000 < READ_ON_NS
