"""Files and a vault in memory, with the port's own rules; single steps can be made to fail by name.

`files` maps a path to what lies there; `fail["copy"] = [error, …]` makes the next calls of that step raise in turn.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from workers.domain.errors import CommandRejected, LimitExceeded, PermanentFailure
from workers.domain.ids import ExecutionId
from workers.domain.targets.file import (
    Enclosure,
    Extent,
    FileAttribute,
    FileFacts,
    FileIdentity,
    FileKind,
    Holders,
    Location,
)
from workers.domain.targets.manifest import Manifest, is_same_directory
from workers.domain.targets.protected_files import ProtectedPaths
from workers.host.files.ports import Copied, Occupant, Stored, VaultLimits, Whereabouts

DEVICE = 1
ROOT = FileIdentity(DEVICE, 2)
MEGABYTE = 1 << 20


@dataclass(slots=True)
class FakeFile:
    """One file; change anything at will."""

    inode: int
    content: bytes = b""
    kind: FileKind = FileKind.REGULAR
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    links: int = 1
    atime_ns: int = 1
    mtime_ns: int = 2
    ctime_ns: int = 3
    flags: int = 0
    attributes: tuple[FileAttribute, ...] = ()
    filesystem: str = "ext4"
    read_only: bool = False
    mount_point: bool = False
    size: int = -1

    @property
    def identity(self) -> FileIdentity:
        return FileIdentity(DEVICE, self.inode)


@dataclass(slots=True)
class FakeVault:
    """The port `Vault`."""

    limits: VaultLimits = field(default_factory=lambda: VaultLimits(50 * MEGABYTE, 100 * MEGABYTE, 0))
    files: dict[bytes, FakeFile] = field(default_factory=dict)
    parked: dict[bytes, FakeFile] = field(default_factory=dict)
    """By the name of the parking directory."""
    objects: dict[ExecutionId, bytes] = field(default_factory=dict)
    parts: dict[ExecutionId, bytes] = field(default_factory=dict)
    manifests: dict[ExecutionId, Manifest] = field(default_factory=dict)
    protected: ProtectedPaths = field(default_factory=ProtectedPaths)
    parents: dict[bytes, FileIdentity] = field(default_factory=dict)
    """Directories that are not the usual one."""
    fail: dict[str, list[Exception]] = field(default_factory=dict)
    watchers: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Called once, right before the step of that name: another process acts."""
    holding: Holders = field(default_factory=Holders)
    gone: set[int] = field(default_factory=set)
    """Inits of containers that have ended."""
    inodes: Any = field(default_factory=lambda: itertools.count(100))

    @property
    def effects(self) -> int:
        """How often something was taken."""
        return len(self.manifests)

    def put(self, path: bytes, content: bytes = b"content", *, container_id: str = "", **more: Any) -> FakeFile:
        """A new file, of the host or of a container."""
        made = FakeFile(next(self.inodes), content, **more)
        self.files[container_id.encode() + path] = made
        return made

    def key(self, where: Location) -> bytes:
        """Under which a file is kept here: no two roots have a path in common."""
        if where.inside is None:
            return where.path
        if where.inside.pid in self.gone:
            raise CommandRejected("its run has ended", code="container_gone")
        return where.inside.container_id.encode() + where.path

    def step(self, name: str) -> None:
        """Another process acts, or the step fails, where a test asked for it."""
        watcher = self.watchers.pop(name, None)
        if watcher is not None:
            watcher()
        if self.fail.get(name):
            raise self.fail[name].pop(0)

    def damaged(self) -> Iterator[tuple[ExecutionId, str]]:
        self.step("damaged")
        for execution_id in sorted(self.objects.keys() - self.manifests.keys()):
            yield execution_id, "its manifest is missing"

    def parent_of(self, path: bytes) -> FileIdentity:
        return self.parents.get(path.rpartition(b"/")[0], ROOT)

    def examine(self, where: Location) -> FileFacts | None:
        self.step("examine")
        path = self.key(where)
        found = self.files.get(path)
        if found is None:
            return None
        return FileFacts(
            kind=found.kind,
            identity=found.identity,
            parent=self.parent_of(path),
            ancestors=(self.parent_of(path), ROOT),
            size=len(found.content) if found.size < 0 else found.size,
            mode=found.mode,
            uid=found.uid,
            gid=found.gid,
            links=found.links,
            atime_ns=found.atime_ns,
            mtime_ns=found.mtime_ns,
            ctime_ns=found.ctime_ns,
            flags=found.flags,
            attributes=found.attributes,
            filesystem=found.filesystem,
            read_only=found.read_only,
            mount_point=found.mount_point,
            root=ROOT,
        )

    def copy_up(self, where: Location, expected: FileIdentity) -> FileFacts | None:
        self.step("copy_up")
        found = self.files.get(self.key(where))
        if found is None or found.identity != expected:
            return None
        found.inode = next(self.inodes)  # the worst that a copy-up does
        found.ctime_ns += 1
        return self.examine(where)

    def protected_paths(self) -> ProtectedPaths:
        return self.protected

    def check_capacity(self, size: int) -> None:
        self.step("check_capacity")
        if sum(map(len, self.objects.values())) + size > self.limits.quota:
            raise LimitExceeded(code="refused_quota")

    def parking_name(self) -> bytes:
        return b".douse-%d" % next(self.inodes)

    def object_path(self, execution_id: ExecutionId) -> str:
        return f"/vault/{execution_id}"

    def missing(self, execution_id: ExecutionId) -> str:
        if execution_id not in self.objects:
            return self.object_path(execution_id)
        return "" if execution_id in self.manifests else f"{self.object_path(execution_id)}.manifest"

    def contents(self) -> list[Stored]:
        self.step("contents")
        names = {*self.manifests, *self.objects, *self.parts}
        return [Stored(each, each in self.parts, each in self.objects) for each in sorted(names)]

    def manifest(self, execution_id: ExecutionId) -> Manifest | None:
        self.step("manifest")
        return self.manifests.get(execution_id)

    def record(self, manifest: Manifest) -> None:
        self.step("record")
        self.step(f"record {manifest.state}")
        self.manifests[manifest.execution_id] = manifest

    def hold_for_quarantine(self, manifest: Manifest, inside: Enclosure | None) -> FakeQuarantineHandle | None:
        key = self._held(manifest, inside)
        return FakeQuarantineHandle(self, manifest, key) if key is not None else None

    def hold_for_restore(self, manifest: Manifest, inside: Enclosure | None) -> FakeRestoreHandle | None:
        key = self._held(manifest, inside)
        return FakeRestoreHandle(self, manifest, key) if key is not None else None

    def _held(self, manifest: Manifest, inside: Enclosure | None) -> bytes | None:
        self.step("hold")
        key = self.key(Location(manifest.path, inside))
        return key if is_same_directory(manifest, self.parent_of(key), ROOT) else None


