"""What a damaged vault, ledger or history does to a running system: each is reported, and nothing hangs.

What each SQLite store answers at its start is in tests/integration/test_damaged_stores.py.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.client import FleetClient
from tests.e2e.conftest import NewClient
from tests.e2e.fleet import Fleet
from workers.domain.result import EFFECT_LOST

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WITHIN_S: Final = 30.0


def flipped(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)


def deleted(path: Path) -> None:
    path.unlink()


VAULT: Final = {
    ("", flipped): ("object_damaged",),
    ("", cut): ("object_damaged",),
    ("", deleted): ("nothing_to_undo", "nothing_to_revert"),
    (".manifest", flipped): ("manifest_damaged",),
    (".manifest", cut): ("manifest_damaged",),
    (".manifest", deleted): ("nothing_to_undo", "nothing_to_revert"),
}
"""Kind of file, damage, and the code of the undo's failure; of two the second is the node's, where the dispatcher has
not read yet that the effect is lost."""


def ended(client: FleetClient, execution_id: str) -> dict[str, Any]:
    """The execution, once it has ended."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        with client.fleet.http_client() as http:
            answer = http.get(f"/api/v1/executions/{execution_id}")
        found: dict[str, Any] = answer.json() if answer.is_success else {}
        if found.get("stage") == "ENDED" and found.get("outcome") != "UNKNOWN":
            return found
        assert time.monotonic() < deadline, f"hangs: {found}\n{client.fleet.log_tails()}"
        time.sleep(0.1)


@pytest.mark.fault("damaged store")
def test_a_damaged_vault_is_reported_at_the_start_and_each_undo_ends_with_the_reason(
    fresh_fleet: Fleet, new_client: NewClient
) -> None:
    client = new_client(fresh_fleet)
    damaged = {client.quarantine().execution_id: case for case in VAULT}
    whole = client.quarantine()
    client.settled()
    fresh_fleet.stop("node")
    for execution_id, (kind, damage) in damaged.items():
        damage(fresh_fleet.vault / f"{execution_id}{kind}")
    fresh_fleet.spawn("node")

    _until(lambda: set(_reported(fresh_fleet)) == set(damaged), fresh_fleet)
    for execution_id, case in damaged.items():
        with fresh_fleet.http_client() as http:
            if case[1] is deleted:  # the node notices that, too
                _until(partial(_is_lost, http, execution_id), fresh_fleet)
            answer = http.delete(f"/api/v1/executions/{execution_id}")
        assert answer.is_success, answer.text
        undo = ended(client, answer.json()["id"])
        assert undo["outcome"] != "COMPLETED", f"{case}: {undo}"
        print(case[0] or "object", case[1].__name__, undo["outcome"], undo.get("code"))
        assert undo["code"].endswith(VAULT[case]), f"{case}: {undo}"
    with fresh_fleet.http_client() as http:
        back = ended(client, http.delete(f"/api/v1/executions/{whole.execution_id}").json()["id"])
    assert back["outcome"] == "COMPLETED"
    fresh_fleet.all_alive()


@pytest.mark.fault("damaged store")
def test_a_ledger_that_is_damaged_under_a_running_dispatcher_never_leaves_a_kill_without_an_answer(
    fresh_fleet: Fleet, new_client: NewClient
) -> None:
    """Either the dispatcher still has what it needs, or it ends; its next start says why."""
    client = new_client(fresh_fleet)
    for _ in range(20):
        client.kill()
    client.settled()
    directory = fresh_fleet.data.root / "dispatcher"
    for path in (directory / "ledger.sqlite", directory / "ledger.sqlite-wal"):
        data = bytearray(path.read_bytes())
        for at in range(200, len(data), 512):
            data[at] ^= 1
        path.write_bytes(data)
    order = None
    with suppress(AssertionError):  # the gateway may not see it folded
        order = client.kill()
    dispatcher = fresh_fleet.running["dispatcher"]
    _until(
        lambda: (
            dispatcher.poll() is not None
            or (order is not None and client.processes.died_ns(order.pid or 0) is not None)
        ),
        fresh_fleet,
    )
    if dispatcher.poll() is None:
        fresh_fleet.kill("dispatcher")
    size = fresh_fleet.data.log("dispatcher").stat().st_size
    fresh_fleet.spawn("dispatcher")
    assert fresh_fleet.running["dispatcher"].wait(WITHIN_S) == 2
    (line,) = fresh_fleet.data.log("dispatcher").read_bytes()[size:].decode().splitlines()
    assert line.startswith(f"douse: {directory / 'ledger.sqlite'}: is damaged: ")
    del fresh_fleet.running["dispatcher"]


@pytest.mark.fault("damaged store")
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_history_stops_the_projector_with_one_line_and_is_folded_again_from_the_log(
    fresh_fleet: Fleet, new_client: NewClient, damage: str
) -> None:
    client = new_client(fresh_fleet)
    order = client.kill()
    client.settled()
    fresh_fleet.stop("projector", "gateway")
    history = fresh_fleet.data.root / "history.sqlite"
    data = bytearray(history.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page] ^= 0x20
    history.write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    size = fresh_fleet.data.log("projector").stat().st_size
    fresh_fleet.spawn("projector")
    assert fresh_fleet.running["projector"].wait(WITHIN_S) == 2
    (line,) = fresh_fleet.data.log("projector").read_bytes()[size:].decode().splitlines()
    assert line.startswith(f"douse: history: {history} is damaged: ")
    for path in history.parent.glob("history.sqlite*"):
        path.unlink()
    fresh_fleet.spawn("projector")
    fresh_fleet.spawn("gateway")
    fresh_fleet.await_ready()
    assert ended(client, order.execution_id)["outcome"] == "COMPLETED"


def _reported(fleet: Fleet) -> list[str]:
    lines = fleet.data.log("node").read_text().splitlines()
    return [json.loads(line)["execution_id"] for line in lines if '"vault_damaged"' in line and line.startswith("{")]


def _is_lost(http: httpx.Client, execution_id: str) -> bool:
    return bool(http.get(f"/api/v1/executions/{execution_id}").json()["alarms"] == [EFFECT_LOST])


def _until(holds: Callable[[], bool], fleet: Fleet) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, f"hangs\n{fleet.log_tails()}"
        time.sleep(0.05)
