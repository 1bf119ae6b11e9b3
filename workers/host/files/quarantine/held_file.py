"""The port ``HeldFile``: one file's directory, held through every step of a quarantine or a return.

Made by ``vault``, driven by the actions on files, by one thread. Puts ``parking``, ``shelf``, ``packing`` and
``returning`` together and decides nothing; every error leaves it in the words of ``domain.errors``.
"""

import hashlib
import os

from workers.domain.errors import PermanentFailure
from workers.domain.targets.file import Holders
from workers.domain.targets.manifest import Manifest
from workers.host.files import holders as proc
from workers.host.files.ports import Copied, Occupant, Whereabouts
from workers.host.files.quarantine import packing
from workers.host.files.quarantine.packing import Packer, in_time, looks, unpack
from workers.host.files.quarantine.parking import Parking
from workers.host.files.quarantine.returning import Returning
from workers.host.files.quarantine.shelf import OBJECT, PART, Shelf
from workers.system.os_errors import translated
from workers.system.ports import Clock


class SystemHeldFile:
    """See ``ports.HeldFile``."""

    def __init__(self, parent: int, manifest: Manifest, shelf: Shelf, *, clock: Clock, tmpfile: bool) -> None:
        """Takes over the descriptor ``parent``."""
        self._parent = parent
        self._manifest = manifest
        self._shelf = shelf
        self._clock = clock
        self._parking = Parking(parent, manifest)
        self._returning = Returning(parent, manifest, tmpfile=tmpfile)
        self._source = -1
        self._seen: tuple[int, int, int] = (0, 0, 0)

    # --- into the vault ----------------------------------------------------------------------------------------------

    def where(self) -> Whereabouts:
        """As the port says."""
        with translated("looking for the file"):
            return self._parking.where()

    def park(self) -> bool:
        """As the port says."""
        with translated("taking the file's name away"):
            return self._parking.park()

    def unpark(self) -> bool:
        """As the port says."""
        with translated("giving the file its name back"):
            return self._parking.unpark()

    def copy(self, *, limit: int, deadline_ns: int) -> Copied:
        """As the port says."""
        with translated("copying the file into the vault"):
            self._close_source()
            self._source = self._parking.open()
            self._seen = looks(os.fstat(self._source))
            used = self._shelf.used(without=self._manifest.execution_id)
            part = self._shelf.create(self._manifest.execution_id)
            try:
                packer = Packer(
                    part,
                    limit=limit,
                    deadline_ns=deadline_ns,
                    clock=self._clock,
                    room=lambda size: self._shelf.within_quota(used + size),
                )
                copied = packer.pack(self._source)
                os.fsync(part)
            finally:
                os.close(part)
        return copied

    def verify(self, copied: Manifest, *, deadline_ns: int) -> None:
        """As the port says."""
        with translated("reading the object back"):
            descriptor = self._object()
            try:
                unpack(
                    descriptor,
                    size=copied.size,
                    extents=copied.extents,
                    sha256=copied.sha256,
                    object_sha256=copied.object_sha256,
                    write=_nowhere,
                    in_time=lambda: in_time(self._clock, deadline_ns),
                )
            finally:
                os.close(descriptor)

    def unchanged(self) -> bool:
        """As the port says."""
        with translated("looking at the parked file"):
            return self._source >= 0 and looks(os.fstat(self._source)) == self._seen

    def store(self) -> None:
        """As the port says."""
        with translated("storing the object"):
            self._shelf.store(self._manifest.execution_id)

    def discard(self) -> None:
        """As the port says."""
        with translated("removing the copy"):
            self._shelf.unlink(self._manifest.execution_id, PART)
            self._shelf.unlink(self._manifest.execution_id, OBJECT)

    def holders(self, *, deadline_ns: int) -> Holders:
        """As the port says."""
        with translated("looking who has the file open"):
            return proc.holders(self._manifest.file, lambda: self._clock.now_ns() < deadline_ns)

    def remove(self) -> None:
        """As the port says."""
        with translated("removing the parked file"):
            self._close_source()
            self._parking.remove()

    # --- back --------------------------------------------------------------------------------------------------------

    def occupant(self, *, deadline_ns: int) -> Occupant:
        """As the port says."""

        def digest(descriptor: int) -> str:
            found, at = hashlib.sha256(), 0
            while data := os.pread(descriptor, packing.CHUNK, at):
                in_time(self._clock, deadline_ns)
                found.update(data)
                at += len(data)
            return found.hexdigest()

        with translated("looking what has the name"):
            match self._returning.occupant(digest):
                case None:
                    return Occupant.NOBODY
                case True:
                    return Occupant.OURS
                case _:
                    return Occupant.OTHER

    def build(self, *, deadline_ns: int) -> None:
        """As the port says."""
        manifest = self._manifest
        with translated("writing the file"):
            self._returning.begin()
            self._returning.size()
            descriptor = self._object()
            try:
                unpack(
                    descriptor,
                    size=manifest.size,
                    extents=manifest.extents,
                    sha256=manifest.sha256,
                    object_sha256=manifest.object_sha256,
                    write=self._returning.write,
                    in_time=lambda: in_time(self._clock, deadline_ns),
                )
            finally:
                os.close(descriptor)

    def dress(self) -> None:
        """As the port says."""
        with translated("giving the file back what it had"):
            self._returning.dress()

    def settle(self) -> None:
        """As the port says."""
        with translated("writing the file"):
            self._returning.settle()

    def link(self) -> bool:
        """As the port says."""
        with translated("giving the file its name"):
            return self._returning.link()

    def finish(self) -> None:
        """As the port says."""
        with translated("giving the file its flags"):
            self._returning.finish()

    def close(self) -> None:
        """As the port says."""
        self._close_source()
        self._parking.close()
        self._returning.close()
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1

    def _close_source(self) -> None:
        if self._source >= 0:
            os.close(self._source)
            self._source = -1

    def _object(self) -> int:
        """The object, or the part that is to become it."""
        for kind in (OBJECT, PART):
            try:
                return self._shelf.open(self._manifest.execution_id, kind)
            except FileNotFoundError:
                continue
        raise PermanentFailure("the object is not in the vault any more", code="object_damaged")


def _nowhere(_offset: int, _data: bytes) -> None:
    """What only has to be compared goes nowhere."""
