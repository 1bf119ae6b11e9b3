"""``douse node|dispatcher|responder|projector|gateway --config FILE``: one worker in the foreground.

Turns SIGTERM and SIGINT into a drain. Calls bootstrap and nothing else of the workers.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.signals import stop_on_signals
from workers.system.parent import SUPERVISOR, end_with
from workers.wiring import ROLES, Role


def register(app: typer.Typer) -> None:
    """Add one command a role."""
    for role in ROLES.values():
        app.command(role.name, help=role.summary, rich_help_panel="Workers")(_command(role))


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
