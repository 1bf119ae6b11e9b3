"""A real node process follows a growth while it runs, and nobody's but an operator's. Broker: embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.components import require
from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.node_process import NODE, PARTITIONS, PLACE, TOPIC, NodeSite, Victim
from workers.domain.log import topics
from workers.domain.log.topology import Topology, first
from workers.domain.outcome import Outcome
from workers.domain.trust.envelope import PayloadType
from workers.log.embedded import EmbeddedBroker
from workers.wire.avro import AvroCodec
from workers.wire.keys import load_private_key
from workers.wire.signing import EnvelopeSigner, PrivateKey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SECOND = first("default", PARTITIONS).grown(16, at_ns=1)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    require("linux", "pidfds and /proc are what the node acts through")
    read = (topics.RESULTS, topics.AUDIT, topics.DEAD_LETTERS, topics.NODES, topics.TOPOLOGY)
    with EmbeddedBroker({TOPIC: PARTITIONS, **dict.fromkeys(read, 1)}) as made:
        yield made


def tell(site: NodeSite, topology: Topology, key: PrivateKey) -> None:
    value = EnvelopeSigner(key, AvroCodec()).sign(PayloadType.TOPOLOGY, topology).value
    site.put(value, key=topology.key, at=(topics.TOPOLOGY, 0))
    site.flush()


def reported(site: NodeSite, kind: str) -> list[int | str]:
    return [record.detail["generation"] for record in site.read().audit if record.kind == kind]


def test_a_growth_is_followed_without_a_restart_and_found_after_one(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with NodeSite(tmp_path, broker.bootstrap_servers) as site:
        victims = Victim.several(5)
        try:
            site.start()
            operator = load_private_key(tmp_path / "keys" / "operator.key")
            tell(site, replace(SECOND, partitions=7), load_private_key(tmp_path / "keys" / "dispatcher.key"))
            site.until(lambda seen: any(record.kind == "topology_refused" for record in seen.audit))
            broker.create_topic(SECOND.topic, SECOND.partitions)
            orders = [site.kill(victim.pid) for victim in victims]
            site.send(orders[0])
            tell(site, SECOND, operator)
            site.send(orders[1], at=SECOND.place_of(NODE))
            site.send(orders[2])
            for order in orders[:3]:
                assert site.ended(order.command_id).outcome is Outcome.COMPLETED
            assert reported(site, "topology") == [2]

            assert site.stop() == 0
            third = SECOND.grown(64, at_ns=2)
            broker.create_topic(third.topic, third.partitions)
            site.send(orders[3])
            tell(site, third, operator)
            site.send(orders[4], at=third.place_of(NODE))
            site.start()
            for order in orders[3:]:
                assert site.ended(order.command_id).outcome is Outcome.COMPLETED
            assert reported(site, "topology") == [2, 3]
            assert len(reported(site, "topology_refused")) == 1
            beat = site.until(lambda seen: seen.heartbeats[-1] if len(seen.heartbeats[-1].positions) == 4 else None)
            assert {(at.topic, at.partition) for at in beat.positions} == {
                PLACE,
                SECOND.place_of(NODE),
                third.place_of(NODE),
                (topics.TOPOLOGY, 0),
            }
            pairs = zip(orders, victims, strict=True)
            check_all(site.observation([Effect(o.command_id, str(v.pid)) for o, v in pairs if v.killed]))
            assert all(victim.killed for victim in victims)
        finally:
            for victim in victims:
                victim.bury()
