"""Which sockets of container runtimes there are, and which of them this worker may trust.

Called by ``runtime_sockets``. A socket is trusted when root (or this worker's own user) listens on it, outside of any
container, in directories where no other user can create another socket: a forged runtime could pretend that a kill was
carried out. Reads, and connects to ask for the peer; sends nothing.
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
from workers.host.processes.pidfd import ended as has_ended

_PEER: Final = struct.Struct("3i")
"""SO_PEERCRED: pid, uid, gid."""
_SO_PEERPIDFD: Final = 77
"""asm-generic/socket.h: the process that called listen(), as a pidfd (Linux 6.5)."""
_DEEPEST: Final = 8
"""Levels of directories that ``**`` matches."""
_CONNECT_S: Final = 1.0
"""A listener whose queue stays full for so long counts as one that does not answer."""


@dataclass(frozen=True, slots=True)
class RuntimeSocket:
    """One socket, by its real path."""

    path: str
    trusted: bool
    listening: bool = True
    why: str = ""
    """Why it is not trusted, or what is wrong with it."""


def find_sockets(patterns: Iterable[str], *, root: Path = Path("/")) -> Sequence[RuntimeSocket]:
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
    filesystem. Below /run are the root directories of every container, which anything may write to."""
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
    """The directory and those in it that only root (or this worker's user) may write to, breadth first."""
    trusted_users = {0, os.geteuid()}
    waiting = [(top, 0)]
    while waiting:
        at, depth = waiting.pop(0)
        try:
            facts = at.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_dev != top.lstat().st_dev:
                continue
            if facts.st_uid not in trusted_users or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                continue
            inside = [Path(entry.path) for entry in os.scandir(at) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        yield at
        if depth < _DEEPEST:
            waiting += [(each, depth + 1) for each in inside]


def judged(path: Path) -> RuntimeSocket:
    """One socket, by its real path."""
    trusted_users = {0, os.geteuid()}
    fault = _replaceable(path, trusted_users)
    if fault:
        return RuntimeSocket(str(path), trusted=False, why=fault)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_S)
        try:
            connection.connect(str(path))
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            pid, user, _ = _PEER.unpack(raw)
            distrusted = _distrusted(pid, connection) if user in trusted_users else f"user {user} listens on it"
        except OSError as error:
            why = "no process listens" if isinstance(error, ConnectionRefusedError) else f"cannot be reached: {error}"
            return RuntimeSocket(str(path), trusted=True, listening=False, why=why)
    return RuntimeSocket(str(path), trusted=not distrusted, why=distrusted)


def _replaceable(path: Path, trusted_users: set[int]) -> str:
    """Which other user could replace it with another socket; empty for none."""
    for each in (path, *path.parents):
        try:
            facts = each.lstat()
        except OSError as error:
            return f"{each} cannot be inspected: {error.strerror}"
        if facts.st_uid not in trusted_users:
            return f"{each} belongs to user {facts.st_uid}"
        open_to_all = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
        if each is not path and open_to_all:
            return f"{each} can be written to by others than its owner"
    return ""


def _distrusted(pid: int, connection: socket.socket) -> str:
    """Why the listener cannot be trusted, though its user can: root in a container is not the host's. A peer outside of
    this pid namespace (0) cannot be inspected: the worker needs the host's."""
    if pid == 0:
        return ""
    held = _held(connection)
    try:
        inside = _containers_of(pid)
        if inside is None or (held is not None and has_ended(held)):
            return f"process {pid}, which began to listen on it, has ended, and its successor is unknown"
    finally:
        if held is not None:
            os.close(held)
    distrusted = inside - (_containers_of(os.getpid()) or set())
    return f"container {min(distrusted)[:12]} listens on it" if distrusted else ""


def _held(connection: socket.socket) -> int | None:
    """The listener by descriptor, so that its pid is not reused meanwhile; None before Linux 6.5, and where it has
    been reaped."""
    try:
        return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4), sys.byteorder)
    except OSError:
        return None


def _containers_of(pid: int) -> set[str] | None:
    """The containers that a process is in; None when it cannot be read."""
    try:
        rows = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return {each for row in rows for each in ids_in(row)}
