"""Builds the adversaries that are written in C, where a compiler is at hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).parent


def compiled(name: str, into: Path) -> Path | None:
    """The program ``name`` in a directory; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = into / name
    source = _SOURCES / f"{name}.c"
    subprocess.run([compiler, "-O1", "-pthread", "-o", str(program), str(source)], check=True, capture_output=True)
    return program


def python_source(name: str) -> Path:
    """The Python version of an adversary."""
    return _SOURCES / f"{name}.py"
