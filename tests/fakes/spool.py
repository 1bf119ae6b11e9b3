"""A spool in memory, over the files of a fake vault: what is put there is what can be acquired."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.fakes.vault import FakeVault
from workers.domain.errors import LimitExceeded, PermanentFailure, WorkerError
from workers.domain.ids import ExecutionId
from workers.domain.pace import Pace
from workers.domain.targets.custody import Custody
from workers.domain.targets.file import FileFacts, FileIdentity, Location
from workers.domain.targets.protected_files import ProtectedPaths
from workers.host.evidence.ports import Copy, Kept
from workers.host.evidence.sources import BytesSource
from workers.store.objects.ports import ObjectSource

MEGABYTE = 1 << 20


@dataclass(slots=True)
class FakeSpool:
    """The port `Spool`."""

    disk: FakeVault = field(default_factory=FakeVault)
    largest: int = 50 * MEGABYTE
    own: ProtectedPaths = field(default_factory=ProtectedPaths)
    secret: ProtectedPaths = field(default_factory=ProtectedPaths)
    copies: dict[ExecutionId, bytes] = field(default_factory=dict)
    sealed: dict[ExecutionId, Custody] = field(default_factory=dict)
    done: set[ExecutionId] = field(default_factory=set)
    fail: dict[str, list[WorkerError]] = field(default_factory=dict)
    reads: int = 0
    """How often a file was read."""
    during: Callable[[], None] = lambda: None
    """Called while a file is read: another process acts."""

    def examine(self, where: Location) -> FileFacts | None:
        return self.disk.examine(where)

    def own_paths(self) -> ProtectedPaths:
        return self.own

    def secret_paths(self) -> ProtectedPaths:
        return self.secret

    def check_capacity(self, size: int) -> None:
        self._step("check_capacity")

    def copy(self, execution_id: ExecutionId, where: Location, expected: FileIdentity, *, pace: Pace) -> Copy | None:
        self._step("copy")
        facts, path = self.disk.examine(where), self.disk.key(where)
        if facts is None or facts.identity != expected:
            return None
        self.discard(execution_id)
        self.reads += 1
        before = self.disk.files[path].content
        if len(before) > self.largest:
            raise LimitExceeded(code="too_large")
        self.during()
        self.copies[execution_id] = before
        found = self.disk.files.get(path)
        steady = found is not None and found.content == before
        return Copy(len(before), hashlib.sha256(before).hexdigest(), facts, steady)

    def keep(self, execution_id: ExecutionId, pieces: Iterable[bytes], *, pace: Pace) -> Kept:
        self._step("keep")
        self.discard(execution_id)
        self.reads += 1
        kept, whole = b"", True
        for piece in pieces:
            if len(kept) + len(piece) > self.largest:
                whole = False
                break
            kept += piece
        self.copies[execution_id] = kept
        return Kept(len(kept), hashlib.sha256(kept).hexdigest(), whole)

    def seal(self, custody: Custody) -> None:
        self._step("seal")
        self.sealed[custody.execution_id] = custody

    def custody(self, execution_id: ExecutionId) -> Custody | None:
        self._step("custody")
        return self.sealed.get(execution_id)

    def object(self, execution_id: ExecutionId) -> ObjectSource:
        if execution_id not in self.sealed or execution_id not in self.copies:
            raise PermanentFailure(code="spool_lost")
        return BytesSource(self.copies[execution_id], self.sealed[execution_id].sha256)

    def custody_object(self, execution_id: ExecutionId) -> ObjectSource:
        data = repr(self.sealed[execution_id]).encode()
        return BytesSource(data, hashlib.sha256(data).hexdigest())

    def release(self, execution_id: ExecutionId) -> None:
        self._step("release")
        self.copies.pop(execution_id, None)
        self.done.add(execution_id)

    def delivered(self, execution_id: ExecutionId) -> bool:
        return execution_id in self.done

    def discard(self, execution_id: ExecutionId) -> None:
        self._step("discard")
        self.copies.pop(execution_id, None)
        self.sealed.pop(execution_id, None)
        self.done.discard(execution_id)

    def kept(self) -> Sequence[ExecutionId]:
        return sorted({*self.copies, *self.sealed})

    def _step(self, name: str) -> None:
        if self.fail.get(name):
            raise self.fail[name].pop(0)
