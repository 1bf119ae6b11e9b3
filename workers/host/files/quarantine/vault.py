"""The port ``Vault``: opens it, examines files, keeps manifests, and opens the handles of both ways.

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
from workers.domain.targets.manifest import Manifest, ManifestState, in_run_of, is_same_directory
from workers.domain.targets.protected_files import ProtectedPaths
from workers.domain.trust.envelope import PayloadType
from workers.host.files import facts, paths, protected
from workers.host.files.own_files import OwnFiles
from workers.host.files.ports import Stored, VaultLimits
from workers.host.files.quarantine.quarantine_handle import SystemQuarantineHandle
from workers.host.files.quarantine.restore_handle import SystemRestoreHandle
from workers.host.files.quarantine.vault_directory import VaultDirectory
from workers.host.files.roots import Root, open_root
from workers.system.os_errors import translated
from workers.system.ports import Clock
from workers.wire.ports import RecordSigner, RecordVerifier

HELD_BACK: Final = 256 * 1024
"""Bytes of disk kept for manifests: some thirty of them."""


_WITH_OBJECT: Final = frozenset({ManifestState.STORED, ManifestState.DONE, ManifestState.RESTORING})


@dataclass(frozen=True, slots=True)
class KernelFeatures:
    """What the kernel and the filesystems offer; False forces the way that works without it."""

    openat2: bool = True
    tmpfile: bool = True


@dataclass(frozen=True, slots=True)
class _Opened:
    """The directory that a path leads to, below the root that the path begins at."""

    root: Root
    parent: int
    name: bytes


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
        kernel: KernelFeatures = KernelFeatures(),
    ) -> None:
        """``own`` are further trees that may not be quarantined (journal, keys); the vault is among them anyway."""
        self._directory = VaultDirectory(path, limits, held_back=held_back)
        self._node_id = node_id
        self._signer = signer
        self._verifier = verifier
        self._clock = clock
        self._own = OwnFiles({**own, path: "is this node's quarantine"})
        self._kernel = kernel

    @property
    def limits(self) -> VaultLimits:
        return self._directory.limits

    @translated("examining the file")
    def examine(self, where: Location) -> FileFacts | None:
        with self._opened(where) as opened:
            if opened is None:
                return None
            with contextlib.suppress(FileNotFoundError):
                return facts.examine(opened.parent, opened.name, opened.root, allow_remote=where.allow_remote)
            return None

    @translated("copying the file up into its own layer")
    def copy_up(self, where: Location, expected: FileIdentity) -> FileFacts | None:
        with self._opened(where) as opened:
            if opened is None:
                return None
            with contextlib.suppress(FileNotFoundError):
                kept = facts.copy_up(opened.parent, opened.name, expected)
                found = facts.examine(opened.parent, opened.name, opened.root, allow_remote=where.allow_remote)
                return found if found.identity == kept else None
            return None

    def protected_paths(self) -> ProtectedPaths:
        return protected.protected_paths(self._own)

    def check_capacity(self, size: int) -> None:
        self._directory.check_capacity(size)

    def parking_name(self) -> bytes:
        return b".douse-" + os.urandom(8).hex().encode()

    def object_path(self, execution_id: ExecutionId) -> str:
        return str(self._directory.path / execution_id)

    @translated("looking into the vault")
    def missing(self, execution_id: ExecutionId) -> str:
        return self._directory.missing(execution_id)

    @translated("listing the vault")
    def contents(self) -> list[Stored]:
        return self._directory.contents()

    def manifest(self, execution_id: ExecutionId) -> Manifest | None:
        with translated("reading the manifest"):
            data = self._directory.read_manifest(execution_id)
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

    def damaged(self) -> Iterator[tuple[ExecutionId, str]]:
        with translated("checking the vault"):
            executions = self._directory.executions()
        for execution_id in executions:
            try:
                manifest = self.manifest(execution_id)
                if manifest is None:
                    yield execution_id, "its manifest is missing"
                elif manifest.state in _WITH_OBJECT:
                    with translated("checking an object"):
                        self._directory.check_object(manifest)
            except PermanentFailure as failure:
                yield execution_id, failure.message

    def record(self, manifest: Manifest) -> None:
        try:
            data = self._signer.sign(PayloadType.MANIFEST, manifest).value
        except MalformedMessage as error:
            raise PermanentFailure(
                f"what the file has does not fit a manifest: {error.message}", code="manifest_size"
            ) from error
        with translated("writing the manifest"):
            self._directory.write_manifest(manifest.execution_id, data)

    def hold_for_quarantine(self, manifest: Manifest, inside: Enclosure | None) -> SystemQuarantineHandle | None:
        held = self._hold(manifest, inside)
        return SystemQuarantineHandle(*held, self._directory, clock=self._clock) if held is not None else None

    def hold_for_restore(self, manifest: Manifest, inside: Enclosure | None) -> SystemRestoreHandle | None:
        held = self._hold(manifest, inside)
        if held is None:
            return None
        return SystemRestoreHandle(*held, self._directory, clock=self._clock, tmpfile=self._kernel.tmpfile)

    def _hold(self, manifest: Manifest, inside: Enclosure | None) -> tuple[int, Manifest] | None:
        """The directory that the manifest names, and the manifest as it reads in this run of its container."""
        with self._opened(Location(manifest.path, inside, manifest.allow_remote)) as opened:
            if opened is None:
                return None
            try:
                root = paths.identity(os.fstat(opened.root.descriptor))
                same = is_same_directory(manifest, paths.identity(os.fstat(opened.parent)), root)
            except OSError:
                return None
            if not same:
                return None
            with translated("opening the directory of the file"):
                return os.dup(opened.parent), in_run_of(manifest, root)

    @contextlib.contextmanager
    def _opened(self, where: Location) -> Iterator[_Opened | None]:
        root = open_root(where.inside)
        try:
            found = paths.open_parent(where.path, root, openat2=self._kernel.openat2, allow_remote=where.allow_remote)
            if found is None:
                yield None
                return
            parent, name = found
            try:
                yield _Opened(root, parent, name)
            finally:
                os.close(parent)
        finally:
            root.close()


def _damaged(execution_id: ExecutionId, why: str) -> PermanentFailure:
    return PermanentFailure(f"the manifest of {execution_id} cannot be trusted: {why}", code="manifest_damaged")
