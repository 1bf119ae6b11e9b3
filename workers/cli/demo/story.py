"""The demo's acts, each against the running machine, each returning what it checked.

Called by the demo's command. Speaks HTTP as any client would, and Kafka where it plays the attacker; believes nothing
that it can see for itself: deaths come from the kernel, the forged command's end from the dead letters.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx

from workers.cli.demo import detection, malware
from workers.cli.demo.forgery import Forger
from workers.cli.up.machine import Machine
from workers.host.processes.ports import Processes

SETTLE_S: Final = 10.0
"""How long an act may take before it counts as failed; each takes milliseconds on an idle machine."""


@dataclass(frozen=True, slots=True)
class Check:
    """One post-condition, and whether it held."""

    name: str
    held: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """What every act needs: the machine, a client of its gateway, the local processes, a scratch directory."""

    machine: Machine
    client: httpx.Client
    processes: Processes
    forger: Forger
    scratch: Path
    say: Callable[[str], None]
    parent: int = field(default_factory=os.getppid)
    """Who started the demo: part of a process line that shares the malware's cgroup and must outlive it."""

    @property
    def host(self) -> str:
        """The node's id."""
        return self.machine.start.node_id

    def detect(self, pid: int) -> dict[str, Any]:
        """Hand in what a detector would send about a process; the event as sent."""
        handle = self.processes.open(pid)
        if handle is None:
            raise ProcessLookupError(pid)
        event = detection.falco_event(handle.facts, self.processes.own_line())
        handle.close()
        self.client.post("/api/v1/events", json=event).raise_for_status()
        return event

    def request_kill(self, pid: int, start_time_ns: int, reason: str) -> dict[str, Any]:
        """Ask for a kill as a person would, and follow it to its end."""
        answer = self.client.post(
            "/api/v1/executions",
            json={
                "action": "kill_process",
                "host": self.host,
                "target": {"process": {"pid": pid, "start_time_ns": start_time_ns}},
                "reason": reason,
            },
        )
        answer.raise_for_status()
        return self.followed(lambda: self.client.get(f"/api/v1/executions/{answer.json()['id']}").json())

    def request_quarantine(self, path: Path, reason: str) -> dict[str, Any]:
        """Ask for a file to be taken away, as a person would, and follow it to its end."""
        wanted = {"action": "file_quarantine", "host": self.host, "target": {"file": {"path": str(path)}}}
        answer = self.client.post("/api/v1/executions", json=wanted | {"reason": reason})
        answer.raise_for_status()
        return self.followed(lambda: self.client.get(f"/api/v1/executions/{answer.json()['id']}").json())

    def undo(self, execution_id: str) -> dict[str, Any]:
        """Undo an execution, and follow the undo to its end."""
        answer = self.client.delete(f"/api/v1/executions/{execution_id}")
        answer.raise_for_status()
        return self.followed(lambda: self.client.get(f"/api/v1/executions/{answer.json()['id']}").json())

    def followed(self, fetch: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """Fetch until it has ended; what was seen last when the time is over."""
        deadline = time.monotonic() + SETTLE_S
        seen: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            seen = fetch() or seen
            if seen is not None and seen["stage"] == "ENDED" and seen["outcome"] != "UNKNOWN":
                return seen
            time.sleep(0.01)
        return seen or {"stage": "", "outcome": "", "code": "", "message": "nothing was seen", "steps": []}

    def execution_of_event(self, event_id: str) -> dict[str, Any] | None:
        """The execution that an event led to, with its steps."""
        found = self.client.get("/api/v1/executions", params={"event_id": event_id}).json()["data"]
        return self.client.get(f"/api/v1/executions/{found[0]['id']}").json() if found else None


def detection_kills(stage: Stage) -> Sequence[Check]:
    """Act 1: a detection comes in, and the process it names dies."""
    specimen = malware.start(stage.scratch)
    stage.say(f"malware is at work: pid {specimen.pid}")
    event = stage.detect(specimen.pid)
    stage.say(f"event    {event['rule']!r} about pid {specimen.pid}")
    died = specimen.died_at_ns(SETTLE_S) is not None
    execution = stage.followed(lambda: stage.execution_of_event(event["uuid"]))
    for step in execution["steps"]:
        stage.say(f"{step['stage'].lower():<10} {step['at']}  by {step['producer']}  {step['code'] or ''}")
    status = specimen.end()
    stages = [step["stage"] for step in execution["steps"]]
    return [
        Check("the malware is dead, by SIGKILL, as the kernel says", died and status == -9, f"status {status}"),
        Check("history says COMPLETED", execution["outcome"] == "COMPLETED", execution["code"]),
        Check(
            "each rung of the ladder is there once",
            stages == ["REQUESTED", "DISPATCHED", "CLAIMED", "ENDED"],
            " → ".join(stages),
        ),
        Check("its post-condition was checked", bool((execution.get("post_condition") or {}).get("holds"))),
        Check("the signed command it answers is on record", len(execution.get("command_sha256") or "") == 64),
    ]


def second_request_is_no_action(stage: Stage) -> Sequence[Check]:
    """Act 2: the same target again, by a person: there is nothing left to do, and that is what is said."""
    specimen = malware.start(stage.scratch)
    handle = stage.processes.open(specimen.pid)
    started = handle.facts.started_at_ns if handle is not None else 0
    first = stage.request_kill(specimen.pid, started, "demo: by hand")
    specimen.end()
    second = stage.request_kill(specimen.pid, started, "demo: again")
    return [
        Check("a person's request kills", first["outcome"] == "COMPLETED", first["code"]),
        Check("the second request is NO_ACTION", second["outcome"] == "NO_ACTION", second["code"]),
    ]


def protected_is_rejected(stage: Stage) -> Sequence[Check]:
    """Act 3: somebody asks for the node worker itself."""
    node = int(stage.machine.data.pid("node").read_text())
    handle = stage.processes.open(node)
    started = handle.facts.started_at_ns if handle is not None else 0
    answer = stage.request_kill(node, started, "demo: suicide")
    alive = handle is not None and handle.refresh() is not None
    return [
        Check("a protected process is REJECTED", answer["outcome"] == "REJECTED", answer["code"]),
        Check("and still runs", alive, f"pid {node}"),
    ]


def forged_command_is_dead_lettered(stage: Stage) -> Sequence[Check]:
    """Act 4: an attacker who can write to the broker, but has no key."""
    specimen = malware.start(stage.scratch)
    handle = stage.processes.open(specimen.pid)
    execution_id, digest = stage.forger.forge(specimen.pid, handle.facts.started_at_ns if handle is not None else 0)
    reason = stage.forger.dead_letter_reason(digest, SETTLE_S)
    alive = specimen.died_at_ns(0.2) is None
    known = stage.client.get(f"/api/v1/executions/{execution_id}").status_code
    specimen.end()
    return [
        Check("a forged command is dead-lettered", bool(reason), reason or "no dead letter"),
        Check("and nothing dies", alive, f"pid {specimen.pid}"),
        Check("and history does not know it", known == HTTPStatus.NOT_FOUND, f"status {known}"),
    ]


def quarantine_comes_back(stage: Stage) -> Sequence[Check]:
    """Act 5: the wrong file is taken away, and comes back exactly as it was."""
    path = stage.scratch / "dropper"
    path.write_bytes(b"#!/bin/sh\n# harmless\n" + os.urandom(4096))
    path.chmod(0o751)
    os.utime(path, ns=(1_600_000_000_123_456_789, 1_700_000_000_987_654_321))
    before = _everything(path)
    taken = stage.request_quarantine(path, "demo: looks like a dropper")
    gone = not path.exists()
    vault = Path(str(taken.get("outputs", {}).get("quarantined_file_path", "")))
    hidden = vault.is_file() and vault.stat().st_mode & 0o777 == 0o400
    listed = [each["id"] for each in stage.client.get("/api/v1/contained").json()["data"]]
    undone = stage.undo(taken["id"]) if gone else {"outcome": "", "code": "nothing was taken"}
    back = path.exists() and _everything(path) == before
    return [
        Check("the file is taken away", taken["outcome"] == "COMPLETED" and gone, taken["code"]),
        Check("what the vault keeps is for the worker only, and compressed", hidden),
        Check("contained lists it", listed == [taken["id"]]),
        Check(
            "undo brings it back: content, mode, owner, times",
            undone["outcome"] == "COMPLETED" and back,
            undone["code"],
        ),
    ]


def _everything(path: Path) -> tuple[bytes, int, int, int, int]:
    facts = path.stat()
    return path.read_bytes(), facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns


def history_is_sound(stage: Stage) -> Sequence[Check]:
    """Last act: what the store says of itself after all that."""
    health = stage.client.get("/api/v1/health").json()
    return [
        Check("every record in history verified", health["unverified"] == 0, str(health["unverified"])),
        Check("no execution has two ends", health["conflicts"] == 0, str(health["conflicts"])),
        Check("no worker died on the way", stage.machine.supervisor.step() == []),
        Check("this demo's own process line is untouched", os.getppid() == stage.parent, f"parent {stage.parent}"),
    ]
