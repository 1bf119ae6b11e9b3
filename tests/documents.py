"""The documents of this repository: which are made from data, which are written by hand, and how to read them.

`make docs` writes those that are made from data; tests/unit/test_documents.py fails when one of them is stale and holds
the others to their links, their width and the names they use. Add a line to the table for a new generated document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tests import fault_matrix
from tests.action_document import actions_document
from tests.command_document import commands_document
from tests.settings_document import settings_document
from workers.domain import metrics
from workers.log.topic_catalogue import load_topics, readme

ROOT = Path(__file__).resolve().parent.parent

DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "docs/actions.md": actions_document,
    "docs/commands.md": commands_document,
    "docs/faults.md": fault_matrix.document,
    "docs/metrics.md": metrics.document,
    "docs/settings.md": settings_document,
    "topics/README.md": lambda: readme(load_topics()),
}

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_DEFINED = re.compile(r"^ *(?:class|def) (\w+)", re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")
_PATH = re.compile(r"[\w.-][\w./-]*(\.(py|toml|md|yaml)|/)")
_NAME = re.compile(r"[A-Z]\w*[a-z]\w*|(?:\w+\.)?\w+\(\)")
_FILE_THEN_NAMES = re.compile(r"`([\w./]+\.py)` \(((?:`[^`]+`(?:, )?)+)\)")
_NAME_THEN_FILE = re.compile(r"`([A-Z]\w+|\w+\(\))` (?:\(|in )`([\w./]+\.py)`")


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


def wrong_names(name: str, text: str, root: Path = ROOT) -> list[str]:
    """What a document says of the code that is not so: a path that does not exist, a class or function of a table that
    is defined nowhere, or not in the file that stands beside it. A path starts at the root, at ``workers/``, or beside
    the document; a bare file name may be anywhere below ``workers/``."""
    lines = [line for _, line in prose(text)]
    starts = (root, root / "workers", (root / name).parent)
    paths = {quoted for line in lines for quoted in _QUOTED.findall(line) if _PATH.fullmatch(quoted)}
    wrong = [path for path in sorted(paths) if not _files(path, starts)]
    quoted_in_tables = {quoted for line in lines if line.startswith("|") for quoted in _QUOTED.findall(line)}
    everywhere = {
        each for folder in ("workers", "tests") for file in (root / folder).rglob("*.py") for each in _defined(file)
    }
    wrong += sorted(each for each in quoted_in_tables if _NAME.fullmatch(each) and _last(each) not in everywhere)
    for path, defined in sorted(_beside(lines)):
        files = _files(path, starts)
        if files and not any(_last(defined) in _defined(file) for file in files):
            wrong.append(f"{path} has no {defined}")
    return wrong


def _beside(lines: list[str]) -> set[tuple[str, str]]:
    """Each name that stands beside a file, with that file."""
    found = {
        (path, defined)
        for line in lines
        for path, names in _FILE_THEN_NAMES.findall(line)
        for defined in _QUOTED.findall(names)
    }
    found |= {(path, defined) for line in lines for defined, path in _NAME_THEN_FILE.findall(line)}
    return {(path, defined) for path, defined in found if _NAME.fullmatch(defined)}


def _last(name: str) -> str:
    """``bind`` of ``Gate.bind()``."""
    return name.removesuffix("()").rpartition(".")[2]


def _files(path: str, starts: tuple[Path, ...]) -> list[Path]:
    exact = [start / path for start in starts if (start / path).exists()]
    return exact or ([] if "/" in path else sorted(starts[1].rglob(path)))


@cache
def _defined(file: Path) -> frozenset[str]:
    """The classes and functions of a source file."""
    return frozenset(_DEFINED.findall(file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    write()
