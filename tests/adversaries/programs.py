"""Builds the adversaries that are written in C, where a compiler is at hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.components import require
from tests.victims import Victims

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


def started_in_c(name: str, *arguments: str, into: Path, victims: Victims, user: int | None = None) -> int:
    """The program ``name`` at work, in a process group of its own; it has printed its first line, which is left."""
    program = compiled(name, into)
    if program is None:
        require("cc", "this adversary is written in C")
    return victims.spawn([str(program), *arguments], stdout=subprocess.PIPE, start_new_session=True, user=user)


def python_source(name: str) -> Path:
    """The Python version of an adversary."""
    return _SOURCES / f"{name}.py"


def shapeshifter(tmp_path: Path) -> list[str]:
    """What to start for a process that changes everything that it can of itself; in Python without a compiler."""
    program = compiled("shapeshifter", tmp_path)
    if program is None:
        return [sys.executable, "-S", str(python_source("shapeshifter")), "0"]
    other = tmp_path / "sshd"
    shutil.copy(program, other)
    return [str(program), str(other), str(program)]
