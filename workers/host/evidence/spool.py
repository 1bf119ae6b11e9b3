"""The port ``Spool``: examines files, copies them into a private directory, seals what is complete, drops what arrived.

Made by wiring, called by the gathering actions from any lane thread, and by the node's janitor. A copy is complete
when its signed custody record is there, and not before: a crash in between leaves bytes that the next try replaces.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

from workers.domain.errors import LimitExceeded, MalformedMessage, PermanentFailure, TransientFailure
from workers.domain.ids import ExecutionId, NodeId, is_execution_id
from workers.domain.pace import Pace
from workers.domain.targets.custody import CUSTODY, Custody
from workers.domain.targets.file import FileFacts, FileIdentity, Location
from workers.domain.targets.protected_files import ProtectedPaths
from workers.domain.targets.secret_files import SECRET_FILES, SECRET_TREES
from workers.domain.trust.envelope import MAX_ENVELOPE_BYTES, PayloadType
from workers.host.evidence.copier import write_stream
from workers.host.evidence.file_reader import DirectFileReader, FileReader
from workers.host.evidence.ports import Copy, Kept
from workers.host.evidence.sources import BytesSource, FileSource
from workers.host.files import protected
from workers.host.files.own_files import OwnFiles
from workers.store.objects.ports import ObjectSource
from workers.system.os_errors import translated
from workers.system.private_directory import open_private
from workers.wire.ports import RecordSigner, RecordVerifier

T = TypeVar("T")

_DATA: Final = ".data"
_TEMPORARY: Final = ".custody.tmp"
_DELIVERED: Final = ".delivered"
_KINDS: Final = (_TEMPORARY, CUSTODY, _DELIVERED, _DATA)
"""Of one execution's files; the custody record is removed before its data."""


