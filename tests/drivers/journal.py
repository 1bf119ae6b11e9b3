"""Commits to a journal and reports each; tests make its system calls fail.

`python -m tests.drivers.journal PATH` prints each number only after its commit returned, or the reason of a failure,
and goes on past what fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.integration.test_journal_file import commit, open_journal
from workers.domain.errors import WorkerError

COMMITS = 4


def main() -> None:
    journal = open_journal(Path(sys.argv[1]), reserve_bytes=0)
    for number in range(COMMITS):
        try:
            commit(journal, number)
        except WorkerError as error:
            print(error.reason, flush=True)
        else:
            print(number, flush=True)
    journal.close()


if __name__ == "__main__":
    main()
