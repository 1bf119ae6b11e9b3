"""What is missing for a real Kafka is reported by name, and never half assembled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka.assemble import assemble
from tests.kafka.cluster import free_ports
from tests.kafka.distribution import Distribution, KafkaUnavailable


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the whole PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def test_without_java_the_reason_names_the_package(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(KafkaUnavailable, match=r"no `java` on PATH: .*default-jre-headless"):
        assemble(tmp_path / "home")


def test_an_old_java_is_refused(programs: Path, tmp_path: Path) -> None:
    program(programs, "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(KafkaUnavailable, match=r"needs Java 17 or newer.*11\.0\.2"):
        assemble(tmp_path / "home")


def test_without_maven_the_reason_names_the_package(programs: Path, tmp_path: Path) -> None:
    program(programs, "java", """echo 'openjdk version "17.0.1"' >&2""")
    with pytest.raises(KafkaUnavailable, match=r"no `mvn` on PATH .*maven"):
        assemble(tmp_path / "home")


def test_when_maven_fails_its_output_is_shown_and_no_jars_are_left_behind(programs: Path, tmp_path: Path) -> None:
    program(programs, "java", """echo 'openjdk version "17.0.1"' >&2""")
    program(programs, "mvn", "echo '[ERROR] Unknown host repo.example'; exit 1")
    with pytest.raises(KafkaUnavailable, match=r"could not fetch Kafka: \[ERROR\] Unknown host repo\.example"):
        assemble(tmp_path / "home")
    assert not list((tmp_path / "home").glob("libs-*"))


def test_ports_are_distinct_and_below_those_of_outgoing_connections() -> None:
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports("127.0.0.1", 6)
    assert len(set(ports)) == 6
    assert all(port < max(lowest_outgoing, 13_000) for port in ports)


def test_a_class_archive_is_used_when_it_is_there(tmp_path: Path) -> None:
    kafka = Distribution(tmp_path, "java", tmp_path / "classes.jsa")
    log = tmp_path / "node.log"
    assert not [part for part in kafka.command("kafka.Kafka", log=log) if "SharedArchiveFile" in part]
    kafka.archive.touch()
    assert f"-XX:SharedArchiveFile={kafka.archive}" in kafka.command("kafka.Kafka", log=log)
