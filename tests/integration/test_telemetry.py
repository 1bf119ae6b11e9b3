"""Telemetry as a process of its own: what a missing collector costs."""

from __future__ import annotations

import json
import subprocess
import sys


def test_a_collector_that_is_away_disturbs_nobody() -> None:
    # Port 9 of loopback: nobody listens.
    program = (
        "from workers.system.telemetry import telemetry\n"
        "from workers.settings import TelemetrySettings\n"
        "made = telemetry(TelemetrySettings(otlp_endpoint='http://127.0.0.1:9'), worker='node')\n"
        "with made.span('x'): made.count('node.commands')\n"
        "print('done', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "done\n"
    assert all(json.loads(line)["event"] == "library" for line in ended.stderr.splitlines())
