"""The manifest: all facts about one quarantined file, and how far it is on its way into the vault or back.

Written and read by the actions on files through the port ``Vault``, signed by the node's key so that the path to which
a file is restored cannot be changed. One manifest for each quarantine, replaced whole at each step. Pure values.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.targets.file import NO_FILE, Enclosure, Extent, FileAttribute, FileFacts, FileIdentity, Location


class ManifestState(StrEnum):
    """What is durable. A crash leaves one of these, and each determines how to go on."""

    INTENT = "intent"
    """The file has its name; an empty parking directory may be there, or the file in it already."""
    PARKED = "parked"
    """The file is in its parking directory, out of reach of other users."""
    STORED = "stored"
    """A verified object is in the vault; the parked file may be there still."""
    DONE = "done"
    """The object only."""
    RETURNED = "returned"
    """Given up before anything was stored: the file has its name again. ``reason`` has the cause."""
    RESTORING = "restoring"
    """On its way back; the object is there."""
    RESTORED = "restored"
    """The file has its name again, with its content and everything it had."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One quarantine. Times are nanoseconds since the epoch, sizes bytes."""

    execution_id: ExecutionId
    state: ManifestState
    path: bytes
    parking: bytes
    """Name of the parking directory, beside the file. Random, so that it cannot be created in advance."""
    parent: FileIdentity
    file: FileIdentity
    size: int
    mode: int
    uid: int
    gid: int
    links: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    flags: int
    attributes: tuple[FileAttribute, ...]
    begun_at_ns: int
    clear_flags: bool = False
    """Whether immutable or append-only may be cleared to take the name away."""
    disarm: bool = False
    """Whether execute permission is taken from the inode, because it has further names."""
    sha256: str = ""
    """Over the logical bytes, holes as zeros; hex. Empty until stored."""
    object_sha256: str = ""
    """Over the object's own bytes, hex."""
    object_size: int = 0
    extents: tuple[Extent, ...] = ()
    content_changed: bool = False
    reason: str = ""
    """Why it was returned."""
    restored_by: ExecutionId = NO_EXECUTION
    allow_remote: bool = False
    """Whether it may be searched on filesystems that need not answer."""
    container_id: str = ""
    """The container whose path it is; empty for the host's."""
    runtime: str = ""
    """The socket of the runtime that has the container."""
    run_started_at_ns: int = 0
    """The run that it was taken from, and that run's init."""
    run_pid: int = 0
    root: FileIdentity = NO_FILE
    """The root that the path began at."""
    approval_class: str = "auto"
    """Of the command that took it; bringing a setuid or capability file back needs no less."""

    @property
    def enclosure(self) -> Enclosure | None:
        """The run that it was taken from."""
        return Enclosure(self.container_id, self.run_started_at_ns, self.run_pid) if self.container_id else None

    @property
    def name(self) -> bytes:
        """The file's own name."""
        return self.path.rpartition(b"/")[2]


def is_same_directory(manifest: Manifest, parent: FileIdentity, root: FileIdentity) -> bool:
    """Whether ``parent``, found under the path below ``root``, is the directory that the file was taken from.

    A container's root is mounted anew for each of its runs and may get another device number; its inodes stay. So
    there a device counts by whether it is the root's own.
    """
    if not manifest.container_id:
        return parent == manifest.parent
    if root.inode != manifest.root.inode:
        return False
    if manifest.parent.device != manifest.root.device:  # a volume: its number does not hang on the run
        return parent == manifest.parent
    return parent == FileIdentity(root.device, manifest.parent.inode)


def in_run_of(manifest: Manifest, root: FileIdentity) -> Manifest:
    """The same, with the device numbers that files have in the container's run with this root."""
    if not manifest.container_id or root.device == manifest.root.device:
        return manifest

    def now(known: FileIdentity) -> FileIdentity:
        return FileIdentity(root.device, known.inode) if known.device == manifest.root.device else known

    return replace(manifest, parent=now(manifest.parent), file=now(manifest.file), root=root)


def intent(
    execution_id: ExecutionId,
    facts: FileFacts,
    where: Location,
    *,
    runtime: str = "",
    parking: bytes,
    now_ns: int,
    clear_flags: bool,
    approval_class: str,
) -> Manifest:
    """The first manifest of a quarantine: everything that has to come back."""
    run = where.inside
    return Manifest(
        execution_id=execution_id,
        state=ManifestState.INTENT,
        path=where.path,
        parking=parking,
        parent=facts.parent,
        file=facts.identity,
        size=facts.size,
        mode=facts.mode,
        uid=facts.uid,
        gid=facts.gid,
        links=facts.links,
        atime_ns=facts.atime_ns,
        mtime_ns=facts.mtime_ns,
        ctime_ns=facts.ctime_ns,
        flags=facts.flags,
        attributes=facts.attributes,
        begun_at_ns=now_ns,
        clear_flags=clear_flags,
        disarm=facts.links > 1,
        allow_remote=where.allow_remote,
        container_id=run.container_id if run is not None else "",
        runtime=runtime,
        run_started_at_ns=run.started_at_ns if run is not None else 0,
        run_pid=run.pid if run is not None else 0,
        root=facts.root,
        approval_class=approval_class,
    )
