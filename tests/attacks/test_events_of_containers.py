"""From outside: alerts on the detector's topic about a file in a container whose id is missing or contradicts itself.

Whoever makes a container chooses its files' names: before, an alert without a usable id took the *host's* file of that
name.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from tests.integration.test_responder_process import Rig, rig, until

__all__ = ["rig"]

ATTACKS: list[dict[str, Any]] = [
    {},
    {"container.id": "web"},
    {"container.id": "16514a12c7ad", "container.full_id": "f" * 64},
    {"container.id": "host", "container.full_id": "16514a12c7ad" + "0" * 52},
    {"container.id": "host", "container.name": "web"},
    {"container.id": "host", "k8s.pod.name": "nginx"},
    {"container.id": "host", "proc.pid": 4711, "proc.vpid": 7},
    {"container.name": "web", "container.image.repository": "alpine"},
]


def test_no_alert_about_a_container_leads_to_a_request_for_the_hosts_file_of_that_name(rig: Rig) -> None:
    rule = "{name: %s, match: {rules: [Attack]}, steps: [{action: %s}]}"
    (rig.home / "rules.yaml").write_text(
        f"rules: [{rule % ('file', 'file_quarantine')}, {rule % ('network', 'isolate_network')}, "
        "{name: last, match: {rules: [Last]}, steps: [{action: kill_process}]}]"
    )
    process = rig.start()
    for fields in ATTACKS:
        send(rig, "Attack", fields | {"fd.name": "/etc/passwd"})
    send(rig, "Attack", {"container.id": "host", "fd.name": "/tmp/xmrig"})
    send(rig, "Last", {"proc.pid": 4711})
    until(lambda: len(rig.requests()) == 3 and len(refused(rig)) == 2 * len(ATTACKS))
    rig.end(process)
    assert all(reason in ("container_unclear", "lacks_field") for reason in refused(rig))
    steps = [step for request in rig.requests() for step in request.steps]
    asked = {(step.action, step.target.describe()) for step in steps if step.target}
    assert asked == {
        ("file_quarantine", "file /tmp/xmrig"),
        ("isolate_network", "network of the host"),
        ("kill_process", "process 4711"),
    }


def refused(rig: Rig) -> list[str]:
    return [str(record.detail["reason"]) for record in rig.audit() if record.kind == "refused"]


def send(rig: Rig, rule: str, fields: dict[str, Any]) -> None:
    stamp = datetime.fromtimestamp(time.time(), tz=UTC).isoformat()
    rig.send(json.dumps({"rule": rule, "hostname": "web-1", "time": stamp, "output_fields": fields}).encode())
