"""The demo's scenarios: each runs against the running machine and returns what it checked.

Called by ``run``. Uses HTTP as any client does, and Kafka for the attacker. Checks results independently of Douse
where it can: the kernel reports the end of a process, the dead letters the fate of the forged command.
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
from workers.cli.demo.forged_command import Forger
from workers.cli.up.machine import Machine
from workers.host.processes.ports import Processes

SETTLE_S: Final = 10.0
"""How long a scenario may take before it fails; each takes milliseconds on an idle machine."""


@dataclass(frozen=True, slots=True)
class Check:
    """One post-condition, and whether it held."""

    name: str
    held: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Demo:
    """What every scenario needs: the machine, a client of its gateway, the local processes, a scratch directory."""

    machine: Machine
    client: httpx.Client
    processes: Processes
    forger: Forger
    scratch: Path
    report: Callable[[str], None]
    parent: int = field(default_factory=os.getppid)
    """The process that started the demo: it shares the malware's cgroup and must survive."""

    @property
    def host(self) -> str:
        """The node's id."""
        return self.machine.start.node_id

    def detect(self, pid: int) -> dict[str, Any]:
        """Submit the event that a detector would send about a process; the event as sent."""
        handle = self.processes.open(pid)
        if handle is None:
            raise ProcessLookupError(pid)
        event = detection.falco_event(handle.facts, self.processes.own_line())
        handle.close()
        self.client.post("/api/v1/events", json=event).raise_for_status()
        return event

    def request_kill(self, pid: int, start_time_ns: int, reason: str) -> dict[str, Any]:
        """Request a kill as a person does, and wait for its end."""
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
        return self.until_ended(lambda: self.client.get(f"/api/v1/executions/{answer.json()['id']}").json())

    def request_quarantine(self, path: Path, reason: str) -> dict[str, Any]:
        """Request a quarantine as a person does, and wait for its end."""
        wanted = {"action": "file_quarantine", "host": self.host, "target": {"file": {"path": str(path)}}}
        answer = self.client.post("/api/v1/executions", json=wanted | {"reason": reason})
        answer.raise_for_status()
        return self.until_ended(lambda: self.client.get(f"/api/v1/executions/{answer.json()['id']}").json())

    def undo(self, execution_id: str) -> dict[str, Any]:
        """Undo an execution, and wait for the end of the undo."""
        answer = self.client.delete(f"/api/v1/executions/{execution_id}")
        answer.raise_for_status()
        return self.until_ended(lambda: self.client.get(f"/api/v1/executions/{answer.json()['id']}").json())

    def until_ended(self, fetch: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """Fetch until it has ended; the last answer if it does not end in time."""
        deadline = time.monotonic() + SETTLE_S
        latest: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            latest = fetch() or latest
            if latest is not None and latest["stage"] == "ENDED" and latest["outcome"] != "UNKNOWN":
                return latest
            time.sleep(0.01)
        return latest or {"stage": "", "outcome": "", "code": "", "message": "no execution was found", "steps": []}

    def execution_of_event(self, event_id: str) -> dict[str, Any] | None:
        """The execution that an event led to, with its steps."""
        found = self.client.get("/api/v1/executions", params={"event_id": event_id}).json()["data"]
        return self.client.get(f"/api/v1/executions/{found[0]['id']}").json() if found else None


def detection_kills(demo: Demo) -> Sequence[Check]:
    """A detection arrives, and the process that it names is killed."""
    process = malware.start(demo.scratch)
    demo.report(f"malware is running: pid {process.pid}")
    event = demo.detect(process.pid)
    demo.report(f"event    {event['rule']!r} about pid {process.pid}")
    died = process.died_at_ns(SETTLE_S) is not None
    execution = demo.until_ended(lambda: demo.execution_of_event(event["uuid"]))
    for step in execution["steps"]:
        demo.report(f"{step['stage'].lower():<10} {step['at']}  by {step['producer']}  {step['code'] or ''}")
    status = process.end()
    stages = [step["stage"] for step in execution["steps"]]
    return [
        Check("the kernel reports that SIGKILL ended the malware", died and status == -9, f"status {status}"),
        Check("history has COMPLETED", execution["outcome"] == "COMPLETED", execution["code"]),
        Check(
            "history has each stage once",
            stages == ["REQUESTED", "DISPATCHED", "CLAIMED", "ENDED"],
            " → ".join(stages),
        ),
        Check("its post-condition was checked", bool((execution.get("post_condition") or {}).get("holds"))),
        Check("the digest of the signed command is recorded", len(execution.get("command_sha256") or "") == 64),
    ]


def second_request_is_no_action(demo: Demo) -> Sequence[Check]:
    """A person requests the same target twice: the second time, nothing is left to do."""
    process = malware.start(demo.scratch)
    handle = demo.processes.open(process.pid)
    started = handle.facts.started_at_ns if handle is not None else 0
    first = demo.request_kill(process.pid, started, "demo: requested by a person")
    process.end()
    second = demo.request_kill(process.pid, started, "demo: again")
    return [
        Check("a person's request kills the process", first["outcome"] == "COMPLETED", first["code"]),
        Check("the second request is NO_ACTION", second["outcome"] == "NO_ACTION", second["code"]),
    ]


def protected_is_rejected(demo: Demo) -> Sequence[Check]:
    """A person requests a kill of the node worker itself."""
    node = int(demo.machine.data.pid("node").read_text())
    handle = demo.processes.open(node)
    started = handle.facts.started_at_ns if handle is not None else 0
    answer = demo.request_kill(node, started, "demo: kill the node worker")
    alive = handle is not None and handle.refresh() is not None
    return [
        Check("a protected process is REJECTED", answer["outcome"] == "REJECTED", answer["code"]),
        Check("the protected process still runs", alive, f"pid {node}"),
    ]


def forged_command_is_dead_lettered(demo: Demo) -> Sequence[Check]:
    """An attacker can write to the broker, but has no trusted key."""
    process = malware.start(demo.scratch)
    handle = demo.processes.open(process.pid)
    execution_id, digest = demo.forger.forge(process.pid, handle.facts.started_at_ns if handle is not None else 0)
    reason = demo.forger.dead_letter_reason(digest, SETTLE_S)
    alive = process.died_at_ns(0.2) is None
    known = demo.client.get(f"/api/v1/executions/{execution_id}").status_code
    process.end()
    return [
        Check("a forged command is dead-lettered", bool(reason), reason or "no dead letter"),
        Check("its target still runs", alive, f"pid {process.pid}"),
        Check("history does not have it", known == HTTPStatus.NOT_FOUND, f"status {known}"),
    ]


def quarantine_comes_back(demo: Demo) -> Sequence[Check]:
    """A file is quarantined by mistake, and the undo restores it exactly."""
    path = demo.scratch / "dropper"
    path.write_bytes(b"#!/bin/sh\n# harmless\n" + os.urandom(4096))
    path.chmod(0o751)
    os.utime(path, ns=(1_600_000_000_123_456_789, 1_700_000_000_987_654_321))
    before = _content_and_metadata(path)
    taken = demo.request_quarantine(path, "demo: looks like a dropper")
    gone = not path.exists()
    quarantined = Path(str(taken.get("outputs", {}).get("quarantined_file_path", "")))
    hidden = quarantined.is_file() and quarantined.stat().st_mode & 0o777 == 0o400
    listed = [each["id"] for each in demo.client.get("/api/v1/contained").json()["data"]]
    undone = demo.undo(taken["id"]) if gone else {"outcome": "", "code": "nothing was quarantined"}
    back = path.exists() and _content_and_metadata(path) == before
    return [
        Check("the file is quarantined", taken["outcome"] == "COMPLETED" and gone, taken["code"]),
        Check("the quarantined copy is readable by the worker only", hidden),
        Check("the list of contained targets has it", listed == [taken["id"]]),
        Check(
            "undo restores content, mode, owner and times",
            undone["outcome"] == "COMPLETED" and back,
            undone["code"],
        ),
    ]


def _content_and_metadata(path: Path) -> tuple[bytes, int, int, int, int]:
    facts = path.stat()
    return path.read_bytes(), facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns


def history_is_sound(demo: Demo) -> Sequence[Check]:
    """History and workers are healthy after all scenarios."""
    health = demo.client.get("/api/v1/health").json()
    return [
        Check("every record in history verified", health["unverified"] == 0, str(health["unverified"])),
        Check("no execution has two outcomes", health["conflicts"] == 0, str(health["conflicts"])),
        Check("no worker ended meanwhile", demo.machine.supervisor.step() == []),
        Check("the demo's own parent process still runs", os.getppid() == demo.parent, f"parent {demo.parent}"),
    ]
