"""What other programs do to what is contained is noticed: an alarm, no place among what is contained, nothing to undo.

Against five workers and real container runtimes. Each attack is made with the runtime's own client, a signal or a file
operation; no worker is asked to do it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.containerd.rig import ContainerdRig
from tests.e2e.fleet import Fleet, embedded_zones
from tests.engines import PATIENT, DockerRig, EngineRig
from tests.integration.node_process import Victim
from workers.cli.up.data_dir import DataDir
from workers.domain.result import EFFECT_LOST, EFFECT_WEAKENED
from workers.system import yaml_files
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WAIT_S = 60.0
NOTHING_LEFT = ("nothing_to_undo", "nothing_to_revert")
"""The dispatcher's reason, and the node's where the dispatcher has not read the alarm yet."""


@dataclass(frozen=True, slots=True)
class Site:
    """Five workers, and a person with the admin's token."""

    fleet: Fleet
    http: httpx.Client

    def run(self, action: str, target: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Request it; the execution once it has ended."""
        body = {"action": action, "host": self.fleet.node_id, "target": target, "reason": "an attack", **more}
        answer = self.http.post("/api/v1/executions", json=body)
        answer.raise_for_status()
        return self.ended(answer.json()["id"])

    def contain(self, action: str, container_id: str, **more: Any) -> dict[str, Any]:
        """As ``run``, for a container; its effect is in place."""
        made = self.run(action, {"container": {"id": container_id}}, **more)
        assert (made["outcome"], made["effect_holds"]) == ("COMPLETED", True), made
        assert made["id"] in self.contained()
        return made

    def undo(self, execution_id: str) -> dict[str, Any]:
        """Undo it; the undo once it has ended."""
        answer = self.http.delete(f"/api/v1/executions/{execution_id}")
        answer.raise_for_status()
        return self.ended(answer.json()["id"])

    def shown(self, execution_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v1/executions/{execution_id}")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, execution_id: str) -> dict[str, Any]:
        return until(
            lambda: self.shown(execution_id),
            lambda found: found["stage"] == "ENDED" and found["outcome"] != "UNKNOWN",
        )

    def contained(self) -> set[str]:
        return {row["id"] for row in self.http.get("/api/v1/contained").json()["data"]}

    def lost(self, execution_id: str, why: str) -> None:
        """It is reported as lost, not listed any more, and there is nothing to undo."""
        found = until(lambda: self.shown(execution_id), lambda found: EFFECT_LOST in found["alarms"])
        assert not found["effect_holds"]
        assert any(why in step["message"] for step in found["steps"] if step["alarm"] == EFFECT_LOST), found["steps"]
        assert execution_id not in self.contained()
        undo = self.undo(execution_id)
        assert undo["outcome"] == "REJECTED", undo
        assert undo["code"].endswith(NOTHING_LEFT), undo
        assert " in place" in undo["message"]
        assert self.shown(execution_id)["alarms"] == [EFFECT_LOST]


def until(look: Callable[[], dict[str, Any]], ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + WAIT_S
    while not ready(found := look()):
        assert time.monotonic() < end, f"waited in vain: {found}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Five workers on the embedded broker; the sockets of runtimes are linked in by each test that has one."""
    root = tmp_path_factory.mktemp("lost")
    (root / "run").mkdir()
    with (
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(root / "data"), servers, log_id="this-run", fetch_wait_ms=2) as fleet,
    ):
        node: Any = dict(yaml_files.read_mapping(fleet.data.config("node")))
        node["features"]["respond"]["response_actions"] |= {
            "docker": {"socket_path": [str(root / "run" / "*.sock")]},
            "cri": {"socket_path": [str(root / "run" / "containerd" / "containerd.sock")]},
        }
        yaml_files.write(fleet.data.config("node"), node)
        with fleet.up().http_client() as http:
            yield Site(fleet, http)


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, site: Site) -> Iterator[EngineRig]:
    rig: EngineRig = request.getfixturevalue(f"{request.param}_engine")
    with linked(site, rig.socket, f"{request.param}.sock"):
        yield rig
    rig.clear()


@pytest.fixture
def rig(containerd: ContainerdRig, site: Site) -> Iterator[ContainerdRig]:
    with linked(site, containerd.socket, "containerd/containerd.sock"):
        yield containerd
    containerd.clear()


@contextmanager
def linked(site: Site, socket: Path, name: str) -> Iterator[None]:
    """While the block runs, the node finds a runtime's socket."""
    link = site.fleet.data.root.parent / "run" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(socket)
    try:
        yield
    finally:
        link.unlink()


def test_a_container_that_somebody_starts_continues_or_removes_is_contained_no_more(
    site: Site, engine: EngineRig
) -> None:
    started, removed, unpaused, kept = (engine.run(command=PATIENT) for _ in range(4))
    stops = {each: site.contain("stop_container", each)["id"] for each in (started, removed, kept)}
    pause = site.contain("pause_container", unpaused)["id"]
    engine.begin(started)
    engine.remove(removed)
    with engine.client() as client:
        client.unpause(unpaused)
    site.lost(stops[started], "started again")
    site.lost(stops[removed], "was removed")
    site.lost(pause, "it is running")
    assert engine.state(started) == "running"
    assert site.shown(stops[kept])["alarms"] == []
    assert stops[kept] in site.contained()
    assert site.undo(stops[kept])["outcome"] == "COMPLETED"
    assert engine.state(kept) == "running"