class SystemSpool:
    """See ``ports.Spool``."""

    def __init__(
        self,
        path: Path,
        *,
        largest: int,
        reserve: int,
        node_id: NodeId,
        signer: RecordSigner,
        verifier: RecordVerifier,
        own: Mapping[Path, str],
        reader: FileReader | None = None,
    ) -> None:
        """``reserve`` bytes stay free beside every copy; ``own`` are the trees that may not be gathered, the spool
        among them anyway. Without a ``reader``, files are read in the calling thread."""
        self._path = path
        self._largest = largest
        self._reserve = reserve
        self._node_id = node_id
        self._signer = signer
        self._verifier = verifier
        self._reader = reader or DirectFileReader()
        self._own = OwnFiles({**own, path: "holds what this node gathers"})
        self._lock = Lock()
        self._opened = -1

    @property
    def largest(self) -> int:
        return self._largest

    def examine(self, where: Location) -> FileFacts | None:
        return self._reader.examine(where)

    def own_paths(self) -> ProtectedPaths:
        return self._own.secrets()

    def secret_paths(self) -> ProtectedPaths:
        return protected.resolved(SECRET_FILES, SECRET_TREES)

    def check_capacity(self, size: int) -> None:
        with translated("checking the spool"):
            found = os.fstatvfs(self._directory)
        free = found.f_bavail * found.f_frsize
        if free < size + self._reserve:
            raise LimitExceeded(
                f"the spool's filesystem has {free} bytes left; {size} for the copy and {self._reserve} in reserve "
                "(file_acquire.reserve_mb) are needed",
                code="failed_enospc",
            )

    def copy(self, execution_id: ExecutionId, where: Location, expected: FileIdentity, *, pace: Pace) -> Copy | None:

        def filled(target: int) -> Copy | None:
            return self._reader.copy(where, expected, target, limit=self._largest, pace=pace)

        with translated("writing the copy"):
            return self._filled(execution_id, filled)

    def keep(self, execution_id: ExecutionId, pieces: Iterable[bytes], *, pace: Pace) -> Kept:

        def filled(target: int) -> Kept:
            return write_stream(
                target,
                pieces,
                limit=self._largest,
                pace=pace,
                check_capacity=self.check_capacity,
            )

        with translated("writing to the spool"):
            kept = self._filled(execution_id, filled)
        assert kept is not None
        return kept

    def seal(self, custody: Custody) -> None:
        value = self._signer.sign(PayloadType.CUSTODY, custody).value
        with translated("writing the custody record"):
            temporary = _named(custody.execution_id, _TEMPORARY)
            self._unlink(temporary)
            descriptor = self._create(temporary)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(descriptor)
            name = _named(custody.execution_id, CUSTODY)
            os.rename(temporary, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            os.fsync(self._directory)

    def custody(self, execution_id: ExecutionId) -> Custody | None:
        data = self._custody_bytes(execution_id)
        if data is None:
            return None
        try:
            opened = self._verifier.verify(data, PayloadType.CUSTODY, Custody)
        except MalformedMessage as error:
            if error.reason == "keyset_expired":
                raise TransientFailure(error.message, code=error.reason) from error
            raise _damaged(execution_id, error.message) from error
        if not opened.signatory.is_node(self._node_id) or opened.record.execution_id != execution_id:
            raise _damaged(execution_id, f"it is one of {opened.signatory.owner}, for {opened.record.execution_id}")
        return opened.record

    def object(self, execution_id: ExecutionId) -> ObjectSource:
        known = self.custody(execution_id)
        if known is None:
            raise _lost(execution_id)
        with translated("opening the copy"):
            try:
                descriptor = self._open(_named(execution_id, _DATA))
            except FileNotFoundError:
                raise _lost(execution_id) from None
        return FileSource(descriptor, known.size, known.sha256)

    def custody_object(self, execution_id: ExecutionId) -> ObjectSource:
        data = self._custody_bytes(execution_id)
        if data is None:
            raise _lost(execution_id)
        return BytesSource(data, hashlib.sha256(data).hexdigest())

    def release(self, execution_id: ExecutionId) -> None:
        with translated("clearing the spool"):
            sealed, delivered = _named(execution_id, CUSTODY), _named(execution_id, _DELIVERED)
            os.rename(sealed, delivered, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            os.fsync(self._directory)
            self._unlink(_named(execution_id, _DATA))

    def delivered(self, execution_id: ExecutionId) -> bool:
        with translated("checking the spool"):
            try:
                os.stat(_named(execution_id, _DELIVERED), dir_fd=self._directory, follow_symlinks=False)
            except FileNotFoundError:
                return False
        return True

    def discard(self, execution_id: ExecutionId) -> None:
        with translated("clearing the spool"):
            for kind in _KINDS:
                self._unlink(_named(execution_id, kind))
            os.fsync(self._directory)

    def kept(self) -> Sequence[ExecutionId]:
        with translated("checking the spool"):
            names = {name.partition(".")[0] for name in os.listdir(self._directory)}  # noqa: PTH208
        return sorted(ExecutionId(name) for name in names if is_execution_id(name))

    @property
    def _directory(self) -> int:
        """Opened at its first use, so that a node that gathers nothing needs no spool."""
        with self._lock:
            if self._opened < 0:
                self._opened = open_private(self._path, code="spool_unusable")
            return self._opened

    def _filled(self, execution_id: ExecutionId, fill: Callable[[int], T | None]) -> T | None:
        """A new copy in place of any earlier one, durable; None, and no copy, where ``fill`` has nothing."""
        self.discard(execution_id)
        name, done = _named(execution_id, _DATA), None
        try:
            target = self._create(name)
            try:
                done = fill(target)
                if done is not None:
                    os.fsync(target)
                    os.fsync(self._directory)
            finally:
                os.close(target)
        finally:
            if done is None:
                with contextlib.suppress(OSError):  # an empty file; the janitor removes what stays
                    self._unlink(name)
        return done

    def _custody_bytes(self, execution_id: ExecutionId) -> bytes | None:
        with translated("reading the custody record"):
            for kind in (CUSTODY, _DELIVERED):
                with (
                    contextlib.suppress(FileNotFoundError),
                    os.fdopen(self._open(_named(execution_id, kind)), "rb") as file,
                ):
                    return file.read(MAX_ENVELOPE_BYTES + 1)
        return None

    def _create(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._directory)

    def _open(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)


def _named(execution_id: ExecutionId, kind: str) -> str:
    if not is_execution_id(execution_id):
        raise ValueError(f"{execution_id!r} is not an execution id")  # it would be a path
    return f"{execution_id}{kind}"


def _damaged(execution_id: ExecutionId, why: str) -> PermanentFailure:
    return PermanentFailure(f"the custody record of {execution_id} cannot be trusted: {why}", code="custody_damaged")


def _lost(execution_id: ExecutionId) -> PermanentFailure:
    return PermanentFailure(f"the spool holds no complete copy for {execution_id}", code="spool_lost")
