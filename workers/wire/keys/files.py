"""Reads and writes key files: no other user may read a private key or write a keyset, and no crash leaves half of one.

Called by the other modules of this package and by wiring. Every fault is one ``ConfigError`` line that names the
file and what to do; no message ever quotes a file's content.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from workers.domain.errors import ConfigError, Problem
from workers.wire.signing import PrivateKey

MAX_KEY_BYTES: Final = 64 * 1024
"""An Ed25519 key in PEM is 119 bytes; whatever is larger than this is another file."""

MAX_KEYSET_BYTES: Final = 64 * 1024 * 1024
"""100,000 nodes at about 200 bytes each are 20 MB, base64 included 27 MB."""


def load_private_key(path: Path) -> PrivateKey:
    """The private key in ``path``, PKCS8 PEM.

    Raises:
        ConfigError: missing, unreadable, readable by others, or not such a key.
    """
    content = _read(path, limit=MAX_KEY_BYTES, forbidden=0o077, remedy=f"run chmod 600 {path}")
    try:
        return PrivateKey.from_pem(content)
    except ValueError as error:
        raise fault(path, f"{error}; it must be Ed25519 in PKCS8 PEM") from None


def read_keyset(path: Path) -> bytes:
    """The bytes of a keyset file: readable by anyone, writable by its owner alone.

    Raises:
        ConfigError: missing, unreadable, too large, or writable by others.
    """
    return _read(path, limit=MAX_KEYSET_BYTES, forbidden=0o022, remedy=f"run chmod go-w {path}")


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet, durable on return.

    Raises:
        ConfigError: it exists, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask was
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise fault(path, f"cannot be written: {error.strerror}") from error


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Replace ``path`` by ``content`` in one step, durable on return.

    Raises:
        ConfigError: it cannot be written; the old file is untouched.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, content, mode=mode)
    try:
        fresh.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise fault(path, f"cannot be replaced: {error.strerror}") from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone among the processes that change files in a directory.

    Raises:
        ConfigError: there is no such directory.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise fault(directory, f"cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fault(path: Path, reason: str) -> ConfigError:
    """One line about one file."""
    return ConfigError((Problem(str(path), reason),))


def _read(path: Path, *, limit: int, forbidden: int, remedy: str) -> bytes:
    """Checked and read through one descriptor, so that nothing changes between the two. O_NONBLOCK: a FIFO planted at
    the path must not hang the start."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise fault(path, "does not exist; run douse keys init to make keys") from None
    except OSError as error:
        raise fault(path, f"cannot be opened: {error.strerror}") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise fault(path, "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_uid not in (0, os.geteuid()):
            raise fault(path, f"belongs to user {facts.st_uid}; it must be this worker's own or root's")
        if facts.st_mode & forbidden:
            raise fault(path, f"has mode {stat.S_IMODE(facts.st_mode):04o}: others have access to it; {remedy}")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise fault(path, f"is larger than {limit} bytes")
    return content
