"""The port ``Vault``: opens it, looks at files, keeps manifests, and hands out places.

Made by wiring, called by the actions on files from any lane thread.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.domain.errors import MalformedMessage, PermanentFailure, TransientFailure
from workers.domain.ids import ExecutionId, NodeId
from workers.domain.targets.file import Enclosure, FileFacts, FileIdentity, Location
from workers.domain.targets.manifest import Manifest, in_run_of, is_same_directory
from workers.domain.targets.protected_files import ProtectedPaths
from workers.domain.trust.envelope import PayloadType
from workers.host.files import facts, lifting, paths, protected
from workers.host.files.ports import HeldFile, VaultLimits
from workers.host.files.quarantine.held_file import SystemHeldFile
from workers.host.files.quarantine.shelf import Shelf
from workers.host.files.roots import Root, open_root
from workers.system.os_errors import translated
from workers.system.ports import Clock
from workers.wire.ports import RecordSigner, RecordVerifier

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
        signer: RecordSigner,
        verifier: RecordVerifier,
        clock: Clock,
        own: Mapping[Path, str],
        held_back: int = HELD_BACK,
        kernel: Kernel = Kernel(),
    ) -> None:
        """``own`` are further trees that nobody may quarantine (journal, keys); the vault is among them anyway."""
        self._shelf = Shelf(path, limits, held_back=held_back)
        self._node_id = node_id
        self._signer = signer
        self._verifier = verifier
        self._clock = clock
        self._own = {**own, path: "is this node's quarantine"}
        self._kernel = kernel

    @property
    def limits(self) -> VaultLimits:
        """As the port says."""
        return self._shelf.limits

    def examine(self, where: Location) -> FileFacts | None:
        """As the port says."""
        with self._root(where.inside) as root:
            opened = self._parent(where, root)
            if opened is None:
                return None
            directory, name = opened
            try:
                with translated("looking at the file"), contextlib.suppress(FileNotFoundError):
                    return facts.examine(directory, name, root, allow_remote=where.allow_remote)
                return None
            finally:
                os.close(directory)

    def lift(self, where: Location, expected: FileIdentity) -> FileFacts | None:
        """As the port says."""
        with self._root(where.inside) as root:
            opened = self._parent(where, root)
            if opened is None:
                return None
            directory, name = opened
            try:
                with translated("making the file its layer's own"), contextlib.suppress(FileNotFoundError):
                    lifted = lifting.lift(directory, name, expected)
                    found = facts.examine(directory, name, root, allow_remote=where.allow_remote)
                    return found if found.identity == lifted else None
                return None
            finally:
                os.close(directory)

    def protected_paths(self) -> ProtectedPaths:
        """As the port says."""
        return protected.protected_paths(self._own)

    def check_capacity(self, size: int) -> None:
        """As the port says."""
        self._shelf.check_capacity(size)

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
            opened = self._verifier.verify(data, PayloadType.MANIFEST, Manifest)
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
            data = self._signer.sign(PayloadType.MANIFEST, manifest).value
        except MalformedMessage as error:
            raise PermanentFailure(
                f"what the file has does not fit a manifest: {error.message}", code="manifest_size"
            ) from error
        with translated("writing the manifest"):
            self._shelf.write_manifest(manifest.execution_id, data)

    def place(self, manifest: Manifest, inside: Enclosure | None) -> HeldFile | None:
        """As the port says."""
        with self._root(inside) as root:
            opened = self._parent(Location(manifest.path, inside, manifest.allow_remote), root)
            if opened is None:
                return None
            directory, _ = opened
            try:
                found = paths.identity(os.fstat(root.descriptor))
                same = is_same_directory(manifest, paths.identity(os.fstat(directory)), found)
            except OSError:
                same, found = False, manifest.root
            if not same:
                os.close(directory)
                return None
            known = in_run_of(manifest, found)
            return SystemHeldFile(directory, known, self._shelf, clock=self._clock, tmpfile=self._kernel.tmpfile)

    @contextlib.contextmanager
    def _root(self, inside: Enclosure | None) -> Iterator[Root]:
        root = open_root(inside)
        try:
            yield root
        finally:
            root.close()

    def _parent(self, where: Location, root: Root) -> tuple[int, bytes] | None:
        return paths.open_parent(where.path, root, openat2=self._kernel.openat2, allow_remote=where.allow_remote)


def _damaged(execution_id: ExecutionId, why: str) -> PermanentFailure:
    return PermanentFailure(f"the manifest of {execution_id} is not to be trusted: {why}", code="manifest_damaged")
