"""The documents of this repository: which are made from data, which are written by hand, and how to read them.

`make docs` writes those that are made from data; tests/unit/test_documents.py fails when one of them is stale and holds
the others to their links, their width and the names they use. Add a line to the table for a new generated document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def write() -> None:
    """Make every generated document anew."""
    for name, make in DOCUMENTS.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(make(), encoding="utf-8")


def hand_written() -> list[str]:
    """The documents that people write, by their path from the root."""
    folders = (ROOT, *(ROOT / name for name in ("docs", "deploy", "schemas", "topics", "tests")))
    found = {path for folder in folders for path in folder.glob("*.md" if folder == ROOT else "**/*.md")}
    return sorted({path.relative_to(ROOT).as_posix() for path in found} - DOCUMENTS.keys())


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines outside code blocks, with their numbers."""
    in_code = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code:
            yield number, line


def too_wide(text: str, width: int = 100) -> list[int]:
    """The numbers of the lines that should have been wrapped; a table's row and a single long word cannot be."""
    return [
        number
        for number, line in prose(text)
        if len(line) > width and not line.startswith("|") and " " in line.lstrip(" *-0123456789.")
    ]


def broken_links(name: str, text: str, root: Path = ROOT) -> list[str]:
    """The links of the document at ``name`` that lead to no file, or to no heading of one."""
    found = [target for _, line in prose(text) for target in _LINK.findall(line)]
    return [target for target in found if "://" not in target and not _resolves(name, target, root)]


def _resolves(name: str, target: str, root: Path) -> bool:
    path, _, anchor = target.partition("#")
    document = (root / name).parent / path if path else root / name
    if not document.exists():
        return False
    return not anchor or anchor in _anchors(document.read_text(encoding="utf-8"))


def _anchors(text: str) -> set[str]:
    """The headings, as GitHub makes anchors of them."""
    titles = (line.lstrip("#").strip().lower() for _, line in prose(text) if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


if __name__ == "__main__":
    write()
