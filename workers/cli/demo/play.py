"""The demo's play: the machine up, the acts, the measurement, and the machine down again.

Called by ``douse demo``. Brings a machine up in a directory of its own (``cli.up``), plays the acts of ``story``,
measures (``measure``), and ends with 0 only when everything it checked held.
"""

import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import typer

from workers.cli.demo import detection, measure, story
from workers.cli.demo.forgery import Forger
from workers.cli.demo.story import Check, Stage
from workers.cli.exits import Exit
from workers.cli.up.data_dir import COMMAND_PARTITIONS, DataDir
from workers.cli.up.machine import Machine, running
from workers.domain.ids import Incarnation, KeyId, NodeId
from workers.settings import KafkaSettings, parse
from workers.system import yaml_files
from workers.wiring import one_machine

_ACTS = (
    ("a detection kills", story.detection_kills),
    ("the same target again", story.second_request_is_no_action),
    ("a protected process", story.protected_is_rejected),
    ("a forged command", story.forged_command_is_dead_lettered),
    ("the wrong file", story.quarantine_comes_back),
)


def play() -> None:
    """From the first line to the last.

    Raises:
        typer.Exit: something that was checked did not hold.
    """
    begun = time.monotonic()
    # Like Ctrl-C: out of whatever act is on, through every clean-up on the way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="douse-demo-") as directory:
        data = DataDir(Path(directory) / "data")
        with data.held():
            yaml_files.write(data.rules, detection.RESPONSE)
        typer.echo(f"the demo's response rule, as an operator would write it:\n{data.rules.read_text()}")
        typer.echo("bringing up broker, responder, dispatcher, node, projector and gateway …")
        with running(data, 0, say=typer.echo, stop=threading.Event()) as machine:
            typer.echo(f"up after {time.monotonic() - begun:.1f} s\n")
            checks = _play(machine, Path(directory))
    failed = [check for check in checks if not check.held]
    typer.echo(f"\n{len(checks) - len(failed)} of {len(checks)} checks held, {time.monotonic() - begun:.1f} s in all")
    if failed:
        raise typer.Exit(Exit.FAILED)


def _play(machine: Machine, directory: Path) -> list[Check]:
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
        stage = Stage(machine, client, one_machine.local_processes(), forger, scratch, _tell)
        for title, act in _ACTS:
            typer.echo(f"{title}:")
            checks += _shown(act(stage))
        typer.echo(f"{measure.ROUNDS} detections, one after the other:")
        latency = measure.event_to_dead(stage)
        checks += _shown([latency.check()])
        if latency.sorted_ms:
            p50, p99 = latency.percentile(0.5), latency.percentile(0.99)
            typer.echo(f"  event to dead process: p50 {p50:.1f} ms, p99 {p99:.1f} ms (this machine, embedded broker)")
        typer.echo("afterwards:")
        checks += _shown(story.history_is_sound(stage))
    return checks


def _tell(line: str) -> None:
    typer.echo(f"  {line}")


def _shown(checks: Sequence[Check]) -> list[Check]:
    for check in checks:
        detail = f" ({check.detail})" if check.detail else ""
        typer.echo(f"  {'✓' if check.held else '✗'} {check.name}{detail}")
    return list(checks)
