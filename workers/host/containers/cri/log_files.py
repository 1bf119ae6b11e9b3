"""The files that a CRI runtime writes a container's log to: found, opened and read as files that can be tampered with.

Called by ``container`` with the path that its runtime named. A pod that may write to a node's /var/log can replace them
by links, FIFOs or other files: no link is followed on the whole path, only a regular file is opened, no remote
filesystem is read, and a file with lines that no CRI runtime writes is not returned. Beside the present file are those
that the kubelet rotated; compressed ones are left out.
"""

import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import Final

from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.targets.file import shown
from workers.host.containers.cri.log_lines import lines, tail_start
from workers.host.files import facts, paths
from workers.host.files.roots import Root, open_root
from workers.system.os_errors import translated

FARTHEST: Final = 1 << 29
"""Bytes that are read in one go without a line to return; the deadline is not checked meanwhile. Less than a second for
the tail, 5 s to skip lines of 100 bytes, 13 s to skip empty ones. 10,000 lines of containerd's longest are
160 MiB; by default the kubelet rotates at 10."""
_CHUNK: Final = 1 << 16
_ROTATED: Final = re.compile(rb"\.\d{8}-\d{6}")
_MOST_ROTATED: Final = 20
_MOST_NAMES: Final = 10_000
"""In one directory: the kubelet leaves five."""


@dataclass(slots=True)
class _LogFile:
    """An open one; what is appended afterwards is not read."""

    descriptor: int
    identity: tuple[int, int]
    size: int
    start: int = 0

    def read(self, at: int, size: int) -> bytes:
        """From that offset."""
        return os.pread(self.descriptor, size, at)

    def chunks(self) -> Iterator[bytes]:
        """From its start on."""
        at = self.start
        while chunk := self.read(at, min(_CHUNK, self.size - at)):
            at += len(chunk)
            yield chunk


def read_log(path: bytes, *, tail: int, since_ns: int, farthest: int = FARTHEST) -> Generator[bytes]:
    """The lines of the log whose present file is ``path``, as ``ContainerHandle.logs``.

    Raises:
        TransientFailure: it is not there just now, or was cut while it was read.
        PermanentFailure: ``logs_unavailable``: it cannot be reached safely, or is too long to be searched;
            ``logs_unreadable``: it is no CRI log; as ``faults``.
    """
    with ExitStack() as opened, translated(f"reading the log {shown(path)}"):
        files = _files(path, opened)
        try:
            left = farthest
            for each in _chosen(files, tail, farthest):
                skipped = True
                for line in _lines(each, path, since_ns, left):
                    skipped = False
                    yield line
                left = left - (each.size - each.start) if skipped else farthest
        except EOFError:
            raise PermanentFailure(
                f"the log {shown(path)} is too long to be searched: more than {farthest >> 20} MiB of it would "
                "have to be read first; ask for fewer lines (tail), or for a shorter time",
                code="logs_unavailable",
            ) from None


def _lines(file: _LogFile, path: bytes, since_ns: int, farthest: int) -> Iterator[bytes]:
    try:
        yield from lines(file.chunks(), since_ns=since_ns, farthest=farthest)
    except ValueError:
        _check_uncut(file, path)
        raise PermanentFailure(
            f"the log {shown(path)} has a line that no CRI runtime writes; file_acquire takes the file as it is",
            code="logs_unreadable",
        ) from None
    _check_uncut(file, path)


def _check_uncut(file: _LogFile, path: bytes) -> None:
    if os.fstat(file.descriptor).st_size < file.size:
        raise TransientFailure(f"the log {shown(path)} was cut while it was read")


def _chosen(files: list[_LogFile], tail: int, farthest: int) -> list[_LogFile]:
    """Oldest first, those that the last ``tail`` lines are in, each from where they begin."""
    if not tail:
        return files
    chosen: list[_LogFile] = []
    for each in reversed(files):
        each.start, found = tail_start(each.read, each.size, tail=tail, farthest=farthest)
        chosen.insert(0, each)
        tail -= found
        farthest -= each.size - each.start
        if not tail:
            break
    return chosen


def _files(path: bytes, opened: ExitStack) -> list[_LogFile]:
    """Oldest first; the present one is opened first, so that a rotation meanwhile loses none."""
    try:
        root = opened.enter_context(closing(open_root(None)))
        found = paths.open_parent(path, root)
        if found is None:
            raise PermanentFailure(
                f"the directory of the log {shown(path)} is not there; where this worker runs in a container, mount "
                "/var/log/pods of the host into it",
                code="logs_unavailable",
            )
        directory, name = found
        opened.callback(os.close, directory)
        present = _open(directory, name, root, opened)
        if present is None:
            raise TransientFailure(f"the log {shown(path)} is not there: just rotated, removed, or never written")
        older = (_open(directory, each, root, opened) for each in _rotated(directory, name))
        return [*(each for each in older if each is not None and each.identity != present.identity), present]
    except CommandRejected as refused:  # its message is about a path that a person named
        raise PermanentFailure(
            f"its log cannot be reached safely: {refused.message}", code="logs_unavailable"
        ) from None


def _rotated(directory: int, name: bytes) -> list[bytes]:
    """The names of those that were rotated away and are not compressed, oldest first."""
    readable = paths.readable_directory(directory)
    try:
        with os.scandir(readable) as entries:
            names = [os.fsencode(each.name) for each in islice(entries, _MOST_NAMES)]
    finally:
        os.close(readable)
    rotated = [each for each in names if each.startswith(name) and _ROTATED.fullmatch(each[len(name) :])]
    return sorted(rotated)[-_MOST_ROTATED:]


def _open(directory: int, name: bytes, root: Root, opened: ExitStack) -> _LogFile | None:
    try:
        held = facts.hold(directory, name)
    except FileNotFoundError:
        return None
    try:
        paths.check_answers(held, root, allow_remote=False)  # even fstat may ask a filesystem
        found = os.fstat(held)
        if not stat.S_ISREG(found.st_mode):
            raise PermanentFailure(
                f"the log {shown(name)} is not a regular file: it was replaced",
                code="logs_unavailable",
            )
        descriptor = facts.reopen(held)
    finally:
        os.close(held)
    opened.callback(os.close, descriptor)
    return _LogFile(descriptor, (found.st_dev, found.st_ino), os.fstat(descriptor).st_size)
