"""The vault's own directory: objects, parts and manifests, named by execution and by nothing else.

Called by ``vault`` and by both handles. The directory belongs to root alone (or to the worker's own user); what lies in
it is never executable, never readable by others, and never has its original name.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from workers.domain.errors import LimitExceeded, PermanentFailure
from workers.domain.ids import ExecutionId, is_execution_id
from workers.domain.targets.manifest import Manifest
from workers.host.files import kernel, paths
from workers.host.files.ports import Stored, VaultLimits
from workers.host.files.quarantine.compression import write_all
from workers.system.os_errors import fault, translated

OBJECT: Final = ""
PART: Final = ".part"
MANIFEST: Final = ".manifest"
_TEMPORARY: Final = ".manifest.tmp"
_RESERVE: Final = "reserve"
_LARGEST_MANIFEST: Final = 1_000_000


class VaultDirectory:
    """Opened at its first use, so that a node without files to quarantine needs no vault. Any thread."""

    def __init__(self, path: Path, limits: VaultLimits, *, held_back: int) -> None:
        """``held_back`` bytes of disk are kept for manifests: they must be written when nothing else fits."""
        self.path = path
        self.limits = limits
        self._held_back = held_back
        self._lock = Lock()
        self._directory = -1

    @property
    def directory(self) -> int:
        """Its descriptor.

        Raises:
            PermanentFailure: ``vault_unusable``.
        """
        with self._lock:
            if self._directory < 0:
                self._directory = self._open_directory()
            return self._directory

    def create(self, execution_id: ExecutionId) -> int:
        """A new, empty part (0400), whatever an earlier try left. Raises ``OSError``."""
        name = _named(execution_id, PART)
        self.unlink(execution_id, PART)
        return os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400, dir_fd=self.directory
        )

    def open_object(self, execution_id: ExecutionId) -> int:
        """The object, or the part that is to become it, for reading.

        Raises:
            PermanentFailure: ``object_damaged`` where neither is there.
            OSError: of opening.
        """
        for kind in (OBJECT, PART):
            try:
                return self._open_file(execution_id, kind)
            except FileNotFoundError:
                continue
        raise PermanentFailure("the object is not in the vault any more", code="object_damaged")

    def missing(self, execution_id: ExecutionId) -> str:
        """The path of its object or manifest, if that is not there. Raises ``OSError``."""
        for name in (_named(execution_id, OBJECT), _named(execution_id, MANIFEST)):
            try:
                os.stat(name, dir_fd=self.directory, follow_symlinks=False)
            except FileNotFoundError:
                return str(self.path / name)
        return ""

    def store(self, execution_id: ExecutionId) -> None:
        """The part becomes the object, durably. Raises ``OSError``."""
        part, name = _named(execution_id, PART).encode(), _named(execution_id, OBJECT).encode()
        kernel.rename_no_replace(self.directory, part, self.directory, name)
        os.fsync(self.directory)

    def unlink(self, execution_id: ExecutionId, kind: str) -> None:
        """Remove one of its files, if it is there. Raises ``OSError``."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_named(execution_id, kind), dir_fd=self.directory)

    def read_manifest(self, execution_id: ExecutionId) -> bytes | None:
        """The bytes of a manifest. Raises ``OSError``."""
        try:
            descriptor = self._open_file(execution_id, MANIFEST)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_LARGEST_MANIFEST + 1)

    def write_manifest(self, execution_id: ExecutionId, data: bytes) -> None:
        """Replace a manifest whole: temporary file, fsync, rename, fsync of the directory. Raises ``OSError``."""
        try:
            self._write(execution_id, data)
        except OSError as error:
            if not self._release_reserve(error):
                raise
            self._write(execution_id, data)

    def contents(self) -> list[Stored]:
        """What is in it, by execution; nothing where no vault was ever made. Raises ``OSError``."""
        if self._directory < 0 and not self.path.exists():
            return []
        kinds: dict[str, set[str]] = {}
        with os.scandir(self.directory) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            execution_id, point, kind = name.partition(".")
            if is_execution_id(execution_id):
                kinds.setdefault(execution_id, set()).add(point + kind)
        return [Stored(ExecutionId(each), PART in found, OBJECT in found) for each, found in sorted(kinds.items())]

    def used(self, *, without: ExecutionId) -> int:
        """Bytes of all objects and parts but those of one execution. Raises ``OSError``."""
        own = {_named(without, OBJECT), _named(without, PART)}
        sizes: dict[str, int] = {}
        with os.scandir(self.directory) as entries:
            names = [entry.name for entry in entries if is_execution_id(entry.name.removesuffix(PART))]
        for name in names:
            # Eight threads work here: what was a part when it was listed may be an object by now, or discarded.
            for now in (name, name.removesuffix(PART)):
                with contextlib.suppress(FileNotFoundError):
                    sizes[now] = os.stat(now, dir_fd=self.directory, follow_symlinks=False).st_size
                    break
        return sum(size for name, size in sizes.items() if name not in own)

    def check_capacity(self, size: int) -> None:
        """Raises ``LimitExceeded``: ``refused_quota``, ``failed_enospc``."""
        with translated("checking the vault's capacity"):
            self.check_quota(self.used(without=ExecutionId("")) + size)
            facts = os.fstatvfs(self.directory)
        free = facts.f_bavail * facts.f_frsize
        if free < size + self.limits.reserve:
            raise LimitExceeded(
                f"the vault's filesystem has {free} bytes left; {size} for the file and {self.limits.reserve} in "
                "reserve (file_quarantine.reserve_mb) are needed",
                code="failed_enospc",
            )

    def check_quota(self, total: int) -> None:
        """Raises ``LimitExceeded`` (``refused_quota``) where ``total`` is more than all objects may have."""
        if total > self.limits.quota:
            raise LimitExceeded(
                f"the vault would hold {total} bytes; {self.limits.quota} are allowed (file_quarantine.quota_mb)",
                code="refused_quota",
            )

    def executions(self) -> Sequence[ExecutionId]:
        """Of all manifests and objects; none where no vault was ever made. Raises ``OSError``."""
        if not self.path.exists():
            return ()
        with os.scandir(self.directory) as entries:
            names = {entry.name.removesuffix(MANIFEST) for entry in entries}
        return sorted(ExecutionId(name) for name in names if is_execution_id(name))

    def check_object(self, manifest: Manifest) -> None:
        """Compare an object with its manifest. Blocks: it is read whole.

        Raises:
            PermanentFailure: ``object_damaged``.
            OSError: of reading.
        """
        with os.fdopen(self.open_object(manifest.execution_id), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest.object_sha256:
                raise PermanentFailure("its SHA-256 is not the one in the manifest", code="object_damaged")

    def _open_file(self, execution_id: ExecutionId, kind: str) -> int:
        return os.open(_named(execution_id, kind), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory)

    def _write(self, execution_id: ExecutionId, data: bytes) -> None:
        temporary, name = _named(execution_id, _TEMPORARY), _named(execution_id, MANIFEST)
        self.unlink(execution_id, _TEMPORARY)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o400, dir_fd=self.directory)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            self.unlink(execution_id, _TEMPORARY)
            raise
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        os.fsync(self.directory)

    def _open_directory(self) -> int:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            found = os.fstat(directory)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                os.close(directory)
                raise PermanentFailure(
                    f"{self.path} must belong to this worker's user, with mode 0700", code="vault_unusable"
                )
            self._reserve_disk(directory)
            paths.sync_directory(directory)
            return directory
        except OSError as error:
            raise PermanentFailure(
                f"{self.path} cannot be used as the vault: {error.strerror}", code="vault_unusable"
            ) from error

    def _reserve_disk(self, directory: int) -> None:
        if not self._held_back:
            return
        with contextlib.suppress(OSError):  # without space to hold, work goes on without
            descriptor = os.open(
                _RESERVE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400, dir_fd=directory
            )
            try:
                os.posix_fallocate(descriptor, 0, self._held_back)
            finally:
                os.close(descriptor)

    def _release_reserve(self, error: OSError) -> bool:
        """Give the reserve up, once, for a manifest that finds no space."""
        if not isinstance(fault(error, "writing a manifest"), LimitExceeded):
            return False
        try:
            os.unlink(_RESERVE, dir_fd=self.directory)
        except OSError:
            return False
        return True


def _named(execution_id: ExecutionId, kind: str) -> str:
    if execution_id and not is_execution_id(execution_id):
        raise ValueError(f"{execution_id!r} is not an execution id")  # it would be a path
    return f"{execution_id}{kind}"
