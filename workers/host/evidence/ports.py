"""The seam to evidence on its way to the object store.

A file is copied onto the node's own spool first, hashed, and sealed with a signed custody record; only what is sealed
is uploaded, and it is released once the store has both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.domain.ids import ExecutionId
from workers.domain.node_state import UPLOADING
from workers.domain.pace import Pace
from workers.domain.targets.custody import Custody
from workers.domain.targets.file import FileFacts, FileIdentity, Location
from workers.domain.targets.protected_files import ProtectedPaths
from workers.store.objects.ports import ObjectSource


@dataclass(frozen=True, slots=True)
class Copy:
    """What was read of a file."""

    size: int
    """Bytes; holes count."""
    sha256: str
    facts: FileFacts
    """As the file was when reading began."""
    steady: bool
    """Whether it looked the same before and after it was read."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept of something that was made or streamed."""

    size: int
    sha256: str
    whole: bool
    """Whether nothing was left out."""


class Spool(Protocol):
    """This node's directory of what waits to be uploaded, and how files get there. Any thread; blocks on disks.

    All raise ``PermanentFailure`` (``permission``, ``io_error``, ``spool_unusable``), ``LimitExceeded``
    (``failed_enospc``), ``TransientFailure`` when descriptors are short.
    """

    @property
    def largest(self) -> int:
        """Bytes of the largest file that this node takes."""

    def examine(self, where: Location) -> FileFacts | None:
        """As ``Vault.examine``."""

    def own_paths(self) -> ProtectedPaths:
        """The worker's own trees, which may not be gathered."""

    def secret_paths(self) -> ProtectedPaths:
        """What the secret paths are at this moment."""

    def check_capacity(self, size: int) -> None:
        """Whether so many bytes may be added. Raises ``LimitExceeded`` (``failed_enospc``)."""

    def copy(self, execution_id: ExecutionId, where: Location, expected: FileIdentity, *, pace: Pace) -> Copy | None:
        """The content of the file that is ``where``, durable here, in place of any earlier copy; None when another
        file, or none, has the path now. Reads what the file had when reading began, and no byte beyond the limit.
        Each MiB moves ``pace``: a file that gives a byte now and then stands still.

        Raises ``LimitExceeded`` (``too_large``, ``timed_out``).
        """

    def keep(self, execution_id: ExecutionId, pieces: Iterable[bytes], *, pace: Pace) -> Kept:
        """What does not come from a file, durable here, in place of any earlier copy: all pieces up to the first that
        goes beyond ``largest``. Each piece moves ``pace``. Raises ``LimitExceeded`` (``timed_out``), and what
        ``pieces`` raises."""

    def seal(self, custody: Custody) -> None:
        """Record that the copy is complete and what it is, signed, durable on return."""

    def custody(self, execution_id: ExecutionId) -> Custody | None:
        """What is known of a complete copy, its signature checked; None where there is none. Raises
        ``PermanentFailure`` (``custody_damaged``), ``TransientFailure`` (``keyset_expired``)."""

    def object(self, execution_id: ExecutionId) -> ObjectSource:
        """A complete copy. Raises ``PermanentFailure`` (``spool_lost``)."""

    def custody_object(self, execution_id: ExecutionId) -> ObjectSource:
        """Its signed custody record. Raises as ``object``."""

    def release(self, execution_id: ExecutionId) -> None:
        """The store has both: remove the copy, durably, and mark its custody record as delivered."""

    def delivered(self, execution_id: ExecutionId) -> bool:
        """Whether the store has everything of an execution."""

    def discard(self, execution_id: ExecutionId) -> None:
        """Remove everything of an execution. Idempotent."""

    def kept(self) -> Sequence[ExecutionId]:
        """Every execution that something is kept of, complete or not."""


class ProgressBoard(Protocol):
    """How far each copy and each upload is. Any thread; does not block, raises nothing."""

    def update(self, execution_id: ExecutionId, *, done: int, size: int, step: str = UPLOADING) -> None:
        """Of ``size`` bytes ``done`` are through this step. Less than reported before changes nothing."""

    def finish(self, execution_id: ExecutionId) -> None:
        """Nothing of it is under way any more, however it ended. Idempotent."""


class NoProgress:
    """A ``ProgressBoard`` that drops everything."""

    def update(self, execution_id: ExecutionId, *, done: int, size: int, step: str = UPLOADING) -> None:
        """Nothing."""

    def finish(self, execution_id: ExecutionId) -> None:
        """Nothing."""
