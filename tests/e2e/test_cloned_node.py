"""A machine that was copied with its key and its journal: two nodes are one to everybody else, which is an alarm."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.conftest import NewClient
from tests.e2e.fleet import Fleet
from workers.system import yaml_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ALARM_S: Final = 30.0


@pytest.mark.fault("F23")
def test_a_node_that_was_copied_with_key_and_journal_is_an_alarm(fresh_fleet: Fleet, new_client: NewClient) -> None:
    fleet = fresh_fleet
    fleet.stop("node")
    settings: Any = dict(yaml_files.read_mapping(fleet.data.config("node")))
    settings["node"] |= {"heartbeat_s": 1}
    yaml_files.write(fleet.data.config("node"), settings)
    data = Path(settings["node"]["data_dir"])
    copied = data.with_name("node-copy")
    shutil.copytree(data, copied, symlinks=True)
    settings["node"] |= {"data_dir": str(copied)}
    yaml_files.write(fleet.data.config("node-copy"), settings)
    fleet.spawn("node")
    began = fleet.spawn("node-copy")
    client = new_client(fleet)
    victim = client.kill()
    while not (alarms := [each for each in client.wire.audit() if each["kind"] == "cloned_sender"]):
        assert time.monotonic() - began < ALARM_S, fleet.log_tails()
        client.wire.look()
    print(f"\nan alarm {time.monotonic() - began:.1f} s after the copy was started: {alarms[0]['detail']}")
    deadline = time.monotonic() + ALARM_S
    while client.processes.died_ns(victim.pid or 0) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    fleet.all_alive()
