"""A real cluster's topics and access rules, held against the catalogue.

Called by ``douse topics diff``, ``douse topics apply`` and ``douse topics acls``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from workers.core.topic_spec import Acl, TopicSpec, acls

if TYPE_CHECKING:
    from workers.adapters.kafka.access import AccessAdmin
    from workers.adapters.kafka.admin import Difference, TopicAdmin


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, and what it should look like."""

    topics: "TopicAdmin"
    access: "AccessAdmin"
    wanted: Sequence[TopicSpec]
    zones: Sequence[str]

    def differences(self) -> "Sequence[Difference]":
        """Raises ``TransientFailure`` when the cluster is away."""
        return self.topics.differences(self.wanted, zones=self.zones)

    def create(self) -> Sequence[str]:
        """Raises ``TransientFailure`` when the cluster is away or refuses a topic."""
        return self.topics.create(self.wanted, zones=self.zones)

    def grant(self) -> int:
        """Raises ``TransientFailure`` when the cluster is away or holds no access rules."""
        rules = allowed(self.wanted, self.zones)
        return self.access.grant(rules.topics, groups=rules.groups)


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
    from workers.adapters.topic_catalogue import load_topics

    return allowed(load_topics(), zones)


def _user(principal: str, zones: Sequence[str]) -> str:
    role, _, zone = principal.partition("/")
    return f"{role}-{zone}" if zone and len(zones) > 1 else role


def cluster(config: Path, zones: Sequence[str], replication: int) -> Cluster:
    """The cluster that a file's ``kafka:`` section names.

    Raises:
        ConfigError: the file or a security file of it cannot be used.
    """
    from workers.adapters.clock import SystemClock
    from workers.adapters.kafka.access import AccessAdmin
    from workers.adapters.kafka.admin import TopicAdmin
    from workers.adapters.telemetry import quiet
    from workers.adapters.topic_catalogue import load_topics
    from workers.adapters.yaml_files import read_mapping
    from workers.settings import ClusterSettings, parse

    kafka = parse(ClusterSettings, read_mapping(config)).kafka
    telemetry, clock = quiet(), SystemClock()
    return Cluster(
        TopicAdmin(kafka, telemetry=telemetry, clock=clock, replication=replication),
        AccessAdmin(kafka, telemetry=telemetry, clock=clock),
        load_topics(),
        tuple(zones),
    )
