"""The port ``QuarantineHandle``: one file's directory, held through every step of a quarantine.

Made by ``vault``, driven by ``file_quarantine`` in one thread. ``parking_directory`` has the steps beside the file,
this module those in the vault. Decides nothing; every error leaves it as one of ``domain.errors``.
"""

import os

from workers.domain.targets.file import Holders
from workers.domain.targets.manifest import Manifest
from workers.host.files.holders import holders
from workers.host.files.ports import Copied
from workers.host.files.quarantine.compression import Compressor, decompress, fingerprint
from workers.host.files.quarantine.parking_directory import ParkingDirectory
from workers.host.files.quarantine.vault_directory import OBJECT, PART, VaultDirectory
from workers.system.os_errors import translated
from workers.system.ports import Clock


class SystemQuarantineHandle(ParkingDirectory):
    """See ``ports.QuarantineHandle``."""

    def __init__(self, parent: int, manifest: Manifest, directory: VaultDirectory, *, clock: Clock) -> None:
        """Takes over the descriptor ``parent``."""
        super().__init__(parent, manifest)
        self._vault = directory
        self._clock = clock
        self._source = -1
        self._fingerprint: tuple[int, int, int] = (0, 0, 0)

    @translated("copying the file into the vault")
    def copy(self, *, limit: int, deadline_ns: int) -> Copied:
        self._close_source()
        self._source = self._open_file()
        self._fingerprint = fingerprint(os.fstat(self._source))
        used = self._vault.used(without=self._manifest.execution_id)
        part = self._vault.create(self._manifest.execution_id)
        try:
            compressor = Compressor(
                part,
                limit=limit,
                deadline_ns=deadline_ns,
                clock=self._clock,
                check=lambda size: self._vault.check_quota(used + size),
            )
            copied = compressor.compress(self._source)
            os.fsync(part)
        finally:
            os.close(part)
        return copied

    @translated("reading the object back")
    def verify(self, copied: Manifest, *, deadline_ns: int) -> None:
        descriptor = self._vault.open_object(self._manifest.execution_id)
        try:
            decompress(descriptor, copied, clock=self._clock, deadline_ns=deadline_ns)
        finally:
            os.close(descriptor)

    @translated("checking the parked file")
    def unchanged(self) -> bool:
        return self._source >= 0 and fingerprint(os.fstat(self._source)) == self._fingerprint

    @translated("storing the object")
    def store(self) -> None:
        self._vault.store(self._manifest.execution_id)

    @translated("removing the copy")
    def discard(self) -> None:
        self._vault.unlink(self._manifest.execution_id, PART)
        self._vault.unlink(self._manifest.execution_id, OBJECT)

    @translated("looking for processes that have the file open")
    def holders(self, *, deadline_ns: int) -> Holders:
        return holders(self._manifest.file, lambda: self._clock.now_ns() < deadline_ns)

    def remove(self) -> None:
        self._close_source()
        super().remove()

    def close(self) -> None:
        self._close_source()
        super().close()

    def _close_source(self) -> None:
        if self._source >= 0:
            os.close(self._source)
            self._source = -1
