"""A real cluster's topics and access rules, held against the catalogue and against what operators recorded of growth.

Called by ``douse topics diff``, ``apply``, ``grow`` and ``acls``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from workers.domain.errors import ConfigError, Problem
from workers.domain.log.topic_spec import ZONE, Acl, TopicSpec, acls
from workers.domain.log.topology import Topology, first
from workers.domain.trust.keyset import KeyRole

if TYPE_CHECKING:
    from workers.log.access import AccessAdmin
    from workers.log.admin import Difference, TopicAdmin
    from workers.log.topologies import TopologyChains, TopologyLog
    from workers.settings import OperatorKeys
    from workers.system.ports import Failpoints
    from workers.wire.ports import RecordSigner, RecordVerifier


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, and what it should look like."""

    topics: "TopicAdmin"
    access: "AccessAdmin"
    growth: "TopologyLog"
    catalogue: Sequence[TopicSpec]
    zones: Sequence[str]
    failpoints: "Failpoints"

    def differences(self, topologies: "TopologyChains") -> "Sequence[Difference]":
        """Raises ``TransientFailure`` when the cluster is away."""
        needed, past = self._wanted(topologies)
        gone = {spec.name for spec in past}
        found = self.topics.differences((*needed, *past), zones=())
        return [each for each in found if each.topic not in gone or each.setting != "topic"]

    def create(self, topologies: "TopologyChains") -> Sequence[str]:
        """Raises ``TransientFailure`` when the cluster is away or refuses a topic."""
        needed, _ = self._wanted(topologies)
        return self.topics.create(needed, zones=())

    def grant(self) -> int:
        """Raises ``TransientFailure`` when the cluster is away or holds no access rules."""
        rules = allowed(self.catalogue, self.zones)
        return self.access.grant(rules.topics, groups=rules.groups)

    def newest(self, topologies: "TopologyChains", zone: str) -> Topology | None:
        """The generation that a zone's commands go to; None where there is no such zone. Raises as ``differences``."""
        chain = topologies.chains.get(zone)
        if chain:
            return chain[-1]
        (spec,) = (spec for spec in self.catalogue if ZONE in spec.name)
        partitions = self.topics.partitions_of(spec.name_in(zone))
        return first(zone, partitions) if partitions else None

    def make(self, topology: Topology) -> int:
        """Make a generation's topic, unless it is there; how many partitions it has. Raises as ``create``."""
        (spec,) = (spec for spec in self.catalogue if ZONE in spec.name)
        self.topics.create([_generation(spec, topology)], zones=())
        return self.topics.partitions_of(topology.topic)

    def _wanted(self, topologies: "TopologyChains") -> tuple[Sequence[TopicSpec], Sequence[TopicSpec]]:
        """What must be there; and command topics of older generations, which may be removed one day."""
        needed: list[TopicSpec] = []
        past: list[TopicSpec] = []
        for spec in self.catalogue:
            for zone in self.zones if ZONE in spec.name else ("",):
                *older, newest = (
                    replace(spec, name=spec.name_in(zone)),
                    *(_generation(spec, topology) for topology in topologies.chains.get(zone, ())),
                )
                needed.append(newest)
                past += older
        return needed, past


def _generation(spec: TopicSpec, topology: Topology) -> TopicSpec:
    return replace(spec, name=topology.topic, partitions=topology.partitions)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Everything that Kafka users may do."""

    topics: Sequence[Acl]
    groups: Sequence[tuple[str, str]]
    """A user, and the consumer group that it may use."""


def allowed(wanted: Sequence[TopicSpec], zones: Sequence[str]) -> Allowed:
    """What the catalogue allows, to users named after the roles; with several zones a node's user is ``node-<zone>``,
    because a node reads its own zone's commands only."""
    from workers.settings import ResponderSettings

    named = [replace(acl, principal=_user(acl.principal, zones)) for acl in acls(wanted, zones)]
    every_node = [_user(f"node/{zone}", zones) for zone in zones]
    rules = {
        each
        for acl in named
        for each in ([replace(acl, principal=user) for user in every_node] if acl.principal == "node" else [acl])
    }
    group = str(ResponderSettings.model_fields["group"].default)
    return Allowed(sorted(rules), [("responder", group)])


def access_rules(zones: Sequence[str]) -> Allowed:
    """What ``grant`` puts in place, without asking a cluster.

    Raises:
        ConfigError: a file of the catalogue is wrong.
    """
    from workers.log.topic_catalogue import load_topics

    return allowed(load_topics(), zones)


def _user(principal: str, zones: Sequence[str]) -> str:
    role, _, zone = principal.partition("/")
    return f"{role}-{zone}" if zone and len(zones) > 1 else role


def cluster(config: Path, zones: Sequence[str], replication: int, *, signs: bool = False) -> Cluster:
    """The cluster that a file's ``kafka:`` section names; with ``signs`` its ``keys:`` must hold an operator's key.

    Raises:
        ConfigError: the file, a security file or a key of it cannot be used.
    """
    from workers.log.access import AccessAdmin
    from workers.log.admin import TopicAdmin
    from workers.log.topic_catalogue import load_topics
    from workers.log.topologies import TopologyLog
    from workers.settings import ClusterSettings, parse
    from workers.system.clock import SystemClock
    from workers.system.failpoints import failpoints
    from workers.system.telemetry import quiet
    from workers.system.yaml_files import read_mapping

    settings = parse(ClusterSettings, read_mapping(config), file=config)
    kafka = settings.kafka
    telemetry, clock = quiet("error"), SystemClock()
    verifier, signer = _signing(settings.keys, signs=signs)
    return Cluster(
        TopicAdmin(kafka, telemetry=telemetry, clock=clock, replication=replication),
        AccessAdmin(kafka, telemetry=telemetry, clock=clock),
        TopologyLog(kafka, verifier=verifier, signer=signer, telemetry=telemetry, clock=clock),
        load_topics(),
        tuple(zones),
        failpoints(os.environ),
    )


def _signing(keys: "OperatorKeys | None", *, signs: bool) -> "tuple[RecordVerifier | None, RecordSigner | None]":
    from workers.system.clock import SystemClock
    from workers.wire.avro import AvroCodec
    from workers.wire.keys import load_keyset, load_private_key
    from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier

    if signs and (keys is None or keys.private_key is None):
        reason = "is missing; every worker verifies a growth, so an operator's key must sign it"
        raise ConfigError((Problem("keys" if keys is None else "keys.private_key", reason),))
    if keys is None:
        return None, None
    codec, keyset = AvroCodec(), load_keyset(keys.keyset)
    verifier = EnvelopeVerifier(keyset, codec, clock=SystemClock())
    if not signs or keys.private_key is None:
        return verifier, None
    signer = EnvelopeSigner(load_private_key(keys.private_key), codec)
    known = keyset.keys.get(signer.key_id)
    if known is None or known.revoked or known.role is not KeyRole.OPERATOR:
        raise ConfigError((Problem("keys.private_key", f"is no operator's key in keyset version {keyset.version}"),))
    return verifier, signer
