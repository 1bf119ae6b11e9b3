"""``douse demo``: the whole story on this machine in under a minute, every post-condition checked.

Called by the command's frame, which must not pay for what only the demo needs: the play is imported when it begins.
"""

import typer


def register(app: typer.Typer) -> None:
    """Add ``douse demo``."""
    app.command("demo", rich_help_panel="One machine")(demo)


def demo() -> None:
    """One real detection put out, end to end, on an embedded broker; needs no root and leaves nothing behind."""
    from workers.cli.demo.play import play

    play()
