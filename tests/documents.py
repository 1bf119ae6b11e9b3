"""The documents that are made from data: `make docs` writes them, a test fails when one is stale.

Whoever derives a document adds one line to the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.action_document import actions_document
from workers.domain import metrics
from workers.log.topic_catalogue import load_topics, readme

ROOT = Path(__file__).resolve().parent.parent

DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "docs/actions.md": actions_document,
    "docs/metrics.md": metrics.document,
    "topics/README.md": lambda: readme(load_topics()),
}


def write() -> None:
    """Make every document anew."""
    for name, make in DOCUMENTS.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    write()
