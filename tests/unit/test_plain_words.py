"""Names, comments and messages use standard English and the field's terms, and one name for one thing.

The table is STYLE's list of words that stood between a reader and the idea. A word that is needed in its ordinary sense
(a file's place in a queue) is fine in prose; as the name of a class, function, variable or module it is not.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]

NAMES = {
    "told": "step, notice, reported",
    "said": "result, message",
    "heard": "heartbeat",
    "hands": "threads",
    "desk": "the class that it is",
    "house": "catalogue",
    "room": "services, package, capacity",
    "rooms": "packages",
    "bell": "commit signal",
    "rehearse": "dry run",
    "rehearsal": "dry run",
    "rehearsed": "dry run",
    "rehearsing": "dry run",
    "scribe": "recorder",
    "vigil": "effect watch",
    "mishap": "failure",
    "mishaps": "failures",
    "equipment": "services",
    "wish": "submission",
    "morgue": "what it records",
    "face": "API",
    "faces": "APIs",
}
"""A part of a name that is not used, and what is."""

PROSE = {
    r"\b[Aa]s the port says\b": "leave the docstring out",
    r"\b(?:he|she|his|him|himself|she's|he's)\b": "it",
    r"\bnone of ours\b": "is not known here",
    r"\bwill not have us\b": "denied access",
    r"\brehears(?:e|al|ed|ing)\b": "dry run",
    r"\bthis room\b|\bthe room's\b|\bother rooms\b": "this package",
}
"""A phrase in a comment, docstring or message, and what to write."""


def _sources() -> Iterator[tuple[str, str]]:
    for folder in ("workers", "tests"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            if path != Path(__file__) and not path.name.endswith("_pb2.py"):
                yield str(path.relative_to(_ROOT)), path.read_text(encoding="utf-8")


def name_complaints(where: str, text: str) -> list[str]:
    """Names in one module that have a banned part, each name once."""
    names = {token.string: token.start[0] for token in _tokens(text) if token.type == tokenize.NAME}
    names |= dict.fromkeys(re.split(r"[/.]", where.removesuffix(".py")), 0)
    return [
        f"{where}:{line} {name}: say {NAMES[part]}"
        for name, line in sorted(names.items())
        for part in _parts(name)
        if part in NAMES
    ]


def prose_complaints(where: str, text: str) -> list[str]:
    """Phrases in one module's comments and strings."""
    return [
        f"{where}:{token.start[0]} {found.group()!r}: {instead}"
        for token in _tokens(text)
        if token.type in (tokenize.COMMENT, tokenize.STRING)
        for pattern, instead in PROSE.items()
        if (found := re.search(pattern, token.string))
    ]


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(text).readline)


def _parts(name: str) -> set[str]:
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def test_names_are_the_fields_own() -> None:
    assert [line for where, text in _sources() for line in name_complaints(where, text)] == []


def test_prose_is_plain() -> None:
    assert [line for where, text in _sources() for line in prose_complaints(where, text)] == []


@pytest.mark.parametrize("text", ["room = 1", "class Desk: ...", "def test_what_is_said() -> None: ...", "x.told_by"])
def test_a_private_word_is_reported(text: str) -> None:
    assert len(name_complaints("workers/x.py", text)) == 1


@pytest.mark.parametrize("text", ["roomy = 1", "interface = 2", "# a room", "handler = 3"])
def test_a_plain_name_is_not_reported(text: str) -> None:
    assert name_complaints("workers/x.py", text) == []


@pytest.mark.parametrize("text", ['"""As the port says."""', "# whoever he is", '"it is none of ours"'])
def test_a_private_phrase_is_reported(text: str) -> None:
    assert len(prose_complaints("workers/x.py", text)) == 1
