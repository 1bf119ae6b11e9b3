"""What a topic is: which principals write and read it, its records, its retention; and the ACLs that follow.

Read from ``topics/*.yaml`` by ``log.topic_catalogue``; used by ``douse topics``, the embedded broker and the docs.
Pure values and pure derivations: no ACL is written by hand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

ZONE: Final = "<zone>"
"""Stands for a zone's name in the name of a topic that each zone has."""

REPLICATION: Final = 3
MIN_IN_SYNC: Final = 2
"""With ``acks=all``: a record is acknowledged when two brokers have it, and one may be down."""


class Principal(StrEnum):
    """The clients of Kafka, each with credentials of its own."""

    DETECTOR = "detector"
    GATEWAY = "gateway"
    RESPONDER = "responder"
    DISPATCHER = "dispatcher"
    NODE = "node"
    PROJECTOR = "projector"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    """Outside subscribers to results and audit."""


class Key(StrEnum):
    """What a record's key is."""

    NONE = "none"
    NODE_ID = "node_id"
    EXECUTION_ID = "execution_id"
    CHAIN_ID = "chain_id"
    ID = "id"
    ORIGINAL = "original"


class Format(StrEnum):
    """How a record's value is written."""

    AVRO = "avro"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic, or one for each zone."""

    name: str
    """Holds ``<zone>`` where every zone has one."""
    summary: str
    key: Key
    format: Format
    records: tuple[str, ...]
    """Names of the records in the value; inside an Envelope where ``signed``."""
    signed: bool
    partitions: int
    producers: tuple[Principal, ...]
    consumers: tuple[Principal, ...]
    retention_s: int | None = None
    """Seconds; None for compacted topics, which keep the newest record of each key."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the topic, as Kafka names them."""

    def name_in(self, zone: str) -> str:
        """The topic's name, for one zone where each has its own."""
        return self.name.replace(ZONE, zone)

    def kafka_config(self) -> Mapping[str, str]:
        """The whole configuration of the topic on a production cluster."""
        kept = {"retention.ms": str(self.retention_s * 1000)} if self.retention_s is not None else {}
        return {
            "cleanup.policy": "delete",
            "min.insync.replicas": str(MIN_IN_SYNC),
            "unclean.leader.election.enable": "false",
            **kept,
            **self.config,
        }


_WORKERS: Final = frozenset(
    {Principal.GATEWAY, Principal.RESPONDER, Principal.DISPATCHER, Principal.NODE, Principal.PROJECTOR}
)


def believed_unsigned(topics: Iterable[TopicSpec]) -> Iterator[tuple[TopicSpec, tuple[Principal, ...]]]:
    """The topics whose records workers believe without a signature, and which workers those are."""
    for topic in topics:
        workers = tuple(each for each in topic.consumers if each in _WORKERS)
        if workers and not topic.signed:
            yield topic, workers


class Operation(StrEnum):
    """What an ACL allows; Kafka adds Describe to each by itself."""

    READ = "Read"
    WRITE = "Write"


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One thing that one principal may do."""

    principal: str
    """A role; for what a node may do in its own zone only, ``node/<zone>``."""
    operation: Operation
    topic: str
    prefix: bool = False
    """Whether it holds for every topic with this prefix."""


def acls(topics: Iterable[TopicSpec], zones: Sequence[str]) -> tuple[Acl, ...]:
    """Everything that is allowed on these topics, zone by zone where each has its own; all else is denied."""
    return tuple(sorted({acl for topic in topics for acl in _acls(topic, zones)}))


def _acls(topic: TopicSpec, zones: Sequence[str]) -> Iterator[Acl]:
    zonal = ZONE in topic.name
    for operation, principals in ((Operation.WRITE, topic.producers), (Operation.READ, topic.consumers)):
        for principal in principals:
            for zone in zones if zonal else ("",):
                own = zonal and principal is Principal.NODE
                acl = Acl(f"{principal}/{zone}" if own else principal.value, operation, topic.name_in(zone))
                yield acl
                if zonal:  # the generations to come, so that no growth waits for a rule; no zone's name has a dot
                    yield replace(acl, topic=f"{acl.topic}.g", prefix=True)
