"""Replay: the whole log again and again, and old commands a thousand times, change nothing and do nothing."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import pytest

from tests.e2e.client import FleetClient
from tests.e2e.conftest import NewClient
from tests.e2e.fleet import COMMANDS, Fleet
from tests.e2e.wire import Put, Wire, put
from workers.projector.projector import FAILPOINTS as PROJECTOR_FAILPOINTS
from workers.settings import ProjectorSettings, parse
from workers.store.history.store import open_history
from workers.system.yaml_files import read_mapping
from workers.wire.avro import AvroCodec
from workers.wiring.projector import Choice, rebuild_history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FOLDED: Final = ("response.results", "response.audit", "fleet.nodes", "runtime.events", "falco.events")
TIMES: Final = 10
REPLAYED: Final = 1000
SETTLE_S: Final = 60.0


def settings_of(fleet: Fleet) -> ProjectorSettings:
    """The projector's own."""
    return parse(ProjectorSettings, read_mapping(fleet.data.config("projector")))


def digest_and_offsets(fleet: Fleet) -> tuple[str, dict[str, int]]:
    """The store's digest, and where it stands."""
    with closing(open_history(settings_of(fleet).history, AvroCodec())) as store:
        return store.digest(), dict(store.health().next_offsets)


def at_the_end(fleet: Fleet, wire: Wire) -> str:
    """The digest, once the projector has read everything that there is."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        wire.read_to_the_end()
        ends: dict[str, int] = {}
        for topic in FOLDED:
            for record in wire.records(topic):
                place = f"{topic}/{record.partition}"
                ends[place] = max(ends.get(place, 0), record.offset + 1)
        digest, offsets = digest_and_offsets(fleet)
        if all(offsets.get(place, 0) >= end for place, end in ends.items()):
            return digest
        assert time.monotonic() < deadline, f"the projector is behind\n{fleet.log_tails('projector')}"
        time.sleep(0.1)


def until_dead(client: FleetClient, role: str) -> None:
    """Until an armed worker has reached its place; something more may have to happen for that."""
    deadline = time.monotonic() + SETTLE_S
    while not client.fleet.died_at_failpoint(role):
        client.detected()
        assert time.monotonic() < deadline, f"{role} never came there"


@pytest.mark.fault("F8")
@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_the_whole_log_ten_times_changes_nothing_and_a_rebuild_equals_the_store(
    request: pytest.FixtureRequest, new_client: NewClient, broker: str
) -> None:
    """Folded by a projector that was killed in the middle of batches, with quarantines and undos in it."""
    fleet: Fleet = request.getfixturevalue(f"{broker}_fleet")
    client = new_client(fleet)
    for place in PROJECTOR_FAILPOINTS:
        fleet.stop("projector")
        fleet.spawn("projector", f"{place}=kill:3")
        with ThreadPoolExecutor(1) as client_thread:
            mixed = client_thread.submit(client.mixed, 30, randomness=random.Random(3))
            while not (mixed.done() or fleet.died_at_failpoint("projector")):
                time.sleep(0.02)
            until_dead(client, "projector")
            fleet.spawn("projector")  # at once: without it, the gateway waits 2 s for history at each request
            mixed.result()
        client.settled()
    before = client.judge()
    assert before.taken, "no quarantine in it"
    # Everybody but the projector rests, so that all that is new in the log is what is put there.
    fleet.stop("gateway", "responder", "node", "dispatcher")
    with Wire(fleet.bootstrap_servers, FOLDED, fetch_wait_ms=fleet.fetch_wait_ms) as wire:
        digest = at_the_end(fleet, wire)
        whole = [
            Put(topic, record.value, record.key or None, record.partition)
            for topic in FOLDED
            for record in sorted(wire.records(topic), key=lambda record: (record.partition, record.offset))
        ]
        for _ in range(TIMES):
            put(fleet.bootstrap_servers, whole)
        again = at_the_end(fleet, wire)
    fleet.stop("projector")
    rebuilt = rebuild_history(settings_of(fleet), Choice())
    print(f"\n{broker}: {len(whole)} records {TIMES} times; rebuilt from {rebuilt.records}; {before}")
    assert again == digest
    assert (rebuilt.equal, rebuilt.behind, rebuilt.replaced) == (True, {}, True)
    fleet.up()
    assert client.judge().outcomes == before.outcomes
    fleet.no_traceback()


def late_ones(client: FleetClient, count: int) -> None:
    """Commands that reach the node when they have expired: their targets live on and would die if one were believed."""
    node = client.fleet.running["node"]
    node.send_signal(signal.SIGSTOP)
    for _ in range(count):
        client.late()
    time.sleep(1.2)
    node.send_signal(signal.SIGCONT)


def intents(client: FleetClient) -> Counter[str]:
    """How often each execution's intent was audited, repetitions on the wire left out."""
    reported = {(record["chain_id"], record["record_no"]): record for record in client.wire.audit()}
    return Counter(record["execution_id"] for record in reported.values() if record["kind"] == "intent")


