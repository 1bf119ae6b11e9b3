"""Each worker's clock a day ahead and a day behind for some seconds: nothing is released early, and nothing that is
requested once the clock is right again expires.

A worker's wall clock is turned from outside: a module on its path adds what a file says to the time that it reads.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.client import FleetClient
from tests.e2e.conftest import NewClient
from tests.e2e.fleet import Fleet, embedded_zones
from workers.cli.up.data_dir import ROLES, DataDir
from workers.store.journal import SqliteJournal
from workers.system import yaml_files
from workers.system.randomness import SystemRandomness
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

DAY_S: Final = 86_400
WRONG_S: Final = 3.0
"""Three heartbeats, as they are set here."""
HEALED_S: Final = 2.5

TURNED: Final = """
import sys, time
from pathlib import Path
true_time_ns, skew = time.time_ns, Path(__file__).with_name(sys.orig_argv[3] if len(sys.orig_argv) > 3 else "none")
def time_ns():
    try:
        return true_time_ns() + int(skew.read_text()) * 1_000_000_000
    except (OSError, ValueError):
        return true_time_ns()
time.time_ns = time_ns
"""


class Clocks:
    """The wall clocks of a fleet's workers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(TURNED)

    def turn(self, role: str, seconds: int) -> None:
        new = self.directory / f"{role}.new"
        new.write_text(str(seconds))
        new.replace(self.directory / role)


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Clocks:
    return Clocks(tmp_path_factory.mktemp("clocks") / "turned")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, clocks: Clocks) -> Iterator[Fleet]:
    """Five workers on the embedded broker, whose clocks can be turned, and a node with a heartbeat a second."""
    root = tmp_path_factory.mktemp("skewed")
    with (
        pytest.MonkeyPatch.context() as environment,
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(root / "data"), servers, log_id="this-run", fetch_wait_ms=2) as made,
    ):
        environment.setenv("PYTHONPATH", str(clocks.directory))
        settings = dict(yaml_files.read_mapping(made.data.config("node")))
        settings["node"] = settings["node"] | {"heartbeat_s": 1}
        yaml_files.write(made.data.config("node"), settings)
        yield made.up()


def held_for_an_hour(client: FleetClient) -> str:
    """A process that is suspended until an hour has passed."""
    pid = client.processes.spawn()
    order = client._kill("suspend", pid, {"COMPLETED"}, action="suspend_process", undo_after_s=3600)
    client.settled()
    assert client.outcome(order) == "COMPLETED"
    return order.execution_id


def contained(fleet: Fleet) -> set[str]:
    with fleet.http_client() as http:
        return {each["id"] for each in http.get("/api/v1/contained").json()["data"]}


def nothing_was_released_and_kills_are_done(fleet: Fleet, client: FleetClient, held: str) -> None:
    kills = [client.kill() for _ in range(3)]
    client.settled()
    assert [client.outcome(order) for order in kills] == ["COMPLETED"] * 3
    assert held in contained(fleet)
    assert not [record for record in client.wire.results() if record["undo_of"] == held]
    fleet.all_alive()


def asked_meanwhile(client: FleetClient) -> None:
    """A kill while a clock is wrong: it may be done, refused or expired, but it ends."""
    client._kill("meanwhile", client.processes.spawn(), {"COMPLETED", "REJECTED", "EXPIRED"})


@pytest.mark.fault("F14")
@pytest.mark.parametrize("role", ROLES)
def test_a_clock_that_is_a_day_wrong_for_seconds_releases_and_expires_nothing_afterwards(
    fleet: Fleet, clocks: Clocks, new_client: NewClient, role: str
) -> None:
    client = new_client(fleet)
    held = held_for_an_hour(client)
    for seconds in (DAY_S, -DAY_S):
        clocks.turn(role, seconds)
        time.sleep(WRONG_S / 2)
        asked_meanwhile(client)
        time.sleep(WRONG_S / 2)
        asked_meanwhile(client)
        clocks.turn(role, 0)
        time.sleep(HEALED_S)
        nothing_was_released_and_kills_are_done(fleet, client, held)
    if role == "dispatcher":
        assert [record for record in client.wire.audit() if record["kind"] == "clock_suspect"]


@pytest.mark.fault("F14")
@pytest.mark.parametrize("roles", [("dispatcher",), ("gateway", "dispatcher")])
def test_workers_that_start_with_a_clock_a_day_ahead_release_nothing_and_poison_no_node(
    fleet: Fleet, clocks: Clocks, new_client: NewClient, roles: tuple[str, ...]
) -> None:
    client = new_client(fleet)
    held = held_for_an_hour(client)
    for role in roles:
        fleet.stop(role)
        clocks.turn(role, DAY_S)
        fleet.spawn(role)
    fleet.await_ready()
    asked_meanwhile(client)
    time.sleep(WRONG_S)
    for role in roles:
        clocks.turn(role, 0)
    fleet.stop("node")
    fleet.spawn("node")
    time.sleep(HEALED_S)
    nothing_was_released_and_kills_are_done(fleet, client, held)


def test_a_poisoned_floor_is_reported_and_an_operator_takes_it_back_with_an_audit_record(
    fleet: Fleet, new_client: NewClient
) -> None:
    client = new_client(fleet)
    journal, config = fleet.data.root / "node" / "journal.sqlite", str(fleet.data.config("node"))
    reset = [sys.executable, "-m", "workers", "reset-clock", "--config", config]
    assert subprocess.run(reset, check=False, capture_output=True).returncode != 0, "the worker runs"
    fleet.stop("node")
    poisoned = SqliteJournal(journal, node_id=fleet.node_id, randomness=SystemRandomness())
    with closing(poisoned), poisoned.begin() as tx:
        tx.raise_floor(time.time_ns() + DAY_S * 1_000_000_000)
    fleet.spawn("node")
    expired = client._kill("poisoned", client.processes.spawn(), {"EXPIRED", "COMPLETED"})
    client.settled()
    assert [record["detail"] for record in client.wire.audit() if record["kind"] == "clock_suspect"]
    with fleet.http_client() as http:
        assert http.get(f"/api/v1/nodes/{fleet.node_id}").json()["health"] == "clock"
    fleet.stop("node")
    subprocess.run(reset, check=True)
    fleet.spawn("node")
    time.sleep(HEALED_S)
    order = client.kill()
    client.settled()
    assert (client.outcome(order), bool(client.outcome(expired))) == ("COMPLETED", True)
    assert len([record for record in client.wire.audit() if record["kind"] == "time_floor_reset"]) == 1
