"""What the protected paths of ``core.protected_files`` are at this moment, by identity.

Called by ``vault`` before every quarantine: ``/etc/passwd`` is another inode after each change of it.
"""

import glob
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from workers.adapters.vault.paths import identity
from workers.core.file import FileIdentity
from workers.core.protected_files import OPEN_TREES, PROTECTED_FILES, PROTECTED_TREES, ProtectedPlaces

_ROOTS: Final = ("", "/proc/1/root")
"""Where the host's files are: our own root, or init's when we run in a container that shares the host's pids."""


def protected_places(own: Mapping[Path, str]) -> ProtectedPlaces:
    """``own`` are this worker's trees (vault, journal, keys), with the rest of a sentence that begins with "it"."""
    files: dict[FileIdentity, str] = {}
    trees: dict[FileIdentity, str] = {}
    for root in _ROOTS:
        for pattern, reason in PROTECTED_FILES.items():
            files |= dict.fromkeys(_identities(glob.glob(root + pattern)), reason)  # noqa: PTH207 - one glob, any root
        for path, reason in PROTECTED_TREES.items():
            trees |= dict.fromkeys(_identities([root + path]), reason)
    files |= dict.fromkeys(_identities(_swap_files()), "is memory of this machine (swap)")
    for name in _mapped_by_us():
        for found in _identities([name]):
            files.setdefault(found, "is part of this worker")
    for tree, reason in {**own, _installation(): "is this worker's own program"}.items():
        trees |= dict.fromkeys(_identities([str(tree)]), reason)
    open_trees = frozenset(found for root in _ROOTS for found in _identities([root + path for path in OPEN_TREES]))
    return ProtectedPlaces(files, trees, open_trees)


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


def _mapped_by_us() -> set[str]:
    """Interpreter, C library, loader and every extension module of this process."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        words = [line.rstrip("\n").split(None, 5) for line in lines]
    return {found[5] for found in words if len(found) == 6 and found[5].startswith("/")} | {sys.executable}


def _installation() -> Path:
    """The virtual environment; without one the package alone, for its prefix is the whole system's."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix)
    return Path(__file__).resolve().parents[2]
