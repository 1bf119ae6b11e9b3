"""Examining a file and reading it: the part of gathering that touches filesystems other than the worker's own.

Called by ``spool`` in a lane's own thread, and by ``reader_process``. ``isolated_reader`` is the other implementation
of ``FileReader``.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final, Protocol

from workers.domain.pace import Pace
from workers.domain.targets.file import FileFacts, FileIdentity, Location
from workers.host.evidence.copier import Copier, fingerprint
from workers.host.evidence.ports import Copy
from workers.host.files import facts, paths
from workers.host.files.roots import Root, open_root
from workers.system.os_errors import translated

EXAMINE_NS: Final = 10_000_000_000
"""How long examining a file may take."""


class FileReader(Protocol):
    """How files are examined and read. Both methods raise what ``ports.Spool`` lists."""

    def examine(self, where: Location) -> FileFacts | None:
        """As ``ports.Spool.examine``."""

    def copy(self, where: Location, expected: FileIdentity, target: int, *, limit: int, pace: Pace) -> Copy | None:
        """The content of the expected file into the empty file ``target``; None when it is not there."""


class DirectFileReader:
    """In the calling thread."""

    def __init__(self, *, openat2: bool = True) -> None:
        """``openat2`` False forces the way that works without it."""
        self._openat2 = openat2

    def examine(self, where: Location) -> FileFacts | None:
        with self._opened(where) as found:
            if found is None:
                return None
            directory, name, root = found
            with translated("examining the file"), contextlib.suppress(FileNotFoundError):
                return facts.examine(directory, name, root, allow_remote=where.allow_remote)
        return None

    def copy(self, where: Location, expected: FileIdentity, target: int, *, limit: int, pace: Pace) -> Copy | None:
        with self._opened(where) as found, translated("reading the file"):
            if found is None:
                return None
            directory, name, root = found
            try:
                held = facts.hold(directory, name)
            except FileNotFoundError:
                return None
            try:
                there = os.fstat(held)
                if paths.identity(there) != expected or not stat.S_ISREG(there.st_mode):
                    return None
                known = facts.examine(directory, name, root, allow_remote=where.allow_remote)
                if known.identity != expected:
                    return None
                copier = Copier(target, limit=limit, pace=pace)
                return _copied(held, known, copier)
            except FileNotFoundError:
                return None
            finally:
                os.close(held)

    @contextlib.contextmanager
    def _opened(self, where: Location) -> Iterator[tuple[int, bytes, Root] | None]:
        """The file's directory and name, and the root both were found below."""
        root = open_root(where.inside)
        try:
            opened = paths.open_parent(where.path, root, openat2=self._openat2, allow_remote=where.allow_remote)
            if opened is None:
                yield None
                return
            try:
                yield (*opened, root)
            finally:
                os.close(opened[0])
        finally:
            root.close()


def _copied(held: int, known: FileFacts, copier: Copier) -> Copy:
    source = facts.reopen(held)
    try:
        before = fingerprint(os.fstat(source))
        size, sha256 = copier.copy(source)
        return Copy(size, sha256, known, steady=before == fingerprint(os.fstat(source)))
    finally:
        os.close(source)
