"""The parking directory: a file is moved into it at once, where only root can reach it, before anything is copied.

Base of ``quarantine_handle``. Everything goes by the held descriptor of the file's directory; names are only ever
single components below it. A file is moved by its identity, checked before *and* after the move, never by its name.
"""

import contextlib
import os
import stat
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.domain.targets.file import shown
from workers.domain.targets.manifest import Manifest
from workers.host.files import facts, kernel, paths
from workers.host.files.ports import Whereabouts
from workers.system.os_errors import translated

FILE: Final = b"file"
"""Its name while it is parked."""

_EXECUTE: Final = 0o111
_BLOCKING_FLAGS: Final = kernel.IMMUTABLE | kernel.APPEND_ONLY


class ParkingDirectory:
    """Steps Q1 and Q5 of ``ports.QuarantineHandle``, and the way back from Q1."""

    def __init__(self, parent: int, manifest: Manifest) -> None:
        """Takes over the descriptor ``parent``: the directory that has the file."""
        self._parent = parent
        self._manifest = manifest
        self._directory = -1

    @translated("looking for the file")
    def where(self) -> Whereabouts:
        if self._enter() and self._has_file(self._directory, FILE):
            return Whereabouts.PARKED
        return Whereabouts.NAMED if self._has_file(self._parent, self._manifest.name) else Whereabouts.GONE

    @translated("taking the file's name away")
    def park(self) -> bool:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._manifest.parking, 0o700, dir_fd=self._parent)
        if not self._enter():
            raise self._parking_taken()
        match self.where():
            case Whereabouts.GONE:
                self._leave()
                return False
            case Whereabouts.NAMED:
                if self._manifest.clear_flags:
                    self._set_flags(self._parent, self._manifest.name, self._manifest.flags & ~_BLOCKING_FLAGS)
                if not self._move_in():
                    return False
            case Whereabouts.PARKED:
                pass
        if self._manifest.disarm:
            self._set_mode(self._manifest.mode & ~_EXECUTE)
        paths.sync_directory(self._directory)
        paths.sync_directory(self._parent)
        return True

    @translated("giving the file its name back")
    def unpark(self) -> bool:
        manifest = self._manifest
        if self.where() is Whereabouts.PARKED:
            if manifest.disarm:
                self._set_mode(manifest.mode)
            try:
                kernel.rename_no_replace(self._directory, FILE, self._parent, manifest.name)
            except FileExistsError:
                return False
        if self._has_file(self._parent, manifest.name) and manifest.clear_flags:
            self._set_flags(self._parent, manifest.name, manifest.flags)
        self._leave()
        return True

    @translated("removing the parked file")
    def remove(self) -> None:
        if self._enter() and self._has_file(self._directory, FILE):
            os.unlink(FILE, dir_fd=self._directory)
        self._leave()

    def close(self) -> None:
        self._close_directory()
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1

    def _close_directory(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def _open_file(self) -> int:
        """The parked file, for reading; the caller closes it.

        Raises:
            PermanentFailure: ``parked_file_lost``.
        """
        if not self._enter():
            raise self._file_lost()
        try:
            held = facts.hold(self._directory, FILE)
        except FileNotFoundError:
            raise self._file_lost() from None
        try:
            if paths.identity(os.fstat(held)) != self._manifest.file:
                raise self._file_lost()
            return facts.reopen(held)
        finally:
            os.close(held)

    def _move_in(self) -> bool:
        manifest = self._manifest
        try:
            kernel.rename_no_replace(self._parent, manifest.name, self._directory, FILE)
        except FileNotFoundError:
            self._leave()
            return False
        if self._has_file(self._directory, FILE):
            return True
        # Another file got the name between the check and the move: it gets its name back at once.
        try:
            kernel.rename_no_replace(self._directory, FILE, self._parent, manifest.name)
        except FileExistsError:
            raise PermanentFailure(
                f"another file was put under its name, and a third one after that; what was moved is "
                f"{shown(manifest.parking + b'/' + FILE)} beside it, untouched",
                code="left_parked",
            ) from None
        self._leave()
        return False

    def _enter(self) -> bool:
        """Hold the parking directory; False where there is none."""
        if self._directory >= 0:
            return True
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            directory = os.open(self._manifest.parking, flags, dir_fd=self._parent)
        except FileNotFoundError:
            return False
        found, above = os.fstat(directory), os.fstat(self._parent)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o777 != 0o700 or found.st_dev != above.st_dev:
            os.close(directory)
            raise self._parking_taken()
        self._directory = directory
        return True

    def _leave(self) -> None:
        """Remove the parking directory, which is empty by now."""
        self._close_directory()
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self._manifest.parking, dir_fd=self._parent)
        paths.sync_directory(self._parent)

    def _has_file(self, directory: int, name: bytes) -> bool:
        try:
            held = facts.hold(directory, name)
        except FileNotFoundError:
            return False
        try:
            found = os.fstat(held)
            return stat.S_ISREG(found.st_mode) and paths.identity(found) == self._manifest.file
        finally:
            os.close(held)

    def _set_flags(self, directory: int, name: bytes, flags: int) -> None:
        held = facts.hold(directory, name)
        try:
            if paths.identity(os.fstat(held)) != self._manifest.file:
                return
            descriptor = facts.reopen(held)
        finally:
            os.close(held)
        try:
            kernel.set_flags(descriptor, flags)
        finally:
            os.close(descriptor)

    def _set_mode(self, mode: int) -> None:
        descriptor = self._open_file()
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def _parking_taken(self) -> PermanentFailure:
        return PermanentFailure(
            f"{shown(self._manifest.parking)} beside the file does not belong to this worker",
            code="parking_taken",
        )

    def _file_lost(self) -> PermanentFailure:
        return PermanentFailure("the parked file is no longer where it was put", code="parked_file_lost")
