"""The AsyncAPI document holds what the catalogue and the schemas hold, and every reference in it leads somewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from workers.domain.log.topic_spec import Operation, acls
from workers.log.asyncapi import document
from workers.log.topic_catalogue import load_topics
from workers.wire.avro.schemas import load_schemas

TOPICS = load_topics()
MADE = document(TOPICS, load_schemas(), version="1.2.3")


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)


@pytest.mark.parametrize("reference", sorted(set(_references(MADE))))
def test_every_reference_leads_somewhere(reference: str) -> None:
    found: Any = MADE
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    assert found


def test_every_topic_is_a_channel_with_the_partitions_of_the_catalogue() -> None:
    described = {
        channel["address"].replace("{zone}", "<zone>"): channel["bindings"]["kafka"]["partitions"]
        for channel in MADE["channels"].values()
    }
    assert described == {topic.name: topic.partitions for topic in TOPICS}


def test_senders_and_receivers_are_those_the_access_rules_allow() -> None:
    words = {"send": Operation.WRITE, "receive": Operation.READ}
    described = {
        (name.split(".")[0], words[operation["action"]], operation["channel"]["$ref"].removeprefix("#/channels/"))
        for name, operation in MADE["operations"].items()
    }
    allowed = [acl for acl in acls(TOPICS, ["<zone>"]) if not acl.prefix]
    assert described == {
        (acl.principal.split("/")[0], acl.operation, acl.topic.removesuffix(".<zone>")) for acl in allowed
    }


def test_a_signed_value_is_an_envelope_that_names_what_is_inside() -> None:
    message = MADE["components"]["messages"]["response.commands.SignedActionCommand"]
    assert message["payload"]["$ref"].endswith("/Envelope")
    assert message["x-signed-payload"]["$ref"].endswith("/ActionCommand")


def test_only_the_command_channel_has_a_parameter() -> None:
    assert [name for name, channel in MADE["channels"].items() if "parameters" in channel] == ["response.commands"]
