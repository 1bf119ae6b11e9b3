"""The AsyncAPI 3 document: every topic, what travels on it, its senders and receivers.

Called by ``douse topics asyncapi`` (through ``wiring``). Made from the topic catalogue and the record schemas alone;
must never hold anything that is not in them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from workers.domain.log.topic_spec import REPLICATION, ZONE, Format, Key, TopicSpec
from workers.wire.avro.schemas import SchemaSet

Document: TypeAlias = dict[str, Any]

_AVRO: Final = "application/vnd.apache.avro+json;version=1.9.0"
"""The schema format's name in the AsyncAPI specification."""
_SINGLE_OBJECT: Final = "application/vnd.apache.avro+single-object"
_BINDING: Final = "0.5.0"
"""Version of AsyncAPI's Kafka binding that has topic, partitions, replicas and topicConfiguration."""
_ENVELOPE: Final = "Envelope"


def document(topics: Sequence[TopicSpec], schemas: SchemaSet, *, version: str) -> Document:
    """The whole document, as plain data. Raises ``KeyError`` when a topic carries a record without a schema."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Douse", "version": version, "description": "What travels through Kafka, and between whom."},
        "channels": {_id(topic): _channel(topic) for topic in topics},
        "operations": dict(pair for topic in topics for pair in _operations(topic)),
        "components": {
            "messages": {name: message for topic in topics for name, message in _messages(topic)},
            "schemas": {
                name: {"schemaFormat": _AVRO, "schema": schemas.current[f"douse.v1.{name}"].source}
                for name in sorted(_records(topics))
            },
        },
    }


def _records(topics: Sequence[TopicSpec]) -> set[str]:
    avro = [topic for topic in topics if topic.format is Format.AVRO]
    return {name for topic in avro for name in topic.records} | {_ENVELOPE for topic in avro if topic.signed}


def _id(topic: TopicSpec) -> str:
    return topic.name.removesuffix(f".{ZONE}")


def _channel(topic: TopicSpec) -> Document:
    channel: Document = {
        "address": topic.name.replace(ZONE, "{zone}"),
        "summary": topic.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name, _ in _messages(topic)},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "replicas": REPLICATION,
                "topicConfiguration": _configuration(topic.kafka_config()),
                "bindingVersion": _BINDING,
            }
        },
    }
    if ZONE in topic.name:
        channel["parameters"] = {"zone": {"description": "The zone; each has a topic of its own."}}
    return channel


def _configuration(config: Mapping[str, str]) -> Document:
    typed: Document = {key: int(value) if value.isdecimal() else value for key, value in config.items()}
    return typed | {"cleanup.policy": config["cleanup.policy"].split(",")}


def _messages(topic: TopicSpec) -> Iterator[tuple[str, Document]]:
    """The name and the description of each kind of value on the topic."""
    key: Document = {} if topic.key is Key.NONE else {"key": {"type": "string", "description": topic.key.value}}
    kafka = {"bindings": {"kafka": key | {"bindingVersion": _BINDING}}}
    if topic.format is Format.JSON:
        payload = {"contentType": "application/json", "payload": {"type": "object"}}
        yield f"{_id(topic)}.json", payload | kafka
        return
    for record in topic.records:
        name = f"Signed{record}" if topic.signed else record
        outer = _ENVELOPE if topic.signed else record
        message: Document = {"contentType": _SINGLE_OBJECT, "payload": _schema(outer), **kafka}
        yield f"{_id(topic)}.{name}", message | ({"x-signed-payload": _schema(record)} if topic.signed else {})


def _schema(record: str) -> Document:
    return {"$ref": f"#/components/schemas/{record}"}


def _operations(topic: TopicSpec) -> Iterator[tuple[str, Document]]:
    for action, verb, principals in (("send", "sends", topic.producers), ("receive", "receives", topic.consumers)):
        for principal in principals:
            channel = {"$ref": f"#/channels/{_id(topic)}"}
            yield f"{principal}.{verb}.{_id(topic)}", {"action": action, "channel": channel}
