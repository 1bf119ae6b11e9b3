"""The port ``RestoreHandle``: a file is made without a name, filled, given its metadata, and named once it is complete.

Made by ``vault``, driven by ``file_unquarantine`` in one thread. Under the final name there is never half a file, and
nothing is ever overwritten. The order in ``set_metadata`` was measured to matter: chown drops setuid and file
capabilities.
"""

import contextlib
import errno
import hashlib
import os
import stat
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.domain.targets.file import FileAttribute
from workers.domain.targets.manifest import Manifest
from workers.host.files import facts, kernel, paths
from workers.host.files.ports import Occupant
from workers.host.files.quarantine import compression
from workers.host.files.quarantine.vault_directory import VaultDirectory
from workers.system.os_errors import translated
from workers.system.ports import Clock

_ACL: Final = b"system."
_TRUSTED: Final = b"trusted."
"""Seen and set with SYS_ADMIN only."""
_LABELS: Final = (b"security.selinux", b"security.ima", b"security.evm", b"security.SMACK64")
"""Labels that the kernel gives every new file; one that was there is still set, one that was not is left alone."""
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class SystemRestoreHandle:
    """See ``ports.RestoreHandle``."""

    def __init__(
        self, parent: int, manifest: Manifest, directory: VaultDirectory, *, clock: Clock, tmpfile: bool = True
    ) -> None:
        """Takes over the descriptor ``parent``; ``tmpfile`` False is for filesystems without ``O_TMPFILE``."""
        self._parent = parent
        self._manifest = manifest
        self._vault = directory
        self._clock = clock
        self._tmpfile = tmpfile
        self._descriptor = -1
        self._temporary = b""

    @translated("checking what has the name")
    def occupant(self, *, deadline_ns: int) -> Occupant:
        try:
            held = facts.hold(self._parent, self._manifest.name)
        except FileNotFoundError:
            return Occupant.NONE
        try:
            if not self._same(os.fstat(held)):
                return Occupant.OTHER
            descriptor = facts.reopen(held)
        finally:
            os.close(held)
        try:
            same = self._digest(descriptor, deadline_ns) == self._manifest.sha256
            return Occupant.RESTORED if same else Occupant.OTHER
        finally:
            os.close(descriptor)

    @translated("writing the file")
    def write(self, *, deadline_ns: int) -> None:
        self._create()
        os.ftruncate(self._descriptor, self._manifest.size)  # all of it a hole
        source = self._vault.open_object(self._manifest.execution_id)
        try:
            compression.decompress(
                source, self._manifest, clock=self._clock, deadline_ns=deadline_ns, write=self._write_at
            )
        finally:
            os.close(source)

    @translated("restoring the file's metadata")
    def set_metadata(self) -> None:
        descriptor, manifest = self._descriptor, self._manifest
        os.fchown(descriptor, manifest.uid, manifest.gid)
        os.fchmod(descriptor, manifest.mode)
        self._remove_extra_attributes()
        for attribute in sorted(manifest.attributes, key=_acl_last):
            try:
                os.setxattr(descriptor, attribute.name, attribute.value)
            except OSError as error:
                hint = "; it takes SYS_ADMIN" if attribute.name.startswith(_TRUSTED) else ""
                name = attribute.name.decode("ascii", "replace")
                raise self._refused(f"attribute {name}: {error.strerror}{hint}") from error
        os.utime(descriptor, ns=(manifest.atime_ns, manifest.mtime_ns))
        self._check_metadata()

    @translated("writing the file")
    def sync(self) -> None:
        os.fsync(self._descriptor)

    @translated("giving the file its name")
    def link(self) -> bool:
        try:
            if self._temporary:
                kernel.rename_no_replace(self._parent, self._temporary, self._parent, self._manifest.name)
            else:
                path = f"/proc/self/fd/{self._descriptor}".encode()
                os.link(path, self._manifest.name, dst_dir_fd=self._parent, follow_symlinks=True)
        except FileExistsError:
            return False
        self._temporary = b""
        return True

    @translated("setting the file's flags")
    def set_flags(self) -> None:
        """After a crash the file is found again by its name; ``occupant`` has identified it."""
        if self._manifest.flags & kernel.SETTABLE:
            descriptor = self._descriptor if self._descriptor >= 0 else self._open_by_name()
            try:
                kernel.set_flags(descriptor, self._manifest.flags)
            finally:
                if descriptor != self._descriptor:
                    os.close(descriptor)
        paths.sync_directory(self._parent)

    def close(self) -> None:
        self._drop_new_file()
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1

    @property
    def _temporary_name(self) -> bytes:
        return self._manifest.parking + b".back"

    def _create(self) -> None:
        """A new file: without a name where the filesystem can do that, else under a temporary name."""
        self._drop_new_file()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary_name, dir_fd=self._parent)  # what a crash left
        if self._tmpfile:
            try:
                flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                self._descriptor = os.open(".", flags, 0o600, dir_fd=self._parent)
                return
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._temporary_name, flags, 0o600, dir_fd=self._parent)
        self._temporary = self._temporary_name

    def _write_at(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            offset += written
            rest = rest[written:]

    def _digest(self, descriptor: int, deadline_ns: int) -> str:
        digest, position = hashlib.sha256(), 0
        while data := os.pread(descriptor, compression.CHUNK, position):
            compression.check_deadline(self._clock, deadline_ns)
            digest.update(data)
            position += len(data)
        return digest.hexdigest()

    def _drop_new_file(self) -> None:
        """Without a name it vanishes once it is closed; with its final name it stays."""
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._parent)
            self._temporary = b""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open_by_name(self) -> int:
        held = facts.hold(self._parent, self._manifest.name)
        try:
            return facts.reopen(held)
        finally:
            os.close(held)

    def _remove_extra_attributes(self) -> None:
        """The directory's default access list, or a label, may have given the new file attributes already."""
        wanted = {attribute.name for attribute in self._manifest.attributes}
        for attribute in facts.attributes_of(self._descriptor):
            if attribute.name not in wanted and attribute.name not in _LABELS:
                os.removexattr(self._descriptor, attribute.name)

    def _check_metadata(self) -> None:
        if not self._same(os.fstat(self._descriptor)):
            raise self._refused("owner, mode, size or times did not take")
        found = tuple(a for a in facts.attributes_of(self._descriptor) if a.name not in _LABELS)
        if found != tuple(a for a in self._manifest.attributes if a.name not in _LABELS):
            raise self._refused("its attributes are not those it had")

    def _same(self, found: os.stat_result) -> bool:
        manifest = self._manifest
        return (
            stat.S_ISREG(found.st_mode)
            and (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (manifest.uid, manifest.gid, manifest.mode)
            and (found.st_size, found.st_mtime_ns) == (manifest.size, manifest.mtime_ns)
        )

    @staticmethod
    def _refused(why: str) -> PermanentFailure:
        return PermanentFailure(f"the file cannot be given back what it had: {why}", code="metadata_refused")


def _acl_last(attribute: FileAttribute) -> tuple[bool, bytes]:
    return attribute.name.startswith(_ACL), attribute.name
