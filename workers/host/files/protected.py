"""What paths that matter are at this moment, by identity: those of ``domain.targets.protected_files`` and others.

Called by ``vault`` before every quarantine, and by the spool before every copy: ``/etc/passwd`` is another inode after
each change of it.
"""

import glob
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from workers.domain.targets.file import FileIdentity
from workers.domain.targets.protected_files import OPEN_TREES, PROTECTED_FILES, PROTECTED_TREES, ProtectedPaths
from workers.host.files.paths import identity

_ROOTS: Final = ("", "/proc/1/root")
"""The host's root: the worker's own, or init's where the worker runs in a container that shares the host's pids."""


def protected_paths(own: Mapping[Path, str]) -> ProtectedPaths:
    """``own`` are this worker's trees (vault, journal, keys), with the rest of a sentence that begins with "it"."""
    listed = resolved(PROTECTED_FILES, PROTECTED_TREES)
    files, trees = dict(listed.files), dict(listed.trees)
    files |= dict.fromkeys(_identities(_swap_files()), "is memory of this machine (swap)")
    for name in _mapped_here():
        for found in _identities([name]):
            files.setdefault(found, "is part of this worker")
    trees |= own_trees({**own, _installation(): "is this worker's own program"})
    open_trees = frozenset(found for root in _ROOTS for found in _identities([root + path for path in OPEN_TREES]))
    return ProtectedPaths(files, trees, open_trees)


def resolved(files: Mapping[str, str], trees: Mapping[str, str]) -> ProtectedPaths:
    """Globs of files and paths of trees, each with its reason, as the identities that they have at this moment."""
    found: dict[FileIdentity, str] = {}
    roots: dict[FileIdentity, str] = {}
    for root in _ROOTS:
        for pattern, reason in files.items():
            found |= dict.fromkeys(_identities(glob.glob(root + pattern)), reason)  # noqa: PTH207 - one glob, any root
        for path, reason in trees.items():
            roots |= dict.fromkeys(_identities([root + path]), reason)
    return ProtectedPaths(found, roots)


def own_trees(own: Mapping[Path, str]) -> Mapping[FileIdentity, str]:
    """Directories of this worker, as their identities."""
    return {found: reason for tree, reason in own.items() for found in _identities([str(tree)])}


def _identities(names: list[str]) -> Iterator[FileIdentity]:
    for name in names:
        try:
            yield identity(os.stat(name))  # noqa: PTH116 - links are followed: what they lead to is protected
        except OSError:
            continue


def _swap_files() -> list[str]:
    try:
        lines = Path("/proc/swaps").read_text("utf-8", "surrogateescape").splitlines()[1:]
    except OSError:
        return []
    return [line.split()[0].replace("\\040", " ") for line in lines if line]


def _mapped_here() -> set[str]:
    """Interpreter, C library, loader and every extension module of this process."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        words = [line.rstrip("\n").split(None, 5) for line in lines]
    return {found[5] for found in words if len(found) == 6 and found[5].startswith("/")} | {sys.executable}


def _installation() -> Path:
    """The virtual environment; without one the package alone, for its prefix is the whole system's."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix)
    return Path(__file__).resolve().parents[2]
