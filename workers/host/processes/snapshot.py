"""Reads everything a snapshot shows of a process while a pidfd holds it: bounded in time, in bytes and in counts.

Called by the handle. Everything is read through a descriptor of /proc/<pid> that was opened while the pidfd proved
that the process lives: what is opened below it is this process's, or fails, whatever gets the pid. So what was read of
one that ends meanwhile stays evidence. What can wait for a stuck process or filesystem is read last.
"""

import hashlib
import os
import stat as modes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from workers.domain.targets.process import ProcessFacts
from workers.domain.targets.process_snapshot import (
    ChildShown,
    ExecutableFile,
    Listed,
    Mapped,
    OpenFile,
    OpenSocket,
    ProcessSnapshot,
    ThreadShown,
    Variable,
)
from workers.domain.targets.protected_files import is_remote
from workers.domain.targets.redaction import shown_variable
from workers.host.processes import net_tables, procfs, tables
from workers.host.processes.pidfd import ended

T = TypeVar("T")

MOST: Final = 4096
"""Items of each list."""
_TEXT: Final = 65_536
"""Bytes of a table that the kernel bounds itself."""
_MAPS: Final = 4 << 20
_ENVIRONMENT: Final = 1 << 20
_CHILDREN: Final = 256 << 10
_ROWS: Final = 1_000_000
"""Of one table of sockets."""
_HASHED: Final = 64 << 20
"""Bytes of an executable whose digest is taken."""
_CHUNK: Final = 1 << 20
_TIME_OVER: Final = "the time for the snapshot was over"


