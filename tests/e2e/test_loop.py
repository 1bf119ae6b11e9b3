"""A rule that matches everything, and everything that Douse writes fed back as events: exactly one action."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import NewClient
from tests.e2e.fleet import Fleet, embedded_zones
from tests.e2e.wire import REPORTED, Put, put
from workers.cli.up.data_dir import DataDir
from workers.system import yaml_files
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

EVERYTHING = {"rules": [{"name": "all", "match": {"rules": ["*"]}, "steps": [{"action": "kill_process"}]}]}
EVENTS = ("falco.events", "runtime.events")


@pytest.mark.fault("F28")
@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.faults)])
def test_what_douse_writes_fed_back_to_a_rule_that_matches_everything_gives_exactly_one_action(
    tmp_path: Path, new_client: NewClient, seconds: int
) -> None:
    with (
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(tmp_path / "data"), servers, log_id="this-run", fetch_wait_ms=2, unsigned_events=True) as fleet,
    ):
        yaml_files.write(fleet.data.rules, EVERYTHING)
        fleet.up()
        client = new_client(fleet)
        bystander = client.processes.spawn()
        client.detected()
        client.settled()
        fed = dict.fromkeys(REPORTED, 0)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            client.wire.look()
            for topic in REPORTED:
                new = client.wire.records(topic)[fed[topic] :]
                fed[topic] += len(new)
                echoes = [each.value for each in new] + [_as_alert(each.read.fields, bystander) for each in new]
                put(servers, [Put(events, value) for events in EVENTS for value in echoes])
        client.wire.read_to_the_end()
        requested = [each for each in client.wire.audit() if each["kind"] == "requested"]
        print(f"\n{seconds} s: {4 * sum(fed.values())} echoes fed back, {len(requested)} request")
        assert len(requested) == 1
        assert client.processes.died_ns(bystander) is None
        fleet.all_alive()
        fleet.no_traceback()


def _as_alert(fields: object, pid: int) -> bytes:
    """As a detector that watches Douse's own output would report it."""
    return json.dumps(
        {
            "rule": "Douse wrote something",
            "source": "douse",
            "time": time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()),
            "output": repr(fields)[:200],
            "output_fields": {"proc.pid": pid},
        }
    ).encode()