class FakeQuarantineHandle:
    """The port `QuarantineHandle`."""

    def __init__(self, vault: FakeVault, manifest: Manifest, key: bytes) -> None:
        self._vault = vault
        self._manifest = manifest
        self._key = key
        self._before: tuple[bytes, int] = (b"", 0)

    def where(self) -> Whereabouts:
        parked = self._vault.parked.get(self._manifest.parking)
        if parked is not None and parked.identity == self._manifest.file:
            return Whereabouts.PARKED
        named = self._vault.files.get(self._key)
        here = named is not None and named.identity == self._manifest.file
        return Whereabouts.NAMED if here else Whereabouts.GONE

    def park(self) -> bool:
        self._vault.step("park")
        if self.where() is Whereabouts.PARKED:
            return True
        if self.where() is Whereabouts.GONE:
            return False
        file = self._vault.files.pop(self._key)
        if self._manifest.disarm:
            file.mode &= ~0o111
        self._vault.parked[self._manifest.parking] = file
        return True

    def unpark(self) -> bool:
        self._vault.step("unpark")
        if self.where() is Whereabouts.PARKED:
            if self._key in self._vault.files:
                return False
            file = self._vault.parked.pop(self._manifest.parking)
            file.mode = self._manifest.mode
            self._vault.files[self._key] = file
        return True

    def copy(self, *, limit: int, deadline_ns: int) -> Copied:
        self._vault.step("copy")
        file = self._vault.parked[self._manifest.parking]
        self._before = (file.content, file.mtime_ns)
        if len(file.content) > limit:
            raise LimitExceeded(code="too_large")
        content = file.content
        self._vault.parts[self._manifest.execution_id] = content
        self._vault.step("copied")
        digest = hashlib.sha256(content).hexdigest()
        extents = (Extent(0, len(content)),) if content else ()
        steady = self._before == (file.content, file.mtime_ns)
        return Copied(len(content), digest, len(content), digest, extents, steady)

    def verify(self, copied: Manifest, *, deadline_ns: int) -> None:
        self._vault.step("verify")
        key = copied.execution_id
        found = self._vault.objects.get(key, self._vault.parts.get(key))
        if found is None or hashlib.sha256(found).hexdigest() != copied.sha256:
            raise PermanentFailure(code="object_damaged")

    def unchanged(self) -> bool:
        file = self._vault.parked[self._manifest.parking]
        return self._before == (file.content, file.mtime_ns)

    def store(self) -> None:
        self._vault.step("store")
        self._vault.objects[self._manifest.execution_id] = self._vault.parts.pop(self._manifest.execution_id)

    def discard(self) -> None:
        self._vault.step("discard")
        self._vault.parts.pop(self._manifest.execution_id, None)
        self._vault.objects.pop(self._manifest.execution_id, None)

    def holders(self, *, deadline_ns: int) -> Holders:
        return self._vault.holding

    def remove(self) -> None:
        self._vault.step("remove")
        self._vault.parked.pop(self._manifest.parking, None)

    def close(self) -> None:
        """Nothing is held."""


