"""Grants on a real cluster exactly what the topic catalogue allows, and nothing else.

Called by ``douse topics apply --acls`` (through ``wiring``) and by tests; calls Kafka's admin API. Only ever grants:
an operator who granted more than that must revoke it.
"""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from workers.domain.log.topic_spec import Acl, Operation
from workers.log.client_events import ClientEvents, could_not_open, unavailable
from workers.log.config import admin_config
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ASK_S: Final = 20.0

_OPERATIONS: Final = {Operation.READ: AclOperation.READ, Operation.WRITE: AclOperation.WRITE}


class AccessAdmin:
    """The access rules of one cluster."""

    def __init__(self, settings: KafkaSettings, *, telemetry: Telemetry, clock: Clock) -> None:
        """Raises ``ConfigError``."""
        try:
            self._client = AdminClient(admin_config(settings), logger=ClientEvents(telemetry, clock))
        except KafkaException as error:
            raise could_not_open(error) from error

    def grant(self, acls: Iterable[Acl], *, groups: Iterable[tuple[str, str]]) -> int:
        """Grant these on topics, and to each (principal, group) the use of a consumer group; how many in all.

        Doing it again is safe. Raises ``TransientFailure`` when the cluster is unreachable, or has no authorizer
        and so cannot hold rules.
        """
        wanted = [
            _binding(ResourceType.TOPIC, acl.topic, acl.principal, _OPERATIONS[acl.operation], prefix=acl.prefix)
            for acl in acls
        ]
        wanted += [_binding(ResourceType.GROUP, group, principal, AclOperation.READ) for principal, group in groups]
        for binding, future in self._client.create_acls(wanted, request_timeout=_ASK_S).items():
            try:
                future.result(_ASK_S)
            except (KafkaException, TimeoutError) as error:
                raise unavailable(f"the access rule of {binding.principal} on {binding.name}", error) from error
        return len(wanted)


def _binding(
    kind: ResourceType, name: str, principal: str, operation: AclOperation, *, prefix: bool = False
) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    return AclBinding(kind, name, pattern, f"User:{principal}", "*", operation, AclPermissionType.ALLOW)
