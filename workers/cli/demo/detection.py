"""The event that a detector would send about a process: Falco's JSON with the extra fields that Douse needs.

Called by the demo and the benchmarks. Reads the process's facts, acts on nothing.
"""

import socket
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from workers.domain.targets.process import ProcessFacts

RULE: Final = "Demo ransomware rewrites documents"

RESPONSE: Final[dict[str, Any]] = {
    "rules": [
        {
            "name": "kill-demo-ransomware",
            "match": {"rules": [RULE], "priority": "critical"},
            "steps": [{"action": "kill_process"}],
            "reason": "the demo's own malware",
        }
    ]
}
"""The demo's response rule, as in a rules.yaml."""


def falco_event(facts: ProcessFacts, line: tuple[int, ...]) -> dict[str, Any]:
    """The detection of a process at this moment; ``line`` are the pids of its ancestors, parent first."""
    now = time.time_ns()
    whole, rest = divmod(now, 1_000_000_000)
    stamp = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    ancestors = {f"proc.apid[{hops}]": pid for hops, pid in enumerate(line, start=1)}
    return {
        "uuid": str(uuid.uuid4()),
        "hostname": socket.gethostname(),
        "time": f"{stamp}.{rest:09d}Z",
        "rule": RULE,
        "priority": "Critical",
        "source": "syscall",
        "tags": ["demo", "mitre_impact", "T1486"],
        "output": f"Critical documents are being rewritten (process={facts.name} pid={facts.pid})",
        "output_fields": {
            "evt.time": now,
            "container.id": "host",
            "proc.pid": facts.pid,
            "proc.pid.ts": facts.started_at_ns,
            "proc.ppid": facts.parent_pid,
            "proc.name": facts.name,
            "proc.exepath": facts.exe,
            "proc.cmdline": facts.command_line,
            "user.uid": facts.uid,
        }
        | ancestors,
    }
