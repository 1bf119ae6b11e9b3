"""Runs the demo: start the machine, run the scenarios, measure, stop the machine.

Called by ``douse demo``. Starts a machine in a temporary directory (``cli.up``), runs ``scenarios``, measures
(``latency``), and ends with 0 only if every check held.
"""

import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import typer

from workers.cli.demo import detection, latency, scenarios
from workers.cli.demo.forged_command import Forger
from workers.cli.demo.scenarios import Check, Demo
from workers.cli.exits import Exit
from workers.cli.up.data_dir import COMMAND_PARTITIONS, DataDir
from workers.cli.up.machine import Machine, running
from workers.domain.ids import Incarnation, KeyId, NodeId
from workers.settings import KafkaSettings, parse
from workers.system import yaml_files
from workers.wiring import one_machine

_SCENARIOS = (
    ("a detection leads to a kill", scenarios.detection_kills),
    ("a second request for the same target", scenarios.second_request_is_no_action),
    ("a request against a protected process", scenarios.protected_is_rejected),
    ("a forged command", scenarios.forged_command_is_dead_lettered),
    ("a file quarantined by mistake", scenarios.quarantine_comes_back),
)


def run() -> None:
    """Run the whole demo.

    Raises:
        typer.Exit: a check did not hold.
    """
    begun = time.monotonic()
    # Like Ctrl-C: leave the running scenario and clean up everything.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="douse-demo-") as directory:
        data = DataDir(Path(directory) / "data")
        with data.locked():
            yaml_files.write(data.rules, detection.RESPONSE)
        typer.echo(f"the response rule of the demo:\n{data.rules.read_text()}")
        typer.echo("starting broker, responder, dispatcher, node, projector and gateway …")
        with running(data, 0, report=typer.echo, stop=threading.Event()) as machine:
            typer.echo(f"started after {time.monotonic() - begun:.1f} s\n")
            checks = _run_scenarios(machine, Path(directory))
    failed = [check for check in checks if not check.held]
    typer.echo(f"\n{len(checks) - len(failed)} of {len(checks)} checks held, {time.monotonic() - begun:.1f} s in all")
    if failed:
        raise typer.Exit(Exit.FAILED)


def _run_scenarios(machine: Machine, directory: Path) -> list[Check]:
    scratch = directory / "scratch"
    scratch.mkdir()
    headers = {"Authorization": f"Bearer {machine.start.token}"}
    kafka = parse(KafkaSettings, yaml_files.read_mapping(machine.data.config("node"))["kafka"])
    checks: list[Check] = []
    with (
        httpx.Client(base_url=machine.start.url, headers=headers, timeout=30.0) as client,
        one_machine.intruder(kafka) as intruder,
    ):
        node = client.get(f"/api/v1/nodes/{machine.start.node_id}").json()
        forger = Forger(
            NodeId(node["node_id"]),
            KeyId(node["node_key"]),
            Incarnation(node["incarnation"]),
            COMMAND_PARTITIONS,
            intruder,
        )
        demo = Demo(machine, client, one_machine.local_processes(), forger, scratch, _report)
        for title, scenario in _SCENARIOS:
            typer.echo(f"{title}:")
            checks += _print_checks(scenario(demo))
        typer.echo(f"{latency.ROUNDS} detections, one after the other:")
        measured = latency.event_to_dead(demo)
        checks += _print_checks([measured.check()])
        if measured.sorted_ms:
            p50, p99 = measured.percentile(0.5), measured.percentile(0.99)
            typer.echo(f"  event to dead process: p50 {p50:.1f} ms, p99 {p99:.1f} ms (this machine, embedded broker)")
        typer.echo("after all scenarios:")
        checks += _print_checks(scenarios.history_is_sound(demo))
    return checks


def _report(line: str) -> None:
    typer.echo(f"  {line}")


def _print_checks(checks: Sequence[Check]) -> list[Check]:
    for check in checks:
        detail = f" ({check.detail})" if check.detail else ""
        typer.echo(f"  {'✓' if check.held else '✗'} {check.name}{detail}")
    return list(checks)
