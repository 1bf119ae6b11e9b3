"""Response rules, put together with the catalogue of actions that they may name; and what the doctor asks.

Called by the responder's composition and by ``douse rules`` and ``douse doctor``.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.domain.errors import ConfigError, Problem
from workers.domain.rules.rule import Rules
from workers.wiring.actions import action_shapes

if TYPE_CHECKING:
    from workers.settings import KafkaSettings


def partitions_of(settings: "KafkaSettings", topic: str) -> int:
    """How many partitions a topic has: the shortest question that only a broker can answer.

    Raises:
        ConfigError: the settings cannot be used.
        TransientFailure: no answer within 10 s, or the topic is not there.
    """
    from workers.log.readers import KafkaLogReader
    from workers.system.clock import SystemClock
    from workers.system.telemetry import quiet

    with closing(KafkaLogReader(settings, telemetry=quiet("error"), clock=SystemClock())) as reader:
        return len(reader.partitions(topic))


def load_rules(files: Sequence[Path]) -> Rules:
    """The response rules of these files, merged in their order.

    Raises:
        ConfigError: every fault of every file.
    """
    from workers.system.rule_files import parse_rules
    from workers.system.yaml_files import read_mapping

    contents: dict[str, Mapping[str, Any]] = {}
    faults: list[Problem] = []
    for path in files:
        try:
            contents[str(path)] = read_mapping(path)
        except ConfigError as error:
            faults += error.problems
    rules = Rules()
    try:
        rules = parse_rules(contents, action_shapes())
    except ConfigError as error:
        faults += error.problems
    if faults:
        raise ConfigError(tuple(faults))
    return rules
