"""``douse node|dispatcher|responder|projector|gateway --config FILE``: one worker in the foreground; ``reset-clock``.

``stop_on_signals`` turns SIGTERM and SIGINT into a stop; every command that runs until it is stopped calls it. Calls
wiring and nothing else of the workers.
"""

import os
import queue
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from workers.system.parent import SUPERVISOR, end_with
from workers.wiring import ROLES, Role


def register(app: typer.Typer) -> None:
    """Add one command per role."""
    for role in ROLES.values():
        app.command(role.name, help=role.summary, rich_help_panel="Workers")(_command(role))
    app.command("reset-clock", rich_help_panel="Workers")(reset_clock)


def reset_clock(
    config: Annotated[Path, typer.Option("--config", help="The node's settings file (YAML).", metavar="FILE")],
) -> None:
    """Let a stopped node believe this machine's clock again, where it knows of a later time. Audited."""
    from workers.settings import parse
    from workers.system.yaml_files import read_mapping
    from workers.wiring.actions import node_settings
    from workers.wiring.node import reset_time_floor

    before_ns, now_ns = reset_time_floor(parse(node_settings(), read_mapping(config), file=config))
    ahead_s = (before_ns - now_ns) / 1e9
    typer.echo(f"the node's floor of time was {ahead_s:+.1f} s from this machine's clock, and is now its time")


def _command(role: Role) -> Callable[[Path], None]:
    def run(
        config: Annotated[Path, typer.Option("--config", help="The worker's settings file (YAML).", metavar="FILE")],
    ) -> None:
        stop = stop_on_signals()
        supervisor = os.environ.get(SUPERVISOR, "")
        if supervisor and not end_with(int(supervisor)):
            return
        role.load(config).run(stop)

    return run


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets. Call it from the main thread.

    ``threading.Event.set`` takes a lock, and a handler interrupts the main thread anywhere: a handler that sets the
    event would hang the process for good when a second signal arrives while the first is being handled, or while the
    main thread enters a wait. So the handler only puts into a ``SimpleQueue``, and a thread of its own sets the event.
    """
    stop = threading.Event()
    received: queue.SimpleQueue[int] = queue.SimpleQueue()

    def forward() -> None:
        received.get()
        stop.set()

    threading.Thread(target=forward, name="stop-on-signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: received.put(number))
    return stop
