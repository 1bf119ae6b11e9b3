"""The port ``Vault``: opens it, looks at files, keeps manifests, and hands out places.

Made by bootstrap, called by the actions on files from any lane thread.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.adapters.vault import facts, paths, protected
from workers.adapters.vault.faults import translated
from workers.adapters.vault.place import SystemPlace
from workers.adapters.vault.shelf import Shelf
from workers.core.envelope import PayloadType
from workers.core.errors import MalformedMessage, PermanentFailure, TransientFailure
from workers.core.file import FileFacts
from workers.core.ids import ExecutionId, NodeId
from workers.core.manifest import Manifest
from workers.core.protected_files import ProtectedPlaces
from workers.ports import Clock, Opener, Place, Sealer, VaultLimits

HELD_BACK: Final = 256 * 1024
"""Bytes of disk kept for manifests: some thirty of them."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel and the filesystems offer; False forces the way that works without it."""

    openat2: bool = True
    tmpfile: bool = True


class SystemVault:
    """See ``ports.Vault``."""

    def __init__(
        self,
        path: Path,
        limits: VaultLimits,
        *,
        node_id: NodeId,
        sealer: Sealer,
        opener: Opener,
        clock: Clock,
        own: Mapping[Path, str],
        held_back: int = HELD_BACK,
        kernel: Kernel = Kernel(),
    ) -> None:
        """``own`` are further trees that nobody may quarantine (journal, keys); the vault is among them anyway."""
        self._shelf = Shelf(path, limits, held_back=held_back)
        self._node_id = node_id
        self._sealer = sealer
        self._opener = opener
        self._clock = clock
        self._own = {**own, path: "is this node's quarantine"}
        self._kernel = kernel

    @property
    def limits(self) -> VaultLimits:
        """As the port says."""
        return self._shelf.limits

    def examine(self, path: bytes) -> FileFacts | None:
        """As the port says."""
        opened = paths.open_parent(path, openat2=self._kernel.openat2)
        if opened is None:
            return None
        directory, name = opened
        try:
            with translated("looking at the file"):
                try:
                    return facts.examine(directory, name)
                except FileNotFoundError:
                    return None
        finally:
            os.close(directory)

    def protected_places(self) -> ProtectedPlaces:
        """As the port says."""
        return protected.protected_places(self._own)

    def make_room(self, size: int) -> None:
        """As the port says."""
        self._shelf.make_room(size)

    def parking_name(self) -> bytes:
        """As the port says."""
        return b".douse-" + os.urandom(8).hex().encode()

    def object_path(self, execution_id: ExecutionId) -> str:
        """As the port says."""
        return str(self._shelf.path / execution_id)

    def manifest(self, execution_id: ExecutionId) -> Manifest | None:
        """As the port says."""
        with translated("reading the manifest"):
            data = self._shelf.read_manifest(execution_id)
        if data is None:
            return None
        try:
            opened = self._opener.open(data, PayloadType.MANIFEST, Manifest)
        except MalformedMessage as error:
            if error.reason == "keyset_expired":
                raise TransientFailure(error.message, code=error.reason) from error
            raise _damaged(execution_id, error.message) from error
        if not opened.signatory.is_node(self._node_id):
            raise _damaged(execution_id, f"it is signed by {opened.signatory.owner}, not by this node")
        if opened.record.execution_id != execution_id:
            raise _damaged(execution_id, f"it is that of {opened.record.execution_id}")
        return opened.record

    def record(self, manifest: Manifest) -> None:
        """As the port says."""
        try:
            data = self._sealer.seal(PayloadType.MANIFEST, manifest).value
        except MalformedMessage as error:
            raise PermanentFailure(
                f"what the file has does not fit a manifest: {error.message}", code="manifest_size"
            ) from error
        with translated("writing the manifest"):
            self._shelf.write_manifest(manifest.execution_id, data)

    def place(self, manifest: Manifest) -> Place | None:
        """As the port says."""
        opened = paths.open_parent(manifest.path, openat2=self._kernel.openat2)
        if opened is None:
            return None
        directory, _ = opened
        try:
            same = paths.identity(os.fstat(directory)) == manifest.parent
        except OSError:
            same = False
        if not same:
            os.close(directory)
            return None
        return SystemPlace(directory, manifest, self._shelf, clock=self._clock, tmpfile=self._kernel.tmpfile)


def _damaged(execution_id: ExecutionId, why: str) -> PermanentFailure:
    return PermanentFailure(f"the manifest of {execution_id} is not to be trusted: {why}", code="manifest_damaged")
