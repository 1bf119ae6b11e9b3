"""The file behind a database: private from its first instant, and its write-ahead log's space held in advance.

Called by ``store.sqlite.database``. Opens the database file only before SQLite does: closing a second descriptor of
it would drop SQLite's locks (POSIX).
"""

import os
import stat
from io import FileIO
from pathlib import Path

from workers.domain.errors import ConfigError, Problem


def prepare(path: Path) -> None:
    """Make the directory (0700) and the empty file (0600) where they are missing.

    Raises:
        ConfigError: the path cannot be made, is no regular file, or others could write to it or its directory.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _refused(path.parent, "others may write to this directory; run chmod go-w")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            facts = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _refused(path, "must be a regular file that only its owner may write to; run chmod 600")
        _sync_directory(path.parent)
    except OSError as error:
        raise _refused(path, f"cannot be used: {error.strerror}") from error


def open_log(path: Path) -> FileIO:
    """The write-ahead log, which SQLite keeps under one inode as long as it has the database open.

    Raises:
        ConfigError: it cannot be opened.
    """
    log = path.with_name(path.name + "-wal")
    try:
        return FileIO(os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        raise _refused(log, f"cannot be used: {error.strerror}") from error


def reserve_log(path: Path, size: int) -> None:
    """Let the write-ahead log own ``size`` bytes of disk.

    SQLite reads a log up to its first invalid frame and writes it from the start again after a checkpoint, so zeros
    behind its content are space held and nothing else. Best effort: without space to hold, work goes on without.
    """
    log = path.with_name(path.name + "-wal")
    if not size or (log.exists() and log.stat().st_size >= size):
        return
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, reason: str) -> ConfigError:
    return ConfigError((Problem(str(path), reason),))
