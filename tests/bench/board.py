"""Where the measurements put their figures: compared in turns, printed as one table when the run is over.

Used by the tests of this directory through the fixture `board`; printed by `conftest.py`. A figure does not stand
alone: it has what it was measured beside, in the same run, round by round.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Final

PACKAGES: Final = ("confluent-kafka", "fastavro", "cryptography", "zstandard", "celery", "dramatiq", "redis")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def figure(value: float) -> str:
    """Three digits that mean something, and no more."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclass(slots=True)
class Board:
    """All rows of one run."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    load_at_first: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def compare(self, what: str, unit: str, ours: Sequence[float], beside: str, theirs: Sequence[float]) -> float:
        """One row: our figure, what it stands beside, and how many times theirs ours is; the median of the rounds'
        ratios. `ours` and `theirs` have one figure a round, measured in turns."""
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        ratio = median(ratios)
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        output = f"{figure(median(theirs))}"
        self.rows.append((what, unit, figure(median(ours)), beside, output, f"{ratio:.2f}", spread, str(len(ratios))))
        return ratio

    def alone(self, what: str, unit: str, value: float, note: str) -> None:
        """One row of something that nothing else does; `note` says what was asked of it."""
        self.rows.append((what, unit, figure(value), note, "", "", "", "1"))

    def __str__(self) -> str:
        columns = ("what", "unit", "Douse", "beside", "figure", "ratio", "spread", "rounds")
        table = [columns, *self.rows]
        widths = [max(len(row[number]) for row in table) for number in range(len(columns))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(r, widths, strict=True)) + " |" for r in table
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([*self._machine(), "", *lines])

    def _machine(self) -> list[str]:
        load = ", ".join(f"{value:.1f}" for value in self.load_at_first)
        now = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        minutes = (datetime.now(UTC) - self.began).total_seconds() / 60
        system = f"Linux {platform.release()}, Python {sys.version.split()[0]}"
        return [
            f"measured {self.began:%Y-%m-%d %H:%M} UTC in {minutes:.1f} minutes on {os.cpu_count()} cores, {system}",
            f"load average (1, 5, 15 minutes) at first {load}; at last {now}",
            ", ".join(f"{name} {found}" for name, found in [*_packages(), *sorted(self.versions.items())]),
            "ratio: Douse's figure by the other's, the median of the rounds; spread: the smallest and the largest",
        ]


def _packages() -> list[tuple[str, str]]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
