"""Settings: every fault at once with its path, no key ignored, no plain text beyond loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workers.actions import CATALOGUE
from workers.actions.isolate_network import IsolateSettings
from workers.domain.errors import ConfigError
from workers.settings import (
    DispatcherSettings,
    GatewaySettings,
    KafkaSettings,
    NodeSettings,
    ProjectorSettings,
    ResponderSettings,
    parse,
)
from workers.wiring.actions import node_settings

BASE: Mapping[str, Any] = {
    "kafka": {"bootstrap_servers": "kafka-1:9093"},
    "keys": {"private_key": "/etc/douse/node.key", "keyset": "/etc/douse/keyset.json"},
}
LOCAL = {"bootstrap_servers": "127.0.0.1:9092", "security": {"protocol": "PLAINTEXT"}, "insecure_dev": True}


def _faults(kind: Any, raw: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(kind, raw)
    return {problem[0]: problem[1] for problem in caught.value.problems}


def _node(**response_actions: Any) -> NodeSettings:
    raw = {**BASE, "features": {"respond": {"response_actions": response_actions}}}
    return parse(node_settings(), raw)


def test_the_least_that_a_worker_needs_is_broker_and_keys() -> None:
    settings = parse(node_settings(), BASE)
    assert settings.keys.private_key == Path("/etc/douse/node.key")
    assert settings.kafka.security.protocol == "SASL_SSL"
    assert settings.actions.timeout == 60


@pytest.mark.parametrize(
    "kind", [node_settings(), DispatcherSettings, ResponderSettings, ProjectorSettings, GatewaySettings]
)
@pytest.mark.parametrize("raw", [None, {}])
def test_an_empty_file_names_everything_that_is_missing(kind: Any, raw: Any) -> None:
    faults = _faults(kind, raw)
    assert {"kafka", "keys"} <= set(faults)
    assert all("missing" in reason for reason in faults.values())


def test_every_fault_comes_at_once_each_with_its_path() -> None:
    faults = _faults(
        node_settings(),
        {
            "kafka": {"bootstrap_servers": "kafka:9093", "fetch_wait_ms": 0},
            "keys": {"private_key": "/k"},
            "node": {"id": "web-1", "heartbeat_s": "often"},
            "features": {"respond": {"response_actions": {"timeout": 0, "kill_proces": {"trigger": "NONE"}}}},
        },
    )
    assert set(faults) == {
        "kafka.fetch_wait_ms",
        "keys.keyset",
        "node.id",
        "node.heartbeat_s",
        "features.respond.response_actions.timeout",
        "features.respond.response_actions.kill_proces",
    }


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({**BASE, "kafak": {}}, "kafak"),
        ({**BASE, "telemetry": {"otlp": "x"}}, "telemetry.otlp"),
        ({**BASE, "features": {"respond": {"response_actions": {"kill_process": {"triger": "NONE"}}}}}, None),
    ],
)
def test_an_unknown_key_is_a_fault_wherever_it_is(raw: Any, path: str | None) -> None:
    (found,) = _faults(node_settings(), raw).items()
    assert "unknown key" in found[1]
    assert found[0] == (path or "features.respond.response_actions.kill_process.triger")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=2)))
def test_junk_only_ever_makes_a_configuration_error(junk: Any) -> None:
    for raw in ({"kafka": junk, "keys": junk}, {**BASE, "node": junk, "features": junk}):
        with contextlib.suppress(ConfigError):
            parse(node_settings(), raw)


# Plain text


@pytest.mark.parametrize("servers", ["127.0.0.1:9092", "localhost:1", "[::1]:9092", "127.0.0.1:1, localhost:2"])
def test_plain_text_is_for_loopback_in_development(servers: str) -> None:
    kafka = parse(KafkaSettings, {**LOCAL, "bootstrap_servers": servers})
    assert kafka.security.protocol == "PLAINTEXT"


@pytest.mark.parametrize(
    "change",
    [
        {"insecure_dev": False},
        {"bootstrap_servers": "kafka:9092"},
        {"bootstrap_servers": "127.0.0.1:9092,kafka:9092"},
        {"bootstrap_servers": "127.0.0.1.example.org:9092"},
        {"bootstrap_servers": "localhost.example.org"},
        {"bootstrap_servers": "0.0.0.0:9092"},
        {"bootstrap_servers": ""},
    ],
)
def test_plain_text_is_refused_everywhere_else(change: dict[str, Any]) -> None:
    faults = _faults(KafkaSettings, {**LOCAL, **change})
    assert any("PLAINTEXT is refused" in reason for reason in faults.values())


def test_insecure_dev_alone_weakens_nothing() -> None:
    assert (
        parse(KafkaSettings, {"bootstrap_servers": "kafka:9093", "insecure_dev": True}).security.protocol == "SASL_SSL"
    )


# The node's switches


@pytest.mark.parametrize("word", ["NONE", "none", "None"])
def test_a_trigger_is_read_in_any_case(word: str) -> None:
    actions = _node(kill_process={"trigger": word}).actions
    assert not actions.allows("kill_process")
    assert actions.allows("kill_container")


def test_a_trigger_is_all_or_none() -> None:
    raw = {**BASE, "features": {"respond": {"response_actions": {"kill_process": {"trigger": "SOME"}}}}}
    assert list(_faults(node_settings(), raw)) == ["features.respond.response_actions.kill_process.trigger"]


def test_switched_off_as_a_whole_allows_nothing() -> None:
    actions = _node(enabled=False).actions
    assert not any(actions.allows(action.name) for action in CATALOGUE)


@pytest.mark.parametrize(("timeout", "fits"), [(1, True), (65_535, True), (0, False), (65_536, False)])
def test_a_timeout_is_1_to_65535_seconds(timeout: int, fits: bool) -> None:
    if fits:
        assert _node(timeout=timeout).actions.timeout == timeout
    else:
        with pytest.raises(ConfigError):
            _node(timeout=timeout)


def test_settings_never_change() -> None:
    settings = parse(node_settings(), BASE)
    with pytest.raises(ValidationError):
        settings.kafka = KafkaSettings(bootstrap_servers="x:1")


def test_a_token_is_kept_as_its_digest_only() -> None:
    assert "admin_token_sha256" in _faults(GatewaySettings, {**BASE, "admin_token_sha256": "secret"})


# What an isolated network may reach


def test_the_operator_s_list_is_read_into_lifelines() -> None:
    isolate = _node(isolate_network={"allow": ["10.1.2.0/24", "[fd00::5]:443"]}).actions.section(
        "isolate_network", IsolateSettings
    )
    assert [str(each) for each in isolate.lifelines()] == [
        "operator any 10.1.2.0/24 0",
        "operator tcp fd00::5/128 443",
        "operator udp fd00::5/128 443",
    ]


def test_each_fault_of_the_operators_list_has_its_path() -> None:
    listed = {"allow": ["10.1.2.0/24", "jump.example.org:22", "0.0.0.0/0"]}
    raw = {**BASE, "features": {"respond": {"response_actions": {"isolate_network": listed}}}}
    faults = _faults(node_settings(), raw)
    place = "features.respond.response_actions.isolate_network.allow"
    assert set(faults) == {f"{place}.1", f"{place}.2"}
    assert "every address" in faults[f"{place}.2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"node": {"hartbeat_s": 2}}, "node.hartbeat_s: unknown key; did you mean heartbeat_s?"),
        ({"node": {"zzz": 2}}, "node.zzz: unknown key; remove it or correct its spelling"),
        ({"node": 3}, "node: must be a section with keys of its own"),
        ({"node": {"id": "XY"}}, "node.id: must match ^([0-9a-f]{32})?$"),
        ({"node": {"heartbeat_s": 0}}, "node.heartbeat_s: must be greater than 0"),
        ({"telemetry": {"log_format": "xml"}}, "telemetry.log_format: must be 'console' or 'json'"),
    ],
)
def test_a_fault_names_its_file_and_key_in_plain_words(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(node_settings(), {**BASE, **change}, file=Path("node.yaml"))
    assert str(caught.value) == f"node.yaml: {words}"
