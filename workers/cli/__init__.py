"""The command line: arguments, tables and exit codes.

Called by the `douse` script and `python -m workers`. Calls bootstrap for a worker of its own and HTTP for everything
else; must never reach into a worker.
"""

import sys


def main() -> None:
    """Entry point of `douse`. Raises SystemExit with the exit code; no command exists yet."""
    sys.exit("douse: no command exists yet in this version; see CHANGELOG.md")
