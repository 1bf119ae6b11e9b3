"""A storm: all workers are killed and stopped at random under mixed actions, with no mercy for what is under way.

Nothing is lost, done twice or stranded: at the end every file is back with its content and everything it had, and no
process was left stopped. What is true is read from the kernel, the directories and the wire (`client.py`), never asked
of a worker.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

import pytest

from tests.e2e.client import FleetClient
from tests.e2e.conftest import NewClient
from tests.e2e.test_crashes import SETTLE_S
from tests.e2e.victim_containers import VictimContainers
from tests.engines import EngineRig
from workers.cli.up.data_dir import ROLES
from workers.system import yaml_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FAULTS = ("kill", "kill", "kill", "freeze", "kill while frozen", "kill node", "kill node again and again")


MOST_OPEN = 60
"""What may be under way before more is asked for."""


def storm(client: FleetClient, *, seconds: float, seed: int) -> Counter[str]:
    """Mixed actions from one thread, faults from this one; how many of each. Every worker runs at the end."""
    randomness, load = random.Random(seed), random.Random(seed + 1)
    over = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while not over.is_set():
                client.mixed(3, randomness=load, at_once=3)
                while len(client.open()) > MOST_OPEN and not over.wait(0.2):
                    pass  # a busy machine's node gets no more than it can do between two deaths
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    done: Counter[str] = Counter()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and not failures:
            time.sleep(randomness.uniform(0.1, 1.5))
            fault, role = randomness.choice(FAULTS), randomness.choice(ROLES)
            _inflict(client, fault, role, randomness)
            done[fault] += 1
    finally:
        over.set()
        asking.join()
    if failures:
        raise failures[0]
    return done


def _inflict(client: FleetClient, fault: str, role: str, randomness: random.Random) -> None:
    fleet = client.fleet
    match fault:
        case "freeze":
            fleet.freeze(role, randomness.uniform(0.1, 2.0))
            return
        case "kill while frozen":
            fleet.freeze(role, randomness.uniform(0.1, 0.5))
        case "kill node":
            role = "node"
        case "kill node again and again":
            role = "node"
            for _ in range(3):  # soon after its start, while it goes on with what it was at
                fleet.kill(role)
                client.nothing_lost()
                fleet.spawn(role)
                time.sleep(randomness.uniform(0.5, 2.0))
        case _:
            pass
    fleet.kill(role)
    if role == "node":
        client.nothing_lost()
    fleet.spawn(role)


def with_containers(request: pytest.FixtureRequest, client: FleetClient) -> None:
    """Give the node a container engine, where there is one."""
    try:
        engine: EngineRig = request.getfixturevalue("docker_engine")
    except pytest.skip.Exception:
        return
    request.addfinalizer(engine.clear)
    fleet = client.fleet
    fleet.stop("node")
    node: Any = dict(yaml_files.read_mapping(fleet.data.config("node")))
    node["features"]["respond"]["response_actions"]["docker"] = {"socket_path": [str(engine.socket)]}
    yaml_files.write(fleet.data.config("node"), node)
    fleet.spawn("node")
    client.containers = VictimContainers(engine)


def weather(client: FleetClient, *, seconds: float, seed: int, broker: str) -> None:
    """A storm, the calm after it, and the verdict."""
    client.storm = True
    faults = storm(client, seconds=seconds, seed=seed)
    settled_s = client.settled(SETTLE_S)
    client.give_everything_back(SETTLE_S)
    verdict = client.judge()
    kinds = dict(Counter(each.kind for each in client.orders))
    print(f"\n{broker} seed {seed}: {sum(faults.values())} faults {dict(faults)} under {kinds}")
    print(f"settled {settled_s:.1f} s after the last; {verdict}")
    client.fleet.all_alive()
    client.fleet.no_traceback()


@pytest.mark.fault("F2")
@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_a_storm_loses_doubles_and_strands_nothing(
    request: pytest.FixtureRequest, new_client: NewClient, broker: str
) -> None:
    client = new_client(request.getfixturevalue(f"{broker}_fleet"))
    with_containers(request, client)
    weather(client, seconds=20, seed=9, broker=broker)


@pytest.mark.fault("F2")
@pytest.mark.faults
@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_a_long_storm_loses_doubles_and_strands_nothing(
    request: pytest.FixtureRequest, new_client: NewClient, broker: str
) -> None:
    seed = random.SystemRandom().randrange(1 << 16)
    client = new_client(request.getfixturevalue(f"{broker}_fleet"))
    with_containers(request, client)
    weather(client, seconds=150, seed=seed, broker=broker)