class SnapshotReader:
    """One snapshot."""

    def __init__(self, pid: int, descriptor: int, *, timeout_s: float) -> None:
        """``descriptor`` is the pidfd; parts that have not begun after ``timeout_s`` are left out."""
        self._pid = pid
        self._pidfd = descriptor
        self._until = time.monotonic() + timeout_s
        self._directory_fd = -1
        self._missing: dict[str, str] = {}

    def take(self, facts: ProcessFacts) -> ProcessSnapshot | None:
        """``facts`` were read before, of the same process; None when it has ended."""
        try:
            self._directory_fd = os.open(f"/proc/{self._pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            return None
        try:
            return None if ended(self._pidfd) else self._taken(facts)
        finally:
            os.close(self._directory_fd)

    def _taken(self, facts: ProcessFacts) -> ProcessSnapshot:
        """In the order of the arguments: what may have to wait comes late."""
        part = self._part
        files = part("files", self._files) or Listed()
        return ProcessSnapshot(
            process=facts,
            status=part("status", lambda: tables.status(self._text("status"))) or {},
            stat=part("stat", lambda: tables.stat(self._text("stat"))) or {},
            cgroups=part("cgroups", lambda: _shown(procfs.parse_cgroups(self._text("cgroup")))) or {},
            limits=part("limits", lambda: tables.limits(self._text("limits"))) or (),
            namespaces=part("namespaces", self._namespaces) or {},
            threads=part("threads", self._threads) or Listed(),
            children=part("children", self._children) or Listed(),
            files=files,
            sockets=part("sockets", lambda: self._sockets(files)) or Listed(),
            working_directory=part("working_directory", lambda: self._link("cwd")) or "",
            root_directory=part("root_directory", lambda: self._link("root")) or "",
            environment=part("environment", self._environment) or Listed(),
            maps=part("maps", self._maps) or Listed(),
            executable=None if facts.kernel_thread else part("executable", self._executable),
            missing=self._missing,
            taken_at_ns=time.time_ns(),
            ended=ended(self._pidfd),
        )

    def _part(self, name: str, read: Callable[[], T]) -> T | None:
        """One part; where it cannot be read, the others are read all the same."""
        if self._late():
            self._missing[name] = _TIME_OVER
            return None
        try:
            return read()
        except OSError as error:
            self._missing[name] = (error.strerror or "cannot be read").lower()
        except ValueError:
            self._missing[name] = "cannot be understood"
        return None

    def _late(self) -> bool:
        return time.monotonic() > self._until

    def _namespaces(self) -> dict[str, str]:
        with self._directory("ns") as names:
            return {name: self._link(f"ns/{name}") for name in sorted(names)}

    def _threads(self) -> Listed[ThreadShown]:
        def each(number: int) -> ThreadShown:
            stat = procfs.parse_stat(self._text(f"task/{number}/stat"))
            return ThreadShown(number, stat.name, stat.state)

        return self._each("task", each)

    def _children(self) -> Listed[ChildShown]:
        """As each of its threads lists them; a child that ends meanwhile is left out."""
        pids: list[int] = []
        whole = True
        with self._directory("task") as threads:
            for number in threads:
                with suppress(ProcessLookupError):
                    text, complete = self._whole(f"task/{number}/children", _CHILDREN)
                    pids += map(int, text.split() if complete else text.split()[:-1])
                    whole = whole and complete
                if len(pids) > MOST or self._late():
                    whole = False
                    break
        found = [child for pid in pids[:MOST] if (child := self._child(pid)) is not None]
        return Listed(tuple(found), truncated=not whole or len(pids) > MOST)

    def _child(self, pid: int) -> ChildShown | None:
        try:
            stat = procfs.parse_stat(_contents(f"/proc/{pid}/stat", None, _TEXT)[0])
        except (OSError, ValueError):
            return None
        return ChildShown(pid, stat.name, stat.state, stat.start_ticks) if stat.parent_pid == self._pid else None

    def _files(self) -> Listed[OpenFile]:
        def each(number: int) -> OpenFile:
            position, flags = tables.position_and_flags(self._text(f"fdinfo/{number}"))
            return OpenFile(number, self._link(f"fd/{number}"), position, flags)

        return self._each("fd", each)

    def _sockets(self, files: Listed[OpenFile]) -> Listed[OpenSocket]:
        """Of those among its open files; one of another network namespace is in no table of its own."""
        wanted = {inode for file in files.items if (inode := _socket_inode(file.target))}
        found: list[OpenSocket] = []
        whole = not files.truncated
        for table in net_tables.TABLES:
            if not wanted:
                break
            with suppress(FileNotFoundError), self._opened(f"net/{table}") as rows:
                for number, line in enumerate(rows):
                    if number % 1024 == 0 and (number > _ROWS or self._late()):
                        whole = False
                        break
                    row = net_tables.parsed(table, line)
                    if row is not None and row.inode in wanted:
                        wanted.discard(row.inode)
                        found.append(row)
        return Listed(tuple(sorted(found, key=lambda row: row.inode)), truncated=not whole)

    def _maps(self) -> Listed[Mapped]:
        text, whole = self._whole("maps", _MAPS)
        listed = _listed(tables.maps(text if whole else text[: text.rfind(b"\n") + 1]))
        return Listed(listed.items, truncated=listed.truncated or not whole)

    def _environment(self) -> Listed[Variable]:
        text, whole = self._whole("environ", _ENVIRONMENT)
        entries = text.rstrip(b"\0").split(b"\0") if text.strip(b"\0") else []
        if not whole:
            entries = entries[:-1]
        shown = (Variable(*shown_variable(procfs.readable(entry))) for entry in entries)
        listed = _listed(shown)
        return Listed(listed.items, truncated=listed.truncated or not whole)

    def _executable(self) -> ExecutableFile:
        """By a descriptor that opens nothing first: a filesystem that need not answer is not asked for content."""
        path = self._link("exe")
        held = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=self._directory_fd)
        try:
            found = os.fstat(held)
            mount = _number(_contents(f"/proc/self/fdinfo/{held}", None, _TEXT)[0], b"mnt_id:")
            filesystem = tables.filesystem(self._whole("mountinfo", _MAPS)[0], mount)
            unread = _why_unread(found, filesystem)
            sha256 = ""
            if not unread:
                try:
                    sha256 = self._digest()
                except OSError as error:
                    unread = (error.strerror or "cannot be read").lower()
                else:
                    unread = "" if sha256 else _TIME_OVER
        finally:
            os.close(held)
        return ExecutableFile(
            path=path,
            device=found.st_dev,
            inode=found.st_ino,
            size=found.st_size,
            mode=modes.S_IMODE(found.st_mode),
            user_id=found.st_uid,
            modified_at_ns=found.st_mtime_ns,
            filesystem=filesystem,
            sha256=sha256,
            unread=unread,
        )

    def _digest(self) -> str:
        """Of the executable's content; empty where the time was over."""
        digest, left = hashlib.sha256(), _HASHED
        descriptor = os.open("exe", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory_fd)
        try:
            while left > 0 and (chunk := os.read(descriptor, min(left, _CHUNK))):
                if self._late():
                    return ""
                digest.update(chunk)
                left -= len(chunk)
        finally:
            os.close(descriptor)
        return digest.hexdigest()

    def _each(self, directory: str, read: Callable[[int], T]) -> Listed[T]:
        """What is read of each number in a directory; one that ends meanwhile is left out."""
        found: list[T] = []
        with self._directory(directory) as names:
            for name in names:
                if len(found) == MOST or self._late():
                    return Listed(tuple(found), truncated=True)
                with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                    found.append(read(int(name)))
        return Listed(tuple(found))

    @contextmanager
    def _directory(self, name: str) -> Iterator[Iterator[str]]:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory_fd)
        try:
            with os.scandir(descriptor) as entries:
                yield (entry.name for entry in entries)
        finally:
            os.close(descriptor)

    @contextmanager
    def _opened(self, name: str) -> Iterator[Iterator[bytes]]:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory_fd)
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def _link(self, name: str) -> str:
        return procfs.readable(os.fsencode(os.readlink(name, dir_fd=self._directory_fd)))

    def _text(self, name: str) -> bytes:
        return self._whole(name, _TEXT)[0]

    def _whole(self, name: str, most: int) -> tuple[bytes, bool]:
        """Content, and whether it is all of it."""
        return _contents(name, self._directory_fd, most)


def _contents(name: str, directory: int | None, most: int) -> tuple[bytes, bool]:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        parts: list[bytes] = []
        size = 0
        while size < most and (part := os.read(descriptor, most - size)):
            parts.append(part)
            size += len(part)
        return b"".join(parts), size < most
    finally:
        os.close(descriptor)


def _listed(items: Iterator[T]) -> Listed[T]:
    kept: list[T] = []
    for item in items:
        if len(kept) == MOST:
            return Listed(tuple(kept), truncated=True)
        kept.append(item)
    return Listed(tuple(kept))


def _shown(cgroups: dict[str, str]) -> dict[str, str]:
    return {name: procfs.readable(os.fsencode(path)) for name, path in cgroups.items()}


def _socket_inode(target: str) -> int:
    inode = target.removeprefix("socket:[").removesuffix("]")
    return int(inode) if target.startswith("socket:[") and inode.isdigit() else 0


def _number(text: bytes, key: bytes) -> int:
    rows = (line.removeprefix(key) for line in text.split(b"\n") if line.startswith(key))
    return int(next(rows, b"0"))


def _why_unread(found: os.stat_result, filesystem: str) -> str:
    if not modes.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if not filesystem or is_remote(filesystem):
        return f"it is on {filesystem or 'an unknown filesystem'}, which may never answer"
    return f"it has more than {_HASHED} bytes" if found.st_size > _HASHED else ""
