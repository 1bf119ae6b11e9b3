"""docker-compose.yml, its settings files and the image's recipe are consistent with each other and with the code.

No engine is needed: this reads the files. What a broker really makes of kafka.properties is in tests/integration.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from workers import __version__
from workers.actions import CATALOGUE
from workers.cli import app
from workers.settings import (
    DispatcherSettings,
    GatewaySettings,
    ProjectorSettings,
    ResponderSettings,
    WorkerSettings,
    parse,
)
from workers.system.yaml_files import read_mapping
from workers.wiring.actions import node_settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "deploy" / "compose"

ROLES: Mapping[str, type[WorkerSettings]] = {
    "node": node_settings(),
    "dispatcher": DispatcherSettings,
    "responder": ResponderSettings,
    "projector": ProjectorSettings,
    "gateway": GatewaySettings,
}

Service = Mapping[str, Any]


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def services(compose: Mapping[str, Any]) -> Mapping[str, Service]:
    found: Mapping[str, Service] = compose["services"]
    return found


def _mounts(service: Service) -> dict[str, str]:
    """Target → source of every volume line."""
    return {target: source for source, target in (line.split(":")[:2] for line in service.get("volumes", []))}


def _waits_for(services: Mapping[str, Service], condition: str) -> set[str]:
    return {
        name
        for service in services.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == condition
    }


def _one_shots(services: Mapping[str, Service]) -> set[str]:
    tools = {name for name, service in services.items() if "profiles" in service or service.get("restart") == "no"}
    return _waits_for(services, "service_completed_successfully") | tools


@pytest.mark.parametrize("role", ROLES)
def test_every_worker_is_there_and_its_settings_are_real(role: str, services: Mapping[str, Service]) -> None:
    verb, flag, path = services[role]["command"]
    assert (verb, flag) == (role, "--config")
    settings = parse(ROLES[role], read_mapping(SETTINGS / f"{role}.yaml"))
    assert settings.kafka.security.protocol == "SSL"
    mounts = _mounts(services[role])
    if role == "gateway":  # prepare.sh writes a copy with a token's digest into the worker's own volume
        assert path == "/run/douse/keys/gateway.yaml"
    else:
        assert mounts[path] == f"./deploy/compose/{role}.yaml"


@pytest.mark.parametrize("role", ROLES)
def test_every_path_that_settings_name_is_in_a_volume(role: str, services: Mapping[str, Service]) -> None:
    mounts = _mounts(services[role])
    settings = parse(ROLES[role], read_mapping(SETTINGS / f"{role}.yaml"))
    named = [path for path in _paths(settings.model_dump(exclude_unset=True)) if "sock" not in path.name]
    assert named
    for path in named:
        assert any(path.is_relative_to(target) for target in mounts), f"{role}: {path} is in no volume"


def test_both_ends_agree_on_the_command_partitions() -> None:
    node = parse(node_settings(), read_mapping(SETTINGS / "node.yaml")).node
    dispatcher = parse(DispatcherSettings, read_mapping(SETTINGS / "dispatcher.yaml"))
    assert dispatcher.zones == {node.zone: node.command_partitions}


def test_every_command_and_option_of_ours_is_one_that_the_command_line_knows(services: Mapping[str, Service]) -> None:
    ours = {name: list(service["command"]) for name, service in services.items() if _runs_douse(service)}
    assert set(ours) == {*ROLES, "topics"}
    for words in ours.values():
        _parse(words)


def test_a_command_or_option_that_the_command_line_does_not_know_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no such command"):
        _parse(["topic", "apply"])
    with pytest.raises(typer.TyperException, match="--grant-acl"):
        _parse(["topics", "apply", "--config", "f", "--grant-acl"])


def _runs_douse(service: Service) -> bool:
    return str(service["image"]).startswith("douse:") and "command" in service


def _parse(words: list[str]) -> None:
    """Read the words as the command line does, and run nothing."""
    command: Any = typer.main.get_command(app)
    while getattr(command, "commands", None):
        name, words = words[0], words[1:]
        assert name in command.commands, f"no such command: {name}"
        command = command.commands[name]
    command.make_context(command.name, words)


def test_the_repository_holds_no_token() -> None:
    digest = parse(GatewaySettings, read_mapping(SETTINGS / "gateway.yaml")).admin_token_sha256
    assert digest == "0" * 64


def test_gateway_and_projector_share_one_history(services: Mapping[str, Service]) -> None:
    gateway = parse(GatewaySettings, read_mapping(SETTINGS / "gateway.yaml"))
    projector = parse(ProjectorSettings, read_mapping(SETTINGS / "projector.yaml"))
    assert gateway.history == projector.history
    path = Path(gateway.history.removeprefix("sqlite:///"))
    assert _mounts(services["gateway"])[str(path.parent)] == _mounts(services["projector"])[str(path.parent)]


def test_every_mounted_file_exists_and_every_volume_is_declared_and_used(
    compose: Mapping[str, Any], services: Mapping[str, Service]
) -> None:
    sources = {source for service in services.values() for source in _mounts(service).values()}
    files = {source for source in sources if source.startswith("./")}
    assert [file for file in files if not (ROOT / file).exists()] == []
    volumes = {source for source in sources if not source.startswith((".", "/"))}
    assert volumes == set(compose["volumes"])


def test_nobody_reads_anothers_keys(services: Mapping[str, Service]) -> None:
    owners = {"topics": "operator", "cli": "operator"}
    for name, service in services.items():
        if name in {"prepare", "bucket"}:
            continue
        keys = {source for source in _mounts(service).values() if source.startswith(("keys-", "authority"))}
        assert keys == {f"keys-{owners.get(name, name)}"}, name


def test_keys_are_mounted_read_only_where_they_are_used(services: Mapping[str, Service]) -> None:
    lines = [line for name, service in services.items() if name != "prepare" for line in service.get("volumes", [])]
    assert [line for line in lines if line.startswith("keys-") and not line.endswith(":ro")] == []


def test_every_image_is_pinned_and_ours_is_this_version(services: Mapping[str, Service]) -> None:
    for name, service in services.items():
        repository, _, tag = service["image"].partition(":")
        assert re.fullmatch(r"\d+\.\d+(\.\d+)?", tag), f"{name}: {service['image']}"
        if repository == "douse":
            assert tag == __version__, name
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_nothing_is_published_beyond_loopback(services: Mapping[str, Service]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert [name for name, service in services.items() if service.get("network_mode") == "host"] == []


def test_only_the_node_worker_is_privileged(services: Mapping[str, Service]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        if name not in {"node", "prepare"}:
            assert not service.get("cap_add"), name
            assert "pid" not in service, name
    assert services["node"]["pid"] == "host"
    granted = set(services["node"]["cap_add"])
    actions = parse(node_settings(), read_mapping(ROOT / "deploy/compose/node.yaml")).actions
    assert granted <= {name for action in CATALOGUE for name in action.privileges}
    assert granted >= {name for action in CATALOGUE if actions.allows(action.name) for name in action.privileges}
    assert actions.allows("isolate_network") or not granted & {"NET_ADMIN", "SYS_ADMIN"}


def test_what_runs_on_is_watched_and_restarted_and_what_ends_is_not(services: Mapping[str, Service]) -> None:
    once = _one_shots(services)
    assert {"prepare", "topics", "cli"} <= once
    for name, service in services.items():
        lasting = name not in once
        assert ("healthcheck" in service) is lasting, name
        assert (service.get("restart") == "unless-stopped") is lasting, name


def test_everything_waited_for_is_there_and_can_be_healthy(services: Mapping[str, Service]) -> None:
    healthy = _waits_for(services, "service_healthy")
    assert (healthy | _waits_for(services, "service_completed_successfully")) <= set(services)
    assert [name for name in healthy if "healthcheck" not in services[name]] == []


def test_a_worker_without_a_connection_to_the_broker_is_unhealthy(services: Mapping[str, Service]) -> None:
    *_, pattern, table = services["node"]["healthcheck"]["test"]
    listing = Path(table)
    if not listing.exists():
        pytest.skip(f"{table} is not on this machine: the health check reads it")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        here = re.compile(pattern.replace(":2384", f":{port:04X}"), re.MULTILINE)
        assert not here.search(listing.read_text()), "a listening socket is no connection"
        with socket.create_connection(("127.0.0.1", port)):
            assert here.search(listing.read_text())
    assert int("2384", 16) == 9092


def test_the_broker_listens_where_workers_look_for_it() -> None:
    lines = (SETTINGS / "kafka.properties").read_text().splitlines()
    broker = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    advertised = broker["advertised.listeners"].removeprefix("WORKERS://")
    for role, kind in ROLES.items():
        assert parse(kind, read_mapping(SETTINGS / f"{role}.yaml")).kafka.bootstrap_servers == advertised, role
    assert broker["ssl.client.auth"] == "required"
    assert broker["allow.everyone.if.no.acl.found"] == "false"
    assert "PLAINTEXT" not in broker["listener.security.protocol.map"]


# --- the image --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe() -> Sequence[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined."""
    text = (ROOT / "deploy" / "image" / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    return [(head, rest) for head, _, rest in (line.partition(" ") for line in lines) if head]


def test_what_the_image_copies_exists_and_is_sent_to_the_builder(recipe: Sequence[tuple[str, str]]) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for head, rest in recipe
        if head == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == sent
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_is_pinned_and_does_not_run_as_root(recipe: Sequence[tuple[str, str]]) -> None:
    bases = [rest.split()[0] for head, rest in recipe if head == "FROM"]
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])
    user = [rest for head, rest in recipe if head == "USER"][-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert f"{user.split(':')[0]}:{user.split(':')[0]}" in (SETTINGS / "prepare.sh").read_text()


def _paths(value: object) -> list[Path]:
    match value:
        case Path():
            return [value]
        case str() if value.startswith("sqlite:///"):
            return [Path(value.removeprefix("sqlite:///"))]
        case Mapping():
            return [path for inner in value.values() for path in _paths(inner)]
        case list() | tuple():
            return [path for inner in value for path in _paths(inner)]
        case _:
            return []
