"""A real cluster is made to match the catalogue, once, and its differences are reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.log_rigs import loopback
from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.target import KafkaTarget, unique_topic
from workers.domain.log.topic_spec import TopicSpec
from workers.log.admin import Difference, TopicAdmin
from workers.log.topic_catalogue import load_topics
from workers.system.clock import SystemClock

pytestmark = [pytest.mark.slow]


def admin_of(kafka: KafkaTarget) -> TopicAdmin:
    return TopicAdmin(loopback(kafka.bootstrap_servers), telemetry=FakeTelemetry(), clock=SystemClock(), replication=1)


def catalogue(partitions: int = 2) -> tuple[TopicSpec, ...]:
    """The shipped topics under names of this test's own, narrow enough for a small broker."""
    stem = unique_topic("admin")
    return tuple(replace(spec, name=f"{stem}.{spec.name}", partitions=partitions) for spec in load_topics())


def test_the_whole_catalogue_is_made_once_and_then_differs_in_nothing(kafka: KafkaTarget) -> None:
    admin, specs = admin_of(kafka), catalogue()
    try:
        missing = admin.differences(specs, zones=["east", "west"])
        assert {difference.setting for difference in missing} == {"topic"}
        made = admin.create(specs, zones=["east", "west"])
        assert {difference.topic for difference in missing} == set(made)
        assert len(made) == len(specs) + 1, "one command topic a zone"
        assert admin.differences(specs, zones=["east", "west"]) == ()
        assert admin.create(specs, zones=["east", "west"]) == ()
    finally:
        for name in {spec.name_in(zone) for spec in specs for zone in ("east", "west")}:
            kafka.delete_topic(name)


def test_differences_are_reported_setting_by_setting_and_left_alone(kafka: KafkaTarget) -> None:
    admin = admin_of(kafka)
    spec = next(spec for spec in catalogue() if spec.retention_s is not None and "<zone>" not in spec.name)
    kafka.create_topic(spec.name, 3, retention_ms="1234567")
    try:
        found = admin.differences([spec], zones=[])
        assert Difference(spec.name, "partitions", "2", "3") in found
        assert Difference(spec.name, "retention.ms", str((spec.retention_s or 0) * 1000), "1234567") in found
        assert admin.create([spec], zones=[]) == ()
        assert admin.differences([spec], zones=[]) == found
    finally:
        kafka.delete_topic(spec.name)
