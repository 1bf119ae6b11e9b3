"""Generated documents are never stale; those written by hand are wrapped, and their links and names exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, broken_links, hand_written, too_wide, wrong_names


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_generated_document_matches_its_data(name: str) -> None:
    assert (ROOT / name).is_file(), f"{name} is missing: run make docs"
    assert _text(name) == DOCUMENTS[name](), f"{name} is stale: run make docs"


@pytest.mark.parametrize("name", [*hand_written(), *sorted(DOCUMENTS)])
def test_every_link_of_a_document_resolves(name: str) -> None:
    assert broken_links(name, _text(name)) == []


@pytest.mark.parametrize("name", hand_written())
def test_a_document_is_wrapped_at_100_columns(name: str) -> None:
    assert too_wide(_text(name)) == [], f"lines of {name} that are wider than 100 columns"


def test_the_architecture_names_only_what_exists() -> None:
    assert wrong_names("ARCHITECTURE.md", _text("ARCHITECTURE.md")) == []


@pytest.mark.parametrize("name", [each for each in hand_written() if each != "CHANGELOG.md"])
def test_every_path_in_a_document_exists(name: str) -> None:
    assert [wrong for wrong in wrong_names(name, _text(name)) if "/" in wrong] == []


def test_the_documents_of_this_repository_are_found() -> None:
    assert {"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/limits.md", "tests/README.md"} <= set(hand_written())


def test_a_line_that_could_be_wrapped_is_reported() -> None:
    assert too_wide("short\n" + "word " * 30) == [2]


def test_tables_code_and_single_long_words_may_be_wide() -> None:
    assert too_wide(f"| {'cell ' * 30} |\n```\n{'code ' * 30}\n```\n* {'x' * 120}") == []


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        ("b.md", False),
        ("b.md#the-second-one", False),
        ("#first", False),
        ("https://example.org/nowhere", False),
        ("c.md", True),
        ("b.md#third", True),
    ],
)
def test_a_link_without_a_target_is_reported(tmp_path: Path, target: str, broken: bool) -> None:
    text = f"# First\n\nSee [there]({target}).\n"
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    (tmp_path / "b.md").write_text("## The `second` one\n", encoding="utf-8")
    assert bool(broken_links("a.md", text, tmp_path)) is broken


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("`node/gate.py` decides, as `tests/README.md` and `node/` do.", []),
        ("| `node/gate.py` (`Gate`, `rank()`) | |", []),
        ("| a `Gate` | |", []),
        ("| a `Gate` in `node/gate.py` and `actions/<name>.py` | |", []),
        ("| `COMPLETED`, `node.claim.after_commit`, `Gate.judge` | |", []),
        ("Each has a `gate.py`.", []),
        ("`node/door.py` decides.", ["node/door.py"]),
        ("Each has a `door.py`.", ["door.py"]),
        ("| a `Door` | |", ["Door"]),
        ("| `open_door()` | |", ["open_door()"]),
        ("| `node/gate.py` (`Gate.rank()`) | |", []),
        ("| `node/gate.py` (`Gate.open()`) | |", ["Gate.open()", "node/gate.py has no Gate.open()"]),
        ("| `node/gate.py` (`Lanes`) | |", ["node/gate.py has no Lanes"]),
        ("| `Lanes` (`node/gate.py`) | |", ["node/gate.py has no Lanes"]),
        ("`gate()` in `node/gate.py`", ["node/gate.py has no gate()"]),
    ],
)
def test_a_name_that_does_not_exist_is_reported(tmp_path: Path, line: str, wrong: list[str]) -> None:
    files = {
        "workers/node/gate.py": "class Gate: ...\ndef rank(): ...\n",
        "workers/node/lanes.py": "class Lanes: ...\n",
        "tests/README.md": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert wrong_names("a.md", f"{line}\n", tmp_path) == wrong
