"""The seam to files that are quarantined and restored.

A path is a name that any user may repoint, so the directory is opened once and held. ``Vault`` examines files, keeps
manifests, and opens a handle on that directory: a ``QuarantineHandle`` has the steps of a quarantine (Q1 to Q5) as its
methods, a ``RestoreHandle`` those of a return (R1 to R6). Each step may be called again after a crash in it.

Handles: one thread at a time. All of their methods block on the disk, and raise ``PermanentFailure`` (``permission``,
``refused_readonly``, ``io_error`` …), ``LimitExceeded`` (``failed_enospc``), ``TransientFailure`` (``busy``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from workers.domain.ids import ExecutionId
from workers.domain.targets.file import Enclosure, Extent, FileFacts, FileIdentity, Holders, Location
from workers.domain.targets.manifest import Manifest
from workers.domain.targets.protected_files import ProtectedPaths


class Whereabouts(Enum):
    """Where a quarantined file is, found by its identity."""

    NAMED = auto()
    """Under its own name."""
    PARKED = auto()
    """In its parking directory."""
    GONE = auto()
    """Neither."""


class Occupant(Enum):
    """What has the name that a file is to have again."""

    NONE = auto()
    """Nothing: it is free."""
    RESTORED = auto()
    """The content that is to come back: it is back already."""
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Copied:
    """What went into the vault. Digests are hex, sizes bytes."""

    size: int
    sha256: str
    object_size: int
    object_sha256: str
    extents: tuple[Extent, ...]
    steady: bool
    """Whether the file looked the same before and after it was read."""


@dataclass(frozen=True, slots=True)
class VaultLimits:
    """What this node sets. In bytes."""

    max_file: int
    quota: int
    """Of all objects together."""
    reserve: int
    """What must stay free on the vault's filesystem."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the vault has under the name of one execution, besides a manifest."""

    execution_id: ExecutionId
    part: bool = False
    """A copy that was begun."""
    object: bool = False


class QuarantineHandle(Protocol):
    """The directory that a file is taken from, held: whatever becomes of its path, this stays that directory."""

    def where(self) -> Whereabouts:
        """Where the file is now."""

    def park(self) -> bool:
        """Q1: move it into a root-only directory beside it, both directories durable. False when another file had the
        name; that one gets its name back. Raises ``PermanentFailure`` (``parking_taken``, ``left_parked``)."""

    def unpark(self) -> bool:
        """Give its name back, with the permissions and flags it had. False when the name is taken: it stays parked."""

    def copy(self, *, limit: int, deadline_ns: int) -> Copied:
        """Q2: copy its content into a new part in the vault, durable. Raises ``LimitExceeded`` (``too_large`` at the
        first byte beyond ``limit``, ``timed_out``, ``refused_quota``)."""

    def verify(self, copied: Manifest, *, deadline_ns: int) -> None:
        """Q3 and after a crash: read part or object back and compare it with the manifest ``copied``. Raises
        ``PermanentFailure`` (``object_damaged``), ``LimitExceeded`` (``timed_out``)."""

    def unchanged(self) -> bool:
        """Whether the parked file looks as it did when the last ``copy`` began."""

    def store(self) -> None:
        """Q4: the part is the object from now on, durably."""

    def discard(self) -> None:
        """Remove part and object."""

    def holders(self, *, deadline_ns: int) -> Holders:
        """Which processes have the parked file open or mapped, as far as they could be read in time."""

    def remove(self) -> None:
        """Q5: unlink the parked file (never another), remove its directory, durably."""

    def close(self) -> None:
        """Idempotent."""