def test_an_undo_that_comes_before_the_watch_says_what_is_listed_afterwards(site: Site, engine: EngineRig) -> None:
    container_id = engine.run(command=PATIENT)
    stop = site.contain("stop_container", container_id)["id"]
    engine.begin(container_id)
    undo = site.undo(stop)  # most often before the next look
    assert undo["outcome"] in ("NO_ACTION", "REJECTED"), undo
    found = until(lambda: site.shown(stop), lambda found: EFFECT_LOST in found["alarms"])
    assert not found["effect_holds"]
    assert stop not in site.contained()
    assert site.undo(stop)["code"].endswith(NOTHING_LEFT)


def test_a_second_stop_joins_the_first_and_is_not_lost_with_it(site: Site, engine: EngineRig) -> None:
    stopped, paused = engine.run(command=PATIENT), engine.run()
    for action, container_id in (("stop_container", stopped), ("pause_container", paused)):
        first = site.contain(action, container_id)["id"]
        second = site.run(action, {"container": {"id": container_id}})
        assert (second["outcome"], second["code"]) == ("NO_ACTION", f"{action}_success_already_held"), second
        assert (second["outputs"]["held_by"], second["effect_holds"]) == (first, False)
        assert site.contained().isdisjoint({second["id"]})
        assert site.undo(first)["outcome"] == "COMPLETED"
        assert site.shown(second["id"])["alarms"] == []
    assert (engine.state(stopped), engine.state(paused)) == ("running", "running")


def test_a_restart_policy_that_somebody_gives_back_is_reported_and_the_stop_can_be_undone(
    site: Site, docker_engine: DockerRig
) -> None:
    with linked(site, docker_engine.socket, "docker.sock"):
        restart_policy_is_given_back(site, docker_engine)
    docker_engine.clear()


def restart_policy_is_given_back(site: Site, engine: DockerRig) -> None:
    container_id = engine.run(command=PATIENT, policy="always")
    stop = site.contain("stop_container", container_id)["id"]
    with engine.client() as client:
        client.update_container(container_id, restart_policy={"Name": "always"})
    found = until(lambda: site.shown(stop), lambda found: bool(found["alarms"]))
    assert (found["alarms"], found["effect_holds"]) == ([EFFECT_WEAKENED], True)
    assert stop in site.contained()
    assert site.undo(stop)["outcome"] == "COMPLETED"


def test_a_container_of_containerd_that_somebody_continues_or_removes_is_paused_no_more(
    site: Site, rig: ContainerdRig
) -> None:
    resumed, removed = rig.run(), rig.run()
    pauses = {each: site.contain("pause_container", each)["id"] for each in (resumed, removed)}
    rig.ctr("tasks", "resume", resumed)
    rig.ctr("tasks", "resume", removed)
    rig.ctr("tasks", "kill", "--signal", "SIGKILL", removed)
    site.lost(pauses[resumed], "it is running")
    site.lost(pauses[removed], "it")


def test_an_undone_execution_says_so_by_whose_request_and_with_which_outcome(site: Site) -> None:
    (victim,) = Victim.several(1)
    try:
        suspended = site.run("suspend_process", {"process": {"pid": victim.pid}})
        assert (suspended["undoable"], suspended["undone_by"]) == (True, None)
        undo = site.undo(suspended["id"])
        assert undo["outcome"] == "COMPLETED"
        killed = site.run("kill_process", {"process": {"pid": victim.pid}})
    finally:
        victim.bury()
    found = site.shown(suspended["id"])
    assert (found["effect_holds"], found["undoable"]) == (False, False)
    assert (found["undone_by"]["id"], found["undone_by"]["actor"], found["undone_by"]["outcome"]) == (
        undo["id"],
        "admin",
        "COMPLETED",
    )
    assert undo["id"] in found["why_not_undoable"]
    assert killed["why_not_undoable"] == "kill_process cannot be undone"
    again = site.http.delete(f"/api/v1/executions/{suspended['id']}")
    assert (again.status_code, undo["id"] in again.text) == (409, True), again.text
    compatible = site.http.delete(f"/secure/response-actions/v1alpha1/action-executions/{suspended['id']}")
    assert compatible.is_client_error
    assert undo["id"] in compatible.text
    words = [sys.executable, "-m", "workers", "show", suspended["id"], "--data", str(site.fleet.data.root)]
    shown = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout
    assert f"undone by        {undo['id']}, requested by admin: COMPLETED" in shown, shown


def test_a_process_that_somebody_continues_is_suspended_no_more(site: Site) -> None:
    (victim,) = Victim.several(1)
    try:
        found = site.run("suspend_process", {"process": {"pid": victim.pid}})
        assert found["effect_holds"], found
        os.kill(victim.pid, signal.SIGCONT)
        site.lost(found["id"], "was continued")
    finally:
        victim.bury()


def test_a_file_that_somebody_takes_out_of_the_vault_is_in_quarantine_no_more(site: Site, tmp_path: Path) -> None:
    taken, again = tmp_path / "taken", tmp_path / "again"
    made = {}
    for path in (taken, again):
        path.write_bytes(b"malware")
        made[path] = site.run("file_quarantine", {"file": {"path": str(path)}})
        assert made[path]["effect_holds"], made
    Path(str(made[taken]["outputs"]["quarantined_file_path"])).unlink()
    again.write_bytes(b"malware")  # dropped once more
    site.lost(made[taken]["id"], "cannot come back")
    found = until(lambda: site.shown(made[again]["id"]), lambda found: bool(found["alarms"]))
    assert (found["alarms"], found["effect_holds"]) == ([EFFECT_WEAKENED], True)
    again.unlink()
    assert site.undo(made[again]["id"])["outcome"] == "COMPLETED"
