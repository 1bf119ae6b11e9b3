"""Which sockets of container runtimes there are, and which of them this worker may believe (SAFETY D14).

Called by the adapters of runtimes and by ``douse doctor``. A socket is trusted when root (or this worker's own user)
listens on it, outside of any container, behind directories that nobody else can put another socket into: whoever may
fake a runtime could let a kill go into the void. Reads, and connects to ask for the peer; sends nothing.
"""

import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.domain.targets.cgroup_names import ids_in
from workers.host.processes.holding import ended as has_ended

_PEER: Final = struct.Struct("3i")
"""SO_PEERCRED: pid, uid, gid."""
_SO_PEERPIDFD: Final = 77
"""asm-generic/socket.h: who called listen(), as a pidfd (Linux 6.5)."""
_DEEPEST: Final = 8
"""Directories below where ``**`` stands."""
_CONNECT_S: Final = 1.0
"""A listener whose queue is full for so long does not answer either."""


@dataclass(frozen=True, slots=True)
class RuntimeSocket:
    """One socket, by its real path."""

    path: str
    trusted: bool
    listening: bool = True
    why: str = ""
    """Why it is not trusted, or what is wrong with it."""


def look(patterns: Iterable[str], *, root: Path = Path("/")) -> Sequence[RuntimeSocket]:
    """The sockets that the globs find, each once, in the globs' order."""
    return [judged(path) for path in _found(patterns, root)]


def _found(patterns: Iterable[str], root: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    walked: dict[Path, list[Path]] = {}
    for pattern in patterns:
        for path in sorted(_matching(pattern.lstrip("/"), root, walked)):
            try:
                real = path.resolve(strict=True)
                is_socket = stat.S_ISSOCK(real.lstat().st_mode)
            except (OSError, RuntimeError):
                continue
            if is_socket and real not in seen:
                seen.add(real)
                yield real


def _matching(pattern: str, root: Path, walked: dict[Path, list[Path]]) -> Iterator[Path]:
    """As ``Path.glob``, but ``**`` walks only where a socket could be trusted: below root's own directories, on one
    filesystem. Below /run are the root directories of every container, and they are whoever's."""
    before, doubled, after = pattern.partition("**/")
    if not doubled:
        yield from root.glob(pattern)
        return
    for start in root.glob(before.rstrip("/")) if before else (root,):
        real = start.resolve()
        if real not in walked:
            walked[real] = list(_below(real))
        for directory in walked[real]:
            yield from directory.glob(after)


def _below(top: Path) -> Iterator[Path]:
    """The directory and those in it that nobody but root (or this worker's user) may write to, breadth first."""
    believed = {0, os.geteuid()}
    waiting = [(top, 0)]
    while waiting:
        at, depth = waiting.pop(0)
        try:
            facts = at.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_dev != top.lstat().st_dev:
                continue
            if facts.st_uid not in believed or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                continue
            inside = [Path(entry.path) for entry in os.scandir(at) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        yield at
        if depth < _DEEPEST:
            waiting += [(each, depth + 1) for each in inside]


def judged(path: Path) -> RuntimeSocket:
    """One socket, by its real path."""
    believed = {0, os.geteuid()}
    fault = _replaceable(path, believed)
    if fault:
        return RuntimeSocket(str(path), trusted=False, why=fault)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(_CONNECT_S)
        try:
            asked.connect(str(path))
            raw = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            pid, user, _ = _PEER.unpack(raw)
            strange = _strange(pid, asked) if user in believed else f"user {user} listens on it"
        except OSError as error:
            why = "nobody listens" if isinstance(error, ConnectionRefusedError) else f"cannot be reached: {error}"
            return RuntimeSocket(str(path), trusted=True, listening=False, why=why)
    return RuntimeSocket(str(path), trusted=not strange, why=strange)


def _replaceable(path: Path, believed: set[int]) -> str:
    """Who could put another socket in its place; empty for nobody."""
    for place in (path, *path.parents):
        try:
            facts = place.lstat()
        except OSError as error:
            return f"{place} cannot be looked at: {error.strerror}"
        if facts.st_uid not in believed:
            return f"{place} belongs to user {facts.st_uid}"
        open_to_all = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
        if place is not path and open_to_all:
            return f"{place} may be written to by others than its owner"
    return ""


def _strange(pid: int, asked: socket.socket) -> str:
    """Why whoever listens is not to be believed, though his user is: root in a container is nobody. A peer outside of
    our pid namespace (0) cannot be looked at: the worker needs the host's."""
    if pid == 0:
        return ""
    held = _held(asked)
    try:
        inside = _containers_of(pid)
        if inside is None or (held is not None and has_ended(held)):
            return f"process {pid}, which began to listen on it, has ended, and nobody knows who goes on"
    finally:
        if held is not None:
            os.close(held)
    strange = inside - (_containers_of(os.getpid()) or set())
    return f"container {min(strange)[:12]} listens on it" if strange else ""


def _held(asked: socket.socket) -> int | None:
    """The listener by descriptor, so that its pid is nobody else's meanwhile; None before Linux 6.5, and where it has
    been reaped."""
    try:
        return int.from_bytes(asked.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4), sys.byteorder)
    except OSError:
        return None


def _containers_of(pid: int) -> set[str] | None:
    """The containers that a process is in; None when it cannot be seen."""
    try:
        rows = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return {each for row in rows for each in ids_in(row)}
