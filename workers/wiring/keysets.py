"""Publishes an operator's keysets to the workers. Called by ``douse keys publish``."""

from collections.abc import Sequence
from pathlib import Path

from workers.domain.errors import ConfigError, Problem


def publish_keysets(config: Path, directory: Path) -> Sequence[int]:
    """Append every version of a key directory that ``response.policy`` does not hold; the numbers of those.

    Raises:
        ConfigError: the directory, or the brokers that ``config`` names, cannot be used; or a version is too large.
        TransientFailure: the cluster is unreachable.
    """
    from workers.domain.log import topics
    from workers.domain.log.record import OutRecord
    from workers.domain.trust.envelope import MAX_ENVELOPE_BYTES
    from workers.log.whole_topic import append, whole_topic
    from workers.settings import KafkaSettings, parse
    from workers.system.clock import SystemClock
    from workers.system.telemetry import quiet
    from workers.system.yaml_files import read_mapping
    from workers.wire.keys import versions

    section = read_mapping(config).get("kafka")
    if not isinstance(section, dict):
        raise ConfigError(f"{config}: kafka is missing; name a worker's settings file")
    kafka, telemetry, clock = parse(KafkaSettings, section), quiet("error"), SystemClock()
    wanted = versions(directory)
    for number, document in wanted.items():
        if len(document) > MAX_ENVELOPE_BYTES:
            reason = (
                f"version {number} has {len(document)} bytes, more than {MAX_ENVELOPE_BYTES}: copy it to the workers"
            )
            raise ConfigError((Problem(str(directory), reason),))
    known = {record.value for record in whole_topic(kafka, topics.POLICY, telemetry=telemetry, clock=clock)}
    missing = {number: document for number, document in wanted.items() if document not in known}
    records = [
        OutRecord(topics.POLICY, f"keyset/{number}".encode(), document, partition=0)
        for number, document in missing.items()
    ]
    append(kafka, records, telemetry=telemetry, clock=clock)
    return tuple(missing)
