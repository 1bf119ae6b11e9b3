"""A file on its way back: made without a name, filled, dressed, and given its name only when it is complete.

Called by ``place``. Under the final name there is never a half file, and never anything overwritten. The order of
``dress`` was measured to matter: chown drops setuid and file capabilities.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.domain.targets.file import FileAttribute
from workers.domain.targets.manifest import Manifest
from workers.host.files import facts, kernel, paths

_ACL: Final = b"system."
_NOT_OURS: Final = (b"security.selinux", b"security.ima", b"security.evm", b"security.SMACK64")
"""Labels that the kernel gives every new file; one that was there is still set, one that was not is left alone."""
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class Returning:
    """One file's return. All methods raise ``OSError`` besides what they say."""

    def __init__(self, parent: int, manifest: Manifest, *, tmpfile: bool = True) -> None:
        """``parent`` is the held directory; ``tmpfile`` False is for filesystems without ``O_TMPFILE``."""
        self._parent = parent
        self._manifest = manifest
        self._tmpfile = tmpfile
        self._descriptor = -1
        self._temporary = b""

    def begin(self) -> None:
        """R1: a new file, nameless where the filesystem can; else under a name of ours."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._own_name, dir_fd=self._parent)  # what a crash left
        if self._tmpfile:
            try:
                flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                self._descriptor = os.open(".", flags, 0o600, dir_fd=self._parent)
                return
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._own_name, flags, 0o600, dir_fd=self._parent)
        self._temporary = self._own_name

    def size(self) -> None:
        """Give it its whole length, all of it a hole."""
        os.ftruncate(self._descriptor, self._manifest.size)

    def write(self, offset: int, data: bytes) -> None:
        """A stretch of its content."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            offset += written
            rest = rest[written:]

    def dress(self) -> None:
        """R3.

        Raises:
            PermanentFailure: ``metadata_refused`` where the filesystem, or our rights, do not give it all back.
        """
        descriptor, manifest = self._descriptor, self._manifest
        os.fchown(descriptor, manifest.uid, manifest.gid)
        os.fchmod(descriptor, manifest.mode)
        self._strip()
        for attribute in sorted(manifest.attributes, key=_acl_last):
            try:
                os.setxattr(descriptor, attribute.name, attribute.value)
            except OSError as error:
                raise self._refused(
                    f"attribute {attribute.name.decode('ascii', 'replace')}: {error.strerror}"
                ) from error
        os.utime(descriptor, ns=(manifest.atime_ns, manifest.mtime_ns))
        self._check()

    def settle(self) -> None:
        """R4."""
        os.fsync(self._descriptor)

    def link(self) -> bool:
        """R5: whether it has the name now; False when something else has."""
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

    def finish(self) -> None:
        """R6. After a crash the file is found again by its name; ``same`` has said that it is ours."""
        if self._manifest.flags & kernel.SETTABLE:
            descriptor = self._descriptor if self._descriptor >= 0 else self._named()
            try:
                kernel.set_flags(descriptor, self._manifest.flags)
            finally:
                if descriptor != self._descriptor:
                    os.close(descriptor)
        paths.sync_directory(self._parent)

    def occupant(self, digest: Callable[[int], str]) -> bool | None:
        """None where nobody has the name; True where it is the file that was to come back; False for any other."""
        try:
            held = facts.hold(self._parent, self._manifest.name)
        except FileNotFoundError:
            return None
        try:
            if not self._same(os.fstat(held)):
                return False
            descriptor = facts.reopen(held)
        finally:
            os.close(held)
        try:
            return digest(descriptor) == self._manifest.sha256
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """A file that never got its name vanishes. Idempotent."""
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._parent)
            self._temporary = b""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _own_name(self) -> bytes:
        return self._manifest.parking + b".back"

    def _named(self) -> int:
        held = facts.hold(self._parent, self._manifest.name)
        try:
            return facts.reopen(held)
        finally:
            os.close(held)

    def _strip(self) -> None:
        """A directory's default list, or a label, may have dressed the new file already."""
        wanted = {attribute.name for attribute in self._manifest.attributes}
        for attribute in facts.attributes_of(self._descriptor):
            if attribute.name not in wanted and attribute.name not in _NOT_OURS:
                os.removexattr(self._descriptor, attribute.name)

    def _check(self) -> None:
        if not self._same(os.fstat(self._descriptor)):
            raise self._refused("owner, mode, size or times did not take")
        found = tuple(a for a in facts.attributes_of(self._descriptor) if a.name not in _NOT_OURS)
        if found != tuple(a for a in self._manifest.attributes if a.name not in _NOT_OURS):
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
