"""The board of the run, printed when all measurements are over."""

from __future__ import annotations

import pytest

from tests.bench.board import Board

BOARD = pytest.StashKey[Board]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[BOARD] = Board()


@pytest.fixture(scope="session")
def board(request: pytest.FixtureRequest) -> Board:
    """Where figures go."""
    return request.config.stash[BOARD]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    board = config.stash[BOARD]
    if board.rows:
        terminalreporter.section("measured")
        terminalreporter.write_line(str(board))
