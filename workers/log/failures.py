"""Kafka's errors in our words.

Called wherever this room meets an exception of the client. Must never let one of the client's own errors through.
"""

from typing import Final

from confluent_kafka import KafkaError, KafkaException

from workers.domain.errors import ConfigError, Problem, TransientFailure

_CODES: Final = {
    "UNKNOWN_TOPIC_OR_PART": "unknown_topic",
    "_UNKNOWN_TOPIC": "unknown_topic",
    "_UNKNOWN_PARTITION": "unknown_partition",
    "MSG_SIZE_TOO_LARGE": "oversize",
    "INVALID_RECORD": "invalid_record",
    "TOPIC_AUTHORIZATION_FAILED": "not_authorized",
    "GROUP_AUTHORIZATION_FAILED": "not_authorized",
}


def kafka_error(error: BaseException) -> KafkaError | None:
    """The client's error inside an exception."""
    found = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return found if isinstance(found, KafkaError) else None


def code_of(error: KafkaError) -> str:
    """A stable word for an error: ours where it decides something, the client's own otherwise."""
    return _CODES.get(error.name(), error.name().lower().lstrip("_"))


def away(what: str, error: BaseException) -> TransientFailure:
    """``what`` could not be had from the log."""
    cause = kafka_error(error)
    if cause is None:
        return TransientFailure(f"{what}: {str(error) or 'no answer in time'}", code="log_away")
    code = code_of(cause)
    return TransientFailure(
        f"{what}: {cause.str()}", code=code if code in {"unknown_topic", "not_authorized"} else "log_away"
    )


def could_not_open(error: KafkaException) -> ConfigError:
    """A client refused its configuration."""
    cause = kafka_error(error)
    return ConfigError((Problem("kafka", cause.str() if cause else str(error)),))
