"""One machine's data directory: held by one, private, and an operator's edits survive the next start."""

from dataclasses import replace
from pathlib import Path

import pytest

from workers.cli.up.data_dir import ROLES, DataDir, Start
from workers.domain.errors import ConfigError
from workers.settings import (
    DispatcherSettings,
    GatewaySettings,
    ProjectorSettings,
    ResponderSettings,
    WorkerSettings,
    parse,
)
from workers.system import yaml_files
from workers.wiring.actions import node_settings

_KINDS: dict[str, type[WorkerSettings]] = {
    "node": node_settings(),
    "dispatcher": DispatcherSettings,
    "responder": ResponderSettings,
    "projector": ProjectorSettings,
    "gateway": GatewaySettings,
}


def _start(number: int) -> Start:
    return Start(f"127.0.0.1:{9000 + number}", f"log-{number}", "ab" * 16, 8080 + number, "secret")


def test_every_worker_gets_settings_that_it_accepts(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    with data.locked():
        data.write(_start(1))
    for role in ROLES:
        settings = parse(_KINDS[role], yaml_files.read_mapping(data.config(role)))
        assert settings.kafka.bootstrap_servers == "127.0.0.1:9001"
        assert settings.kafka.log_id == "log-1"


def test_the_next_start_keeps_edited_settings_and_renews_what_changes_with_each_start(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    with data.locked():
        data.write(_start(1))
        edited = dict(yaml_files.read_mapping(data.config("node")))
        edited["features"]["respond"]["response_actions"]["kill_process"] = {"trigger": "NONE"}
        yaml_files.write(data.config("node"), edited)
        data.write(_start(2))
    settings = parse(node_settings(), yaml_files.read_mapping(data.config("node")))
    assert not settings.actions.allows("kill_process")
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9002"


def test_an_unsigned_topic_is_read_for_one_start_only_and_only_where_that_start_says_so(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    for unsigned, topics in ((False, ()), (True, ("falco.events",)), (False, ())):
        with data.locked():
            data.write(replace(_start(1), unsigned_events=unsigned))
        responder = parse(ResponderSettings, yaml_files.read_mapping(data.config("responder")))
        projector = parse(ProjectorSettings, yaml_files.read_mapping(data.config("projector")))
        assert (responder.unsigned_topics, projector.unsigned_topics) == (topics, topics)


def test_the_token_is_kept_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    with data.locked():
        data.write(_start(1))
        assert data.token() == "secret"
    assert data.context.stat().st_mode & 0o777 == 0o600
    assert data.root.stat().st_mode & 0o777 == 0o700
    assert "secret" not in data.config("gateway").read_text()


def test_a_directory_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    with data.locked(), pytest.raises(ConfigError, match="in use by another douse"), data.locked():
        pass


def test_a_path_that_cannot_be_a_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used as data"), DataDir(tmp_path / "file" / "data").locked():
        pass
