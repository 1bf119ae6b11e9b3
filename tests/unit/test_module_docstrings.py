"""Every module says what it is for, and the modules that its docstring names exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import workers
from tests.unit.source_rules import Source, sources_under

_DOTTED = re.compile(r"``([a-z_]\w*(?:\.\w+)+)(?:\(\))?``")
_OUTSIDE = re.compile(r"\b(?:SAFETY|DESIGN)\b")


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return [source for source in sources_under(Path(workers.__file__).parent) if "_pb2" not in source.module]


def unknown_modules(sources: list[Source]) -> Iterator[str]:
    """Each reference ``package.module`` or ``module.name`` to something of ours that is not there."""
    names = {source.module: frozenset(_names(ast.parse(source.text))) for source in sources}
    packages = {part for module in names for part in module.split(".")[:-1]} | {"ports"}
    for source in sources:
        for reference in _DOTTED.findall(ast.get_docstring(ast.parse(source.text)) or ""):
            if reference.split(".")[0] in packages and not _is_known(reference, names):
                yield f"{source.module} names {reference}"


def _is_known(reference: str, names: Mapping[str, frozenset[str]]) -> bool:
    if reference.endswith(".py"):
        return _is_known(reference.removesuffix(".py"), names)
    parts = reference.split(".")
    splits = [(".".join(parts[:length]), parts[length:]) for length in range(1, len(parts) + 1)]
    return any(
        (module == path or module.endswith(f".{path}")) and defined.issuperset(rest)
        for path, rest in splits
        for module, defined in names.items()
    )


def _names(tree: ast.AST) -> Iterator[str]:
    """Whatever a module defines, the attributes of its classes among it."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case _:
                pass


def test_every_module_has_a_docstring(sources: list[Source]) -> None:
    assert [source.module for source in sources if not ast.get_docstring(ast.parse(source.text))] == []


def test_no_file_cites_a_document_that_is_not_in_the_repository() -> None:
    package = Path(workers.__file__).parent
    files = [path for path in sorted(package.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    citing = [
        str(path.relative_to(package))
        for path in files
        if _OUTSIDE.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert files
    assert citing == []


def test_the_modules_that_a_docstring_names_exist(sources: list[Source]) -> None:
    assert list(unknown_modules(sources)) == []


@pytest.mark.parametrize(
    ("docstring", "unknown"),
    [
        ("Called by ``node.run``; see ``workers.node.run`` and ``ports.py``.", []),
        ("Calls ``run.Runner`` and ``node.run.Runner.step``, or ``run.Runner.step``.", []),
        ("Reads ``proc.pid.ts``.", []),
        ("Called by ``node.walk``.", ["node.walk"]),
        ("Calls ``node.run.Walker``.", ["node.run.Walker"]),
    ],
)
def test_a_module_that_does_not_exist_is_reported(docstring: str, unknown: list[str]) -> None:
    sources = [
        Source("workers.node", '"""A package."""', is_package=True),
        Source("workers.node.ports", '"""A seam."""'),
        Source("workers.node.run", '"""Runs."""\nclass Runner:\n    def step(self): ...\n'),
        Source("workers.node.loop", f'"""{docstring}"""'),
    ]
    assert list(unknown_modules(sources)) == [f"workers.node.loop names {each}" for each in unknown]
