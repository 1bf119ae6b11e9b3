"""``douse demo``: Douse end to end on this machine in under a minute, every post-condition checked.

``run`` starts the machine and runs the ``scenarios``. It is imported only when the command runs, so that other commands
start quickly.
"""

import typer


def register(app: typer.Typer) -> None:
    """Add ``douse demo``."""
    app.command("demo", rich_help_panel="One machine")(demo)


def demo() -> None:
    """Detect and kill harmless test malware, end to end, with an embedded broker; no root, nothing left behind."""
    from workers.cli.demo.run import run

    run()
