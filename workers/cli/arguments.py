"""What every command that acts checks of its arguments: nothing is given twice, and a reason is not empty.

Used by ``run``, ``undo``, ``cancel`` and ``event submit``. Pure.
"""

from typing import Any

from typer.core import TyperCommand, TyperOption

from workers.cli.exits import Exit, Failure


class OnceCommand(TyperCommand):
    """A command that refuses an option given twice; by itself, the parser keeps the last value and drops the first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look for repeated options, then parse as ever."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        options = [each for each in order if isinstance(each, TyperOption) and not each.is_flag and not each.multiple]
        for option in options:
            if options.count(option) > 1:
                raise Failure(f"{option.opts[0]} is given more than once", Exit.USAGE)
        return super().parse_args(ctx, args)


def checked_reason(reason: str | None) -> str:
    """A reason that was given must have text; empty if none was given.

    Raises:
        Failure: it is empty or blank.
    """
    if reason is None:
        return ""
    if not reason.strip():
        raise Failure("--reason is empty: say why", Exit.USAGE)
    return reason