class RestoreHandle(Protocol):
    """The directory that a file comes back to, held, and the new file until it is complete."""

    def occupant(self, *, deadline_ns: int) -> Occupant:
        """What has the name. Raises ``LimitExceeded`` (``timed_out``)."""

    def write(self, *, deadline_ns: int) -> None:
        """R1 and R2: a new file without the name, its content read from the object and compared. Raises
        ``PermanentFailure`` (``object_damaged``), ``LimitExceeded`` (``timed_out``)."""

    def set_metadata(self) -> None:
        """R3: owner, mode, attributes, access control lists, times, in the order in which none undoes another. Raises
        ``PermanentFailure`` (``metadata_refused``) where the filesystem, or the worker's rights, do not allow all."""

    def sync(self) -> None:
        """R4: the new file is durable."""

    def link(self) -> bool:
        """R5: give it the name; False when that is taken, and nothing is overwritten."""

    def set_flags(self) -> None:
        """R6: inode flags, then the directory is durable."""

    def close(self) -> None:
        """A new file that never got the name vanishes. Idempotent."""


class Vault(Protocol):
    """This node's quarantine, and the way of files into it and back. Any thread; blocks on disks."""

    @property
    def limits(self) -> VaultLimits:
        """What this node allows."""

    def examine(self, where: Location) -> FileFacts | None:
        """The file that has this absolute path, reached without following a link; None when nothing has it. Touches
        nothing, opens nothing but regular files, and enters no filesystem that need not answer unless it may.

        Raises ``CommandRejected`` (``invalid_target``, ``symlink_in_path``, ``remote_filesystem``, ``container_gone``,
        ``container_root_shared``), ``PermanentFailure`` (``permission``, ``io_error``), ``TransientFailure`` when
        descriptors are short.
        """

    def copy_up(self, where: Location, expected: FileIdentity) -> FileFacts | None:
        """As ``examine``, after the file got the identity that it keeps when it is moved: on an overlay a file of a
        lower layer is copied up, which changes nothing else about it. None when another file, or none, has the path.
        Raises also ``LimitExceeded`` (``failed_enospc``)."""

    def protected_paths(self) -> ProtectedPaths:
        """What the protected paths are at this moment."""

    def check_capacity(self, size: int) -> None:
        """Whether so many bytes may be added. Raises ``LimitExceeded`` (``refused_quota``, ``failed_enospc``)."""

    def parking_name(self) -> bytes:
        """A new name for a parking directory that cannot be guessed."""

    def object_path(self, execution_id: ExecutionId) -> str:
        """Where the object of a quarantine is or would be."""

    def missing(self, execution_id: ExecutionId) -> str:
        """Which of the two files of a quarantine that has ended is not there, as a path; empty where both are. Reads
        neither. Raises ``PermanentFailure`` (``vault_unusable``, ``io_error``)."""

    def contents(self) -> Sequence[Stored]:
        """Everything in it, by execution. Raises ``PermanentFailure`` (``vault_unusable``, ``io_error``)."""

    def manifest(self, execution_id: ExecutionId) -> Manifest | None:
        """The newest manifest of a quarantine, its signature checked. Raises ``PermanentFailure``
        (``manifest_damaged``), ``TransientFailure`` (``keyset_expired``)."""

    def damaged(self) -> Iterator[tuple[ExecutionId, str]]:
        """Quarantines that could not be undone, and why: the manifest is missing or cannot be trusted, or the object is
        missing or not what the manifest names. Reads every object. Raises ``PermanentFailure``, ``TransientFailure``
        (``keyset_expired``)."""

    def record(self, manifest: Manifest) -> None:
        """Make it the newest, signed and durable on return. Raises ``LimitExceeded`` (``failed_enospc``),
        ``PermanentFailure``."""

    def hold_for_quarantine(self, manifest: Manifest, inside: Enclosure | None) -> QuarantineHandle | None:
        """Hold the directory a manifest names, in this run of its container; None when another directory, or none, has
        its path now. Raises as ``examine``."""

    def hold_for_restore(self, manifest: Manifest, inside: Enclosure | None) -> RestoreHandle | None:
        """As ``hold_for_quarantine``, for the way back."""
