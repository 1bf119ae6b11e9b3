"""The topic catalogue: the names the code uses, the access rules, and files whose faults are all reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.actions.base import Action
from workers.domain.errors import ConfigError
from workers.domain.log import topics as names
from workers.domain.log.routing import command_topic
from workers.domain.log.topic_spec import Acl, Format, Key, Operation, Principal, TopicSpec, acls, believed_unsigned
from workers.log.topic_catalogue import catalogue, load_topics, readme
from workers.settings import DispatcherSettings, NodeIdentity
from workers.system.data_files import topic_files
from workers.wire.avro.mapping import RECORDS

TOPICS = load_topics()
BY_NAME = {topic.name: topic for topic in TOPICS}
ZONES = ["default", "eu-1"]
ALLOWED = acls(TOPICS, ZONES)
WORKERS = {Principal.NODE, Principal.DISPATCHER, Principal.RESPONDER, Principal.GATEWAY, Principal.PROJECTOR}


def _writers(topic: str) -> set[str]:
    return {acl.principal for acl in ALLOWED if acl.topic == topic and acl.operation is Operation.WRITE}


def _readers(topic: str) -> set[str]:
    return {acl.principal for acl in ALLOWED if acl.topic == topic and acl.operation is Operation.READ}


def test_the_names_in_the_code_are_those_of_the_catalogue() -> None:
    constants = {value for name, value in vars(names).items() if name.isupper()}
    assert constants | {command_topic("<zone>")} == set(BY_NAME)


def test_a_file_is_named_after_its_topic() -> None:
    assert {path.stem for path in topic_files()} == {topic.name.removesuffix(".<zone>") for topic in TOPICS}


def test_every_record_that_travels_is_on_some_topic() -> None:
    # An envelope is around the others; a manifest never leaves its node's vault, custody goes to the object store.
    travelling = {cls.__name__ for cls in RECORDS} - {"Envelope", "Manifest", "Custody"}
    assert {record for topic in TOPICS for record in topic.records} == travelling


def test_an_avro_topic_names_its_records() -> None:
    assert [topic.name for topic in TOPICS if (topic.format is Format.AVRO) != bool(topic.records)] == []


# Access rules


@pytest.mark.parametrize("zone", ZONES)
def test_only_the_dispatcher_may_write_a_command_topic(zone: str) -> None:
    assert _writers(command_topic(zone)) == {"dispatcher"}


def test_a_node_reads_the_commands_of_its_own_zone_alone() -> None:
    allowed = {(acl.topic, acl.prefix) for acl in ALLOWED if acl.principal == "node/eu-1"}
    assert allowed == {(command_topic("eu-1"), False), (f"{command_topic('eu-1')}.g", True)}
    assert {acl.operation for acl in ALLOWED if acl.principal == "node/eu-1"} == {Operation.READ}
    assert not any(acl.topic.startswith("response.commands.") for acl in ALLOWED if acl.principal == "node")


@given(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True), st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
)
def test_a_rule_for_generations_holds_for_those_of_its_own_zone_alone(zone: str, other: str) -> None:
    (rule,) = {acl.topic for acl in acls(TOPICS, [zone]) if acl.prefix}
    assert all(command_topic(zone, generation).startswith(rule) for generation in range(2, 30))
    foreign = [*BY_NAME, command_topic(zone), *(command_topic(other, n) for n in range(1, 30) if other != zone)]
    assert not [name for name in foreign if name.startswith(rule)]


def test_only_nodes_read_commands() -> None:
    assert _readers(command_topic("default")) == {"node/default"}


def test_the_topic_of_a_request_shows_its_origin() -> None:
    assert _writers(names.REQUESTS_PEOPLE) == {"gateway"}
    assert _writers(names.REQUESTS_RULES) == {"responder"}
    assert _readers(names.REQUESTS_PEOPLE) | _readers(names.REQUESTS_RULES) == {"dispatcher"}


def test_whatever_workers_act_on_is_signed_but_for_what_detectors_write_themselves() -> None:
    unsigned = {topic.name: readers for topic, readers in believed_unsigned(BY_NAME.values())}
    assert unsigned == {names.FALCO_EVENTS: ("responder", "projector")}
    assert _writers(names.FALCO_EVENTS) == {"detector"}


def test_only_node_and_dispatcher_write_results() -> None:
    assert _writers(names.RESULTS) == {"dispatcher", "node"}


def test_nodes_never_read_heartbeats_and_alone_write_them() -> None:
    assert _readers(names.NODES) == {"dispatcher", "projector"}
    assert _writers(names.NODES) == {"node"}


def test_a_node_never_writes_policy_or_topology() -> None:
    assert "node" not in _writers(names.POLICY) | _writers(names.TOPOLOGY)
    assert _writers(names.TOPOLOGY) == {"operator"}


def test_every_worker_may_write_its_audit_and_its_dead_letters() -> None:
    assert _writers(names.AUDIT) == WORKERS
    assert _writers(names.DEAD_LETTERS) == WORKERS


def test_the_projector_never_writes_what_it_folds() -> None:
    written = {acl.topic for acl in ALLOWED if acl.principal == "projector" and acl.operation is Operation.WRITE}
    assert written == {names.AUDIT, names.DEAD_LETTERS}


def test_what_a_node_may_do_is_exactly_this() -> None:
    writes = {names.RESULTS, names.AUDIT, names.NODES, names.DEAD_LETTERS, names.RUNTIME_EVENTS}
    reads = {names.POLICY, names.TOPOLOGY}
    assert {acl for acl in ALLOWED if acl.principal == "node"} == {
        *(Acl("node", Operation.WRITE, topic) for topic in writes),
        *(Acl("node", Operation.READ, topic) for topic in reads),
    }


# How long it stays


@pytest.mark.parametrize("name", [names.NODES, names.TOPOLOGY, names.POLICY])
def test_state_is_compacted(name: str) -> None:
    topic = BY_NAME[name]
    assert topic.config["cleanup.policy"] == "compact"
    assert topic.retention_s is None
    assert "retention.ms" not in topic.kafka_config()
    assert topic.key is not Key.NONE


def test_commands_stay_at_least_twice_as_long_as_they_live() -> None:
    kept = BY_NAME[command_topic("<zone>")].retention_s
    assert kept is not None
    assert kept >= 2 * Action.ttl_s


def test_settings_and_catalogue_agree_on_the_command_partitions() -> None:
    partitions = BY_NAME[command_topic("<zone>")].partitions
    assert NodeIdentity().command_partitions == partitions
    assert DispatcherSettings.model_fields["zones"].get_default(call_default_factory=True) == {"default": partitions}


def test_everything_survives_one_broker() -> None:
    for topic in TOPICS:
        config = topic.kafka_config()
        assert config["min.insync.replicas"] == "2"
        assert config["unclean.leader.election.enable"] == "false"


def test_commands_carry_the_broker_s_time() -> None:
    config = BY_NAME[command_topic("<zone>")].kafka_config()
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config["segment.ms"] == "3600000"
    assert config["retention.ms"] == str(24 * 3_600_000)


# Files that are wrong


GOOD: Mapping[str, Any] = {
    "name": "a.b",
    "summary": "For a test.",
    "key": "node_id",
    "value": {"format": "avro", "records": ["Topology"], "signed": True},
    "partitions": 3,
    "retention": "36h",
    "config": {"segment.ms": 5},
    "producers": ["gateway"],
    "consumers": ["node"],
}


def test_a_good_file_is_read_whole() -> None:
    (topic,) = catalogue({"a.b.yaml": GOOD})
    assert topic == TopicSpec(
        name="a.b",
        summary="For a test.",
        key=Key.NODE_ID,
        format=Format.AVRO,
        records=("Topology",),
        signed=True,
        partitions=3,
        producers=(Principal.GATEWAY,),
        consumers=(Principal.NODE,),
        retention_s=36 * 3600,
        config={"segment.ms": "5"},
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"name": "Upper.Case"}, "name"),
        ({"name": 3}, "name"),
        ({"summary": " "}, "summary"),
        ({"key": "pid"}, "key"),
        ({"value": "avro"}, "value"),
        ({"value": {"format": "avro"}}, "value.records"),
        ({"value": {"format": "xml", "records": []}}, "value.format"),
        ({"value": {"format": "avro", "records": "Topology"}}, "value.records"),
        ({"value": {"format": "avro", "records": [], "signed": "yes"}}, "value.signed"),
        ({"value": {"format": "avro", "records": [], "sealed": True}}, "value.sealed"),
        ({"partitions": 0}, "partitions"),
        ({"partitions": True}, "partitions"),
        ({"partitions": "64"}, "partitions"),
        ({"retention": "forever"}, "retention"),
        ({"retention": 24}, "retention"),
        ({"config": {"cleanup.policy": "compact"}}, "retention"),
        ({"config": ["segment.ms"]}, "config"),
        ({"config": {"segment.ms": None}}, "config.segment.ms"),
        ({"producers": "gateway"}, "producers"),
        ({"consumers": ["everyone"]}, "consumers.0"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_key(change: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue({"a.b.yaml": {**GOOD, **change}})
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"topics/a.b.yaml: {path}: ")


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"config"}))
def test_a_missing_key_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: "):
        catalogue({"a.b.yaml": {key: value for key, value in GOOD.items() if key != name}})


def test_all_faults_of_all_files_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue({"a.yaml": {**GOOD, "partitions": 0, "key": "pid"}, "b.yaml": {**GOOD, "extra": 1}})
    assert len(caught.value.problems) == 3


def test_two_files_for_one_topic_are_refused() -> None:
    with pytest.raises(ConfigError, match="another file"):
        catalogue({"a.yaml": GOOD, "b.yaml": GOOD})


def test_the_document_changes_with_the_data() -> None:
    changed = [dataclasses.replace(TOPICS[0], partitions=7777), *TOPICS[1:]]
    assert "7777" in readme(changed)
    assert "7777" not in readme(TOPICS)
