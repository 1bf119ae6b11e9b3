"""Settings as librdkafka names them: what must be there, what must never be, and faults reported in one line each."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka.cimpl import Producer

from tests.fakes.clock import FakeClock
from tests.fakes.telemetry import FakeTelemetry
from workers.domain.errors import ConfigError
from workers.log.client_events import ClientEvents
from workers.log.config import admin_config, group_config, reader_config, writer_config
from workers.log.readers import KafkaLogReader
from workers.settings import KafkaSecurity, KafkaSettings

LOOPBACK = KafkaSettings(
    bootstrap_servers="127.0.0.1:1", security=KafkaSecurity(protocol="PLAINTEXT"), insecure_dev=True, fetch_wait_ms=5
)


def scram(password: Path, **more: object) -> KafkaSettings:
    security = {"username": "node-1", "password_file": password, **more}
    return KafkaSettings.model_validate({"bootstrap_servers": "kafka:9093", "security": security})


def test_a_reader_never_commits_and_never_jumps() -> None:
    for config in (reader_config(LOOPBACK), group_config(LOOPBACK, "g")):
        assert config["enable.auto.commit"] is False
        assert config["auto.offset.reset"] == "error"
        assert config["fetch.wait.max.ms"] == 5


def test_a_member_has_a_name_where_it_was_given_one_and_never_on_the_embedded_broker() -> None:
    assert group_config(LOOPBACK, "g", "one")["group.instance.id"] == "one"
    assert "group.instance.id" not in group_config(LOOPBACK, "g")
    embedded = LOOPBACK.model_copy(update={"log_id": "this-run"})
    assert "group.instance.id" not in group_config(embedded, "g", "one")


def test_a_writer_is_idempotent_and_waits_for_all_replicas() -> None:
    config = writer_config(LOOPBACK)
    assert (config["acks"], config["enable.idempotence"], config["message.timeout.ms"]) == ("all", True, 0)


def test_librdkafka_accepts_every_setting() -> None:
    events = ClientEvents(FakeTelemetry(), FakeClock())
    Producer(writer_config(LOOPBACK), logger=events)
    Producer(admin_config(LOOPBACK), logger=events)
    for config in (reader_config(LOOPBACK), group_config(LOOPBACK, "g")):
        Consumer(config, logger=events).close()


def test_the_password_is_read_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret with space \n")
    config = writer_config(scram(password))
    assert config["sasl.password"] == "secret with space "
    assert config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert config["security.protocol"] == "SASL_SSL"


@pytest.mark.parametrize(
    ("security", "path"),
    [
        ({"username": "", "password_file": "there"}, "kafka.security.username"),
        ({"username": "u"}, "kafka.security.password_file"),
        ({"username": "u", "password_file": "missing"}, "kafka.security.password_file"),
        ({"username": "u", "password_file": "there", "ca_file": "missing"}, "kafka.security.ca_file"),
        ({"username": "u", "password_file": "there", "mechanism": "OAUTHBEARER"}, "kafka.security.mechanism"),
        ({"protocol": "SSL", "key_file": "missing"}, "kafka.security.key_file"),
    ],
)
def test_what_is_missing_is_named_by_its_path(tmp_path: Path, security: dict[str, str], path: str) -> None:
    (tmp_path / "there").write_text("x")
    placed = {key: str(tmp_path / value) if key.endswith("_file") else value for key, value in security.items()}
    settings = KafkaSettings.model_validate({"bootstrap_servers": "kafka:9093", "security": placed})
    with pytest.raises(ConfigError) as caught:
        reader_config(settings)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{path}: ")
    assert "\n" not in str(problem)


def test_a_file_that_is_not_a_certificate_is_one_line_and_no_traceback_of_the_client(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    security = KafkaSecurity(protocol="SSL", ca_file=tmp_path / "ca.pem")
    settings = KafkaSettings(bootstrap_servers="kafka:9093", security=security)
    with pytest.raises(ConfigError) as caught:
        KafkaLogReader(settings, telemetry=FakeTelemetry(), clock=FakeClock())
    assert str(caught.value).startswith("kafka: ")


def test_a_client_that_repeats_itself_is_logged_once_a_minute() -> None:
    clock, telemetry = FakeClock(), FakeTelemetry()
    events = ClientEvents(telemetry, clock)
    for _ in range(100):
        events.log(40, "%s [%s] %s", "FAIL", "client", "Connection refused")
    events.log(40, "%s [%s] %s", "OTHER", "client", "else")
    clock.advance(61)
    events.log(40, "%s [%s] %s", "FAIL", "client", "Connection refused")
    assert [(fields["kind"], fields["kept_back"]) for _, _, fields in telemetry.lines] == [
        ("FAIL", 0),
        ("OTHER", 0),
        ("FAIL", 99),
    ]
