"""The seam to the object store of gathered files.

A node only adds: it never overwrites, deletes, or reads what others put there. An object is whole under its name or not
there at all, and a second put of the same content changes nothing. The gateway only reads.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from workers.domain.pace import Pace


class ObjectSource(Protocol):
    """A complete object on its way: nothing changes it any more."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def sha256(self) -> str:
        """What its bytes must hash to, in hex."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Blocks on the disk. Raises ``PermanentFailure`` (``spool_damaged``, ``io_error``)."""

    def link(self, directory: int, name: str) -> bool:
        """Give its own file, which is durable, this name in an open directory too, for its owner to read alone; False
        where it has none, or that directory is on another filesystem. Raises ``FileExistsError`` where the name is
        taken, and any other ``OSError``."""

    def close(self) -> None:
        """Idempotent."""


class Written(Enum):
    """What a conditional put did."""

    NEW = auto()
    THERE = auto()
    """An object has this name already, and still has what it had."""


class ObjectStore(Protocol):
    """Where gathered objects go, as a node may use it: it adds, and never overwrites, reads others' or deletes.

    Any thread; blocks on the network. All raise ``TransientFailure`` (``store_unavailable``) when the store cannot be
    reached or reports a fault of its own, ``PermanentFailure`` (``store_refused``) when it denies access.
    """

    def put(self, key: str, source: ObjectSource, *, pace: Pace) -> Written:
        """Store ``source`` under ``key`` unless something has that name: whole or not at all, however often it is
        called, resuming where an earlier call stopped. What is sent is hashed on the way and compared. Moves ``pace``
        with what is sent; a store that takes nothing for so long is one that does not answer.

        Raises ``LimitExceeded`` (``timed_out``, ``store_full``), and what ``read_at`` raises.
        """

    def holds(self, key: str, source: ObjectSource, *, pace: Pace) -> bool | None:
        """Whether the object of that name is this one, by the store's own size and digest of it; None where this
        node may not look, as a node's credential should be."""

    def answers(self) -> bool:
        """Whether the store can be reached at this moment. Raises nothing."""

    def unfinished(self) -> Sequence[str]:
        """Keys of this node's own uploads that began and were neither finished nor aborted."""

    def give_up(self, key: str) -> None:
        """Abort every unfinished upload of a key. Idempotent."""


class StoredObject(Protocol):
    """An object being read."""

    @property
    def size(self) -> int:
        """In bytes."""

    def read(self, length: int) -> bytes:
        """The next bytes, at most ``length``; empty at the end. Raises ``TransientFailure``."""

    def close(self) -> None:
        """Idempotent."""


class ObjectReader(Protocol):
    """Where gathered objects are, as the gateway may use it: it reads."""

    def open(self, key: str) -> StoredObject | None:
        """The object; None where there is none. Raises as ``ObjectStore``."""