class FakeRestoreHandle:
    """The port `RestoreHandle`."""

    def __init__(self, vault: FakeVault, manifest: Manifest, key: bytes) -> None:
        self._vault = vault
        self._manifest = manifest
        self._key = key
        self._new: FakeFile | None = None

    def occupant(self, *, deadline_ns: int) -> Occupant:
        self._vault.step("occupant")
        found = self._vault.files.get(self._key)
        if found is None:
            return Occupant.NONE
        same = hashlib.sha256(found.content).hexdigest() == self._manifest.sha256
        return Occupant.RESTORED if same and found.mtime_ns == self._manifest.mtime_ns else Occupant.OTHER

    def write(self, *, deadline_ns: int) -> None:
        self._vault.step("write")
        content = self._vault.objects[self._manifest.execution_id]
        if hashlib.sha256(content).hexdigest() != self._manifest.sha256:
            raise PermanentFailure(code="object_damaged")
        self._new = FakeFile(next(self._vault.inodes), content)

    def set_metadata(self) -> None:
        self._vault.step("set_metadata")
        assert self._new is not None
        known = self._manifest
        self._new = replace(
            self._new,
            mode=known.mode,
            uid=known.uid,
            gid=known.gid,
            atime_ns=known.atime_ns,
            mtime_ns=known.mtime_ns,
            attributes=known.attributes,
        )

    def sync(self) -> None:
        self._vault.step("sync")

    def link(self) -> bool:
        self._vault.step("link")
        assert self._new is not None
        if self._key in self._vault.files:
            return False
        self._vault.files[self._key] = self._new
        return True

    def set_flags(self) -> None:
        self._vault.step("set_flags")
        self._vault.files[self._key].flags = self._manifest.flags

    def close(self) -> None:
        """Nothing is held."""
