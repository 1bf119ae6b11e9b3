"""The faults that this system must survive, and which tests hold each: out of the tests' own `fault` markers.

`make docs` writes docs/faults.md from this; tests/unit/test_fault_matrix.py fails when a fault has no test, when a test
names a fault that is not listed, or when the document is stale. Reads source text only: nothing is imported or run.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent

FAULTS: Final[Mapping[str, str]] = {
    "F1": "a worker is killed at each step of each action",
    "F2": "workers are killed at random under load",
    "F3": "one command always crashes its worker",
    "F4": "the broker is killed or unavailable",
    "F5": "partitions change their leader all the time",
    "F6": "a worker is cut off from its broker",
    "F7": "an acknowledgement or an answer is lost",
    "F8": "records come again and in another order",
    "F9": "poison records",
    "F10": "the projector is killed within a batch",
    "F11": "the disk is full",
    "F12": "the disk returns errors",
    "F13": "the disk is slow",
    "F14": "clocks are wrong",
    "F15": "the object store is unavailable, slow, or answers wrongly",
    "F16": "a container runtime is unavailable",
    "F17": "a container runtime hangs",
    "F18": "a container runtime restarts after a containment",
    "F19": "a container is restarted between claim and act",
    "F20": "a pid is reused",
    "F21": "links and directories are exchanged during an action",
    "F22": "FIFOs, devices, huge, growing and unanswering files",
    "F23": "two workers with one node id",
    "F24": "older and newer schemas meet",
    "F25": "a consumer is slower than retention",
    "F26": "ten thousand commands at once",
    "F27": "ten thousand rule hits at once",
    "F28": "Douse's own records are fed back to its rules",
    "F29": "keys are rotated and revoked under load",
    "F30": "audit records are changed, dropped, inserted or reordered",
    "F31": "SIGTERM during work",
    "F32": "hours of mixed faults",
    "memory limit": "a worker reaches the limit of its memory cgroup",
    "descriptors": "a node may open 64 files",
    "secrets": "tokens, keys and passwords in anything that a full run wrote",
    "ptrace": "a target is traced while it is acted on",
    "mount namespace": "a target changes its root, mount namespace or program while it is acted on",
    "FUSE": "a FUSE filesystem never answers",
    "flood of connections": "thousands of connections without a token",
    "damaged store": "flipped, truncated and deleted stores, vault objects and manifests",
}
"""What is injected, by the name that a test's marker has."""

OPEN: Final[Mapping[str, str]] = {
    "F27": "budgets for rules are not built",
    "F29": "no test rotates keys under load",
    "F32": "no test yet",
}
"""Faults that no test injects yet, with the reason."""


@dataclass(frozen=True, slots=True)
class Held:
    """One test that injects a fault."""

    path: str
    """From the repository's root."""
    test: str
    """Empty where a whole file does."""
    long: bool
    """Only in `make faults` or `make bench`."""


@cache
def held() -> Mapping[str, list[Held]]:
    """Which tests inject each fault, in the order of their files."""
    found: dict[str, list[Held]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, each in _in_file(path):
            found[name].append(each)
    return dict(found)


def document() -> str:
    """docs/faults.md."""
    tests = held()
    lines = [
        "# Faults and the tests that inject them",
        "",
        "Made by `make docs` from the `fault` markers of the tests; do not edit. In *italics*: only in",
        "`make faults` or `make bench`. What a table of damaged stores answers is in",
        "[damaged-stores.md](damaged-stores.md).",
        "",
        "| fault | what is injected | tests |",
        "|---|---|---|",
    ]
    for name, what in FAULTS.items():
        known = tests.get(name, [])
        cells = [_cell(path, [each for each in known if each.path == path]) for path in _paths(known)]
        lines.append(f"| {name} | {what} | {'; '.join(cells) or f'none: {OPEN[name]}'} |")
    return "\n".join(lines) + "\n"


def _paths(tests: list[Held]) -> list[str]:
    return list(dict.fromkeys(each.path for each in tests))


def _cell(path: str, tests: list[Held]) -> str:
    names = [f"*`{each.test}()`*" if each.long else f"`{each.test}()`" for each in tests if each.test]
    return f"`{path}`" + (f": {', '.join(names)}" if names else "")


def _in_file(path: Path) -> Iterator[tuple[str, Held]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    short = path.relative_to(TESTS.parent).as_posix()
    bench = path.is_relative_to(TESTS / "bench")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            marks = [*node.decorator_list]
            name = node.name
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets
        ):
            marks = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            name = ""
        else:
            continue
        long = bench or any(_is_mark(mark, "faults") for mark in marks)
        for mark in marks:
            if isinstance(mark, ast.Call) and _is_mark(mark.func, "fault"):
                for argument in mark.args:
                    yield ast.literal_eval(argument), Held(short, name, long)


def _is_mark(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == f"pytest.mark.{name}"
