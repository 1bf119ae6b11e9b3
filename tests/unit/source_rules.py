"""The rules of the house as functions over source text: who may import what, and which calls nobody may write.

Called by test_doorways.py, on the real sources and on small offending ones. Each function returns complaints, one line
each; an empty list is a pass.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Doorways = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Source:
    """One module: its dotted name, whether it is a package's `__init__`, and its text."""

    module: str
    text: str
    is_package: bool = False


def sources_under(package: Path) -> Iterator[Source]:
    """Every module of a package on disk."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        yield Source(name, path.read_text(encoding="utf-8"), is_package)


def within(module: str, folder: str) -> bool:
    """Is `module` the room itself or inside it?"""
    return module == folder or module.startswith(f"{folder}.")


def foreign_import_complaints(imports: Iterable[tuple[str, str]], doorways: Doorways, *, own: str) -> list[str]:
    """Judge (importing module, imported top-level name) pairs against the table library → rooms.

    A third-party library outside the table is a complaint; so is any name of the table imported outside its rooms.
    """
    complaints = []
    for module, imported in imports:
        if within(imported, own):
            continue
        library = imported.partition(".")[0]
        if library in doorways:
            if not any(within(module, folder) for folder in doorways[library]):
                packages = " or ".join(doorways[library])
                complaints.append(f"{module} imports {library}: only {packages} may")
        elif library not in sys.stdlib_module_names:
            complaints.append(f"{module} imports {library}: give it one doorway in the table of test_doorways.py")
    return sorted(set(complaints))


def impure_import_complaints(source: Source, allowed: frozenset[str], *, folder: str) -> list[str]:
    """Judge a module of the pure room: only its own room and the allow-list of the standard library."""
    return [
        f"{source.module}:{line} imports {name}: {folder} may import only itself and the pure standard library"
        for name, line in _imports(source)
        if not within(name, folder) and name not in allowed
    ]


def forbidden_call_complaints(source: Source) -> list[str]:
    """Complain of shells, code from data, unsafe unpicklers and archive readers."""
    complaints = [
        f"{source.module}:{line} imports {name}: {_FORBIDDEN_MODULES[top]}"
        for name, line in _imports(source)
        if (top := name.partition(".")[0]) in _FORBIDDEN_MODULES
    ]
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)) in _FORBIDDEN_NAMES:
            complaints.append(f"{source.module}:{node.lineno} uses {dotted}: {_FORBIDDEN_NAMES[dotted]}")
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                if dotted in _FORBIDDEN_NAMES:
                    complaints.append(f"{source.module}:{node.lineno} imports {dotted}: {_FORBIDDEN_NAMES[dotted]}")
        elif isinstance(node, ast.Call):
            complaints += _call_complaints(source.module, node)
    return complaints


def thread_complaints(source: Source, *, free: Sequence[str], locks_only: Sequence[str]) -> list[str]:
    """Complain of threads and pools outside files named `loop`, their runner and the free packages; some packages may
    take a lock."""
    is_runner = source.module == "workers.service"
    if is_runner or source.module.rpartition(".")[2] == "loop" or any(within(source.module, folder) for folder in free):
        return []
    may_lock = any(within(source.module, folder) for folder in locks_only)
    complaints = []
    for name, line in _imports(source):
        top = name.partition(".")[0]
        if top in {"multiprocessing", "asyncio", "_thread"} or name.startswith("concurrent"):
            complaints.append(f"{source.module}:{line} imports {name}: concurrency lives in a worker's loop.py")
        elif top == "threading" and not may_lock:
            complaints.append(f"{source.module}:{line} imports {name}: threads live in a worker's loop.py")
    if may_lock:
        complaints += _beyond_locks(source)
    return complaints


def _beyond_locks(source: Source) -> Iterator[str]:
    uses: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.ImportFrom) and node.module == "threading":
            uses += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute) and _dotted(node.value) == "threading":
            uses.append((node.lineno, node.attr))
    for line, name in uses:
        if name not in {"Lock", "RLock"}:
            yield f"{source.module}:{line} uses threading.{name}: here only a Lock is allowed"


def _imports(source: Source) -> Iterator[tuple[str, int]]:
    """Every imported module with its line; `from a import b` counts as `a`, relative ones are made absolute."""
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield _absolute(source, node), node.lineno


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    up = node.level - 1 if source.is_package else node.level
    base = source.module.split(".")
    base = base[: len(base) - up]
    return ".".join([*base, node.module] if node.module else base)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _call_complaints(module: str, call: ast.Call) -> Iterator[str]:
    if isinstance(call.func, ast.Name) and call.func.id in {"eval", "exec", "compile", "__import__"}:
        yield f"{module}:{call.lineno} calls {call.func.id}: data never becomes code"
    for keyword in call.keywords:
        if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False):
            yield f"{module}:{call.lineno} passes shell=: no shell, ever"


_NO_PROCESS = "no worker starts a program"
_NO_UNPICKLING = "data never becomes code"
_NO_ARCHIVES = "archive members name their own paths"

_FORBIDDEN_MODULES: Mapping[str, str] = {
    "subprocess": _NO_PROCESS,
    "pty": _NO_PROCESS,
    "pickle": _NO_UNPICKLING,
    "marshal": _NO_UNPICKLING,
    "shelve": _NO_UNPICKLING,
    "dill": _NO_UNPICKLING,
    "tarfile": _NO_ARCHIVES,
    "zipfile": _NO_ARCHIVES,
}

_FORBIDDEN_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"), "use yaml.safe_load"),
    **dict.fromkeys(("yaml.FullLoader", "yaml.UnsafeLoader", "yaml.Loader"), "use yaml.SafeLoader"),
    **dict.fromkeys(
        ("os.system", "os.popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.posix_spawnp"), _NO_PROCESS
    ),
    **{f"os.exec{suffix}": _NO_PROCESS for suffix in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")},
    **{f"os.spawn{suffix}": _NO_PROCESS for suffix in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")},
    "asyncio.create_subprocess_exec": _NO_PROCESS,
    "asyncio.create_subprocess_shell": _NO_PROCESS,
    "shutil.unpack_archive": _NO_ARCHIVES,
}
