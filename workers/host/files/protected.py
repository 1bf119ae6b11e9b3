"""What paths that matter are at this moment, by identity: those of ``domain.targets.protected_files`` and others.

Called by ``vault`` before every quarantine, and by the spool before every copy: ``/etc/passwd`` is another inode after
each change of it.
"""

import contextlib
import glob
import os
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from workers.domain.targets.file import FileIdentity
from workers.domain.targets.protected_files import OPEN_TREES, PROTECTED_FILES, PROTECTED_TREES, ProtectedPaths
from workers.domain.targets.protected_processes import PROGRAM_DIRECTORIES, program_reason
from workers.host.files.own_files import OwnFiles
from workers.host.files.paths import identity

_ROOTS: Final = ("", "/proc/1/root")
"""The host's root: the worker's own, or init's where the worker runs in a container that shares the host's pids."""

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def protected_paths(own: OwnFiles) -> ProtectedPaths:
    """All that must stay on this node: the system's, the container runtimes', and what the worker itself lives by."""
    listed, worker = resolved(PROTECTED_FILES, PROTECTED_TREES), own.everything()
    swap = dict.fromkeys(_identities(_swap_files()), "is memory of this machine (swap)")
    open_trees = frozenset(found for root in _ROOTS for found in _identities([root + path for path in OPEN_TREES]))
    files = {**worker.files, **vital_programs(), **swap, **listed.files}
    return ProtectedPaths(files, {**listed.trees, **worker.trees}, open_trees)


def vital_programs(roots: tuple[str, ...] = _ROOTS) -> Mapping[FileIdentity, str]:
    """The executables of what a node lives by, where the host has them: root's, and writable by nobody else."""
    found: dict[FileIdentity, str] = {}
    for root in roots:
        for directory in PROGRAM_DIRECTORIES:
            for at in glob.glob(root + directory):  # noqa: PTH207 - one glob, any root
                with contextlib.suppress(OSError):
                    changed_ns = os.stat(at).st_mtime_ns  # noqa: PTH116 - links are followed
                    for path, reason in _programs_in(at, root, changed_ns):
                        there = os.stat(path)  # noqa: PTH116 - what a link leads to is protected
                        if stat.S_ISREG(there.st_mode) and there.st_uid == 0 and not there.st_mode & _OTHERS_WRITE:
                            found.setdefault(identity(there), reason)
    return found


@lru_cache(maxsize=4096)
def _programs_in(directory: str, root: str, changed_ns: int) -> tuple[tuple[str, str], ...]:
    """By their names, looked through once for each change of the directory."""
    del changed_ns
    paths = [f"{directory}/{name}" for name in os.listdir(directory)]  # noqa: PTH208 - names alone are wanted
    found = ((path, program_reason(path.removeprefix(root))) for path in paths)
    return tuple((path, reason) for path, reason in found if reason is not None)


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