def finals(client: FleetClient) -> set[str]:
    """Every distinct end that was ever told."""
    return {
        repr(sorted((key, repr(value)) for key, value in result.items()))
        for result in client.wire.results()
        if result["stage"] == "ENDED"
    }


def replay(fleet: Fleet, commands: Wire, times: int) -> int:
    """Put the node's commands on its partition again; how many."""
    commands.read_to_the_end()
    genuine = {record.value: record for record in commands.records(COMMANDS)}
    ours = [Put(COMMANDS, h.value, h.key, h.partition) for h in genuine.values() if h.key == fleet.node_id.encode()]
    assert ours
    put(fleet.bootstrap_servers, (ours * (1 + times // len(ours)))[:times])
    return times


def past(client: FleetClient, commands: Wire) -> None:
    """Until the node has taken in all that lies before a command asked for now."""
    client.kill()
    client.settled()
    client.judge()
    commands.read_to_the_end()


@pytest.mark.fault("F8")
@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_a_thousand_old_commands_do_nothing_not_after_a_restart_nor_after_the_journal_is_lost(
    request: pytest.FixtureRequest, new_client: NewClient, broker: str
) -> None:
    fleet: Fleet = request.getfixturevalue(f"{broker}_fleet")
    client = new_client(fleet)
    late_ones(client, 10)
    client.mixed(20, randomness=random.Random(4))
    client.settled()
    client.judge()
    with Wire(fleet.bootstrap_servers, (COMMANDS,), fetch_wait_ms=fleet.fetch_wait_ms) as commands:
        intended, ended, letters = intents(client), finals(client), len(client.wire.dead_letters())

        fleet.stop("node")
        fleet.spawn("node")
        replay(fleet, commands, REPLAYED)
        past(client, commands)
        assert set(intents(client) - intended) == {client.orders[-1].execution_id}, "something was intended again"
        assert len(finals(client) - ended) == 1
        assert len(client.wire.dead_letters()) == letters
        repeats = client.judge()

        # Now the journal is lost, with commands in the log that are young, genuine, and were never run.
        node = fleet.running["node"]
        node.send_signal(signal.SIGSTOP)
        orphans = [client.kill() for _ in range(10)]
        commands.read_to_the_end()
        until_commanded(commands, {each.execution_id for each in orphans})
        fleet.kill("node")
        for path in (fleet.data.root / "node").glob("journal.sqlite*"):
            path.unlink()
        for each in orphans:
            each.outcomes = frozenset({"UNKNOWN"})
            client.orders.remove(each)
        fleet.spawn("node")
        replay(fleet, commands, REPLAYED)
        deadline = time.monotonic() + SETTLE_S
        while len(refused := client.wire.dead_letters()[letters:]) < REPLAYED:
            client.wire.look()
            assert time.monotonic() < deadline, f"{len(refused)} dead letters\n{fleet.log_tails('node')}"
        reasons = Counter(letter["reason"] for letter in refused)
        client.kill()
        client.settled()
        client.judge()
        alive = [each.pid for each in orphans if client.processes.died_ns(each.pid) is None]
        print(f"\n{broker}: {REPLAYED} after a restart: 0 intents, {repeats}; after journal loss: {dict(reasons)}")
        assert len(alive) == len(orphans), "an orphan of the lost journal was run"
        assert set(reasons) == {"wrong_incarnation"}
        fleet.no_traceback()


def until_commanded(commands: Wire, ids: set[str]) -> None:
    """Until each of these was dispatched."""
    deadline = time.monotonic() + SETTLE_S
    while not ids <= {record.read.fields.get("command_id") for record in commands.records(COMMANDS)}:
        commands.look()
        assert time.monotonic() < deadline
