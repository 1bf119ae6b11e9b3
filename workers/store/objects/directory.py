"""The object store in a directory: one file an object, complete or not there, never replaced.

Made by ``open_store`` and ``open_reader``; the default of ``douse up``. An object is written beside its name, made
durable, and then linked to it: a link never replaces anything, which is what ``If-None-Match: *`` does on S3. A copy
that waits on the same filesystem is linked itself, once its content has been read and compared.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.domain.ids import NodeId
from workers.domain.pace import Pace
from workers.domain.targets.custody import is_object_key
from workers.store.objects.checks import check_digest, check_own
from workers.store.objects.ports import ObjectSource, StoredObject, Written
from workers.system.os_errors import translated
from workers.system.private_directory import open_private

_CHUNK: Final = 1 << 20
_PART: Final = ".part"
_REMEMBERED: Final = 16
"""Objects that were made last: more than there are threads that make one."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryStore:
    """Every call opens the directory again: it may be on a disk that comes and goes."""

    def __init__(self, path: Path, node_id: NodeId) -> None:
        """Objects lie in ``path``/``node_id``."""
        self._path = path
        self._node_id = node_id
        self._lock = Lock()
        self._made: dict[str, tuple[str | int, ...]] = {}

    def put(self, key: str, source: ObjectSource, *, pace: Pace) -> Written:
        name = self._own(key)
        directory = self._open()
        try:
            with translated("writing to the object store"):
                if _is_there(directory, name):
                    return Written.THERE
                try:
                    self._make(directory, name, source, pace)
                except FileExistsError:
                    return Written.THERE
                finally:
                    os.fsync(directory)
                self._remember(key, source, os.stat(name, dir_fd=directory, follow_symlinks=False))
                return Written.NEW
        finally:
            os.close(directory)

    def holds(self, key: str, source: ObjectSource, *, pace: Pace) -> bool | None:
        """The whole object is read back, unless it is unchanged the file that ``put`` has just made after comparing."""
        name = self._own(key)
        directory = self._open()
        try:
            with translated("reading the object back"):
                descriptor = _opened(directory, name)
                if descriptor is None:
                    return False
                with os.fdopen(descriptor, "rb", buffering=0) as file:
                    if self._just_made(key, source, os.fstat(descriptor)):
                        return True
                    digest = hashlib.sha256()
                    while chunk := file.read(_CHUNK):
                        pace.moved()
                        digest.update(chunk)
                    return digest.hexdigest() == source.sha256
        finally:
            os.close(directory)

    def answers(self) -> bool:
        try:
            os.close(self._open())
        except (PermanentFailure, OSError):
            return False
        return True

    def unfinished(self) -> Sequence[str]:
        directory = self._open()
        try:
            with translated("looking at the object store"):
                names = sorted(os.listdir(directory))  # noqa: PTH208 - by its descriptor
        finally:
            os.close(directory)
        keys = (f"{self._node_id}/{name.removesuffix(_PART)}" for name in names if name.endswith(_PART))
        return [key for key in keys if is_object_key(key)]

    def give_up(self, key: str) -> None:
        name = self._own(key)
        directory = self._open()
        try:
            with translated("clearing the object store"):
                _unlink(directory, name + _PART)
        finally:
            os.close(directory)

    def _make(self, directory: int, name: str, source: ObjectSource, pace: Pace) -> None:
        """The object under its name; raises ``FileExistsError`` where that is taken."""
        part = name + _PART
        _unlink(directory, part)
        try:
            if source.link(directory, part):
                self._compare(source, pace)
            else:
                self._write(directory, part, source, pace)
            os.link(part, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            _unlink(directory, part)

    def _compare(self, source: ObjectSource, pace: Pace) -> None:
        digest = hashlib.sha256()
        for chunk in self._chunks(source, pace):
            digest.update(chunk)
        check_digest(digest.hexdigest(), source)

    def _remember(self, key: str, source: ObjectSource, made: os.stat_result) -> None:
        with self._lock:
            self._made[key] = (source.sha256, *_fingerprint(made))
            while len(self._made) > _REMEMBERED:
                del self._made[next(iter(self._made))]

    def _just_made(self, key: str, source: ObjectSource, found: os.stat_result) -> bool:
        with self._lock:
            return self._made.get(key) == (source.sha256, *_fingerprint(found))

    def _write(self, directory: int, part: str, source: ObjectSource, pace: Pace) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, 0o400, dir_fd=directory), "wb") as file:
            digest = hashlib.sha256()
            for chunk in self._chunks(source, pace):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        check_digest(digest.hexdigest(), source)

    def _chunks(self, source: ObjectSource, pace: Pace) -> Iterator[bytes]:
        for offset in range(0, source.size, _CHUNK):
            pace.check()
            yield source.read_at(offset, min(_CHUNK, source.size - offset))
            pace.moved()

    def _open(self) -> int:
        """This node's own directory."""
        os.close(open_private(self._path, code="store_refused"))
        return open_private(self._path / self._node_id, code="store_refused")

    def _own(self, key: str) -> str:
        """The file's name in this node's directory."""
        check_own(key, self._node_id)
        return key.partition("/")[2]


class DirectoryReader:
    """``ports.ObjectReader``."""

    def __init__(self, path: Path) -> None:
        """The directory that the nodes' stores are in."""
        self._path = path

    def open(self, key: str) -> StoredObject | None:
        if not is_object_key(key):
            raise ValueError(f"{key!r} is not an object key")  # it would be a path
        owner, _, name = key.partition("/")
        with translated("opening the object"):
            try:
                directory = os.open(self._path / owner, _DIRECTORY)
            except FileNotFoundError:
                return None
            try:
                descriptor = _opened(directory, name)
            finally:
                os.close(directory)
        return None if descriptor is None else _File(descriptor)


class _File:
    """``ports.StoredObject``."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb")
        self.size = os.fstat(descriptor).st_size

    def read(self, length: int) -> bytes:
        with translated("reading the object"):
            return self._file.read(length)

    def close(self) -> None:
        self._file.close()


def _opened(directory: int, name: str) -> int | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermanentFailure("what has the object's name is not a regular file", code="store_refused")
    return descriptor


def _fingerprint(found: os.stat_result) -> tuple[int, ...]:
    """Changes with every write to the file. Its change time is left out: losing a name changes that too."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, stat.S_IMODE(found.st_mode)


def _is_there(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlink(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
