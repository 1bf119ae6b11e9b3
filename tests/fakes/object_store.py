"""An object store in memory, with the port's own rules; single calls can be made to fail by name.

`fail["put"] = [error, …]` makes the next calls of that name raise in turn; `after["put"]` the same, once the call has
taken effect (an answer that is lost). `readable` False is a store that denies its nodes to look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.fakes.clock import FakeClock
from workers.domain.errors import WorkerError
from workers.domain.ids import NodeId
from workers.domain.pace import Pace
from workers.domain.targets.custody import is_object_key
from workers.store.objects.checks import check_digest, check_own
from workers.store.objects.ports import ObjectSource, StoredObject, Written
from workers.system.ports import Clock

NODE = NodeId("0" * 32)


@dataclass(slots=True)
class FakeObjectStore:
    """The ports `ObjectStore` and `ObjectReader`."""

    node_id: NodeId = NODE
    clock: Clock = field(default_factory=FakeClock)
    objects: dict[str, bytes] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    """Uploads that stopped half way."""
    fail: dict[str, list[WorkerError]] = field(default_factory=dict)
    after: dict[str, list[WorkerError]] = field(default_factory=dict)
    away: bool = False
    readable: bool = True
    puts: list[str] = field(default_factory=list)
    """The key of every put that was tried."""
    part_size: int = 0
    """Bytes that are read at a time; 0 takes an object whole."""
    asked: Callable[[], None] = lambda: None
    """Called by a put before it reads anything."""
    taken: Callable[[], None] = lambda: None
    """Called whenever a part has arrived."""

    def put(self, key: str, source: ObjectSource, *, pace: Pace) -> Written:
        check_own(key, self.node_id)
        self.puts.append(key)
        self.asked()
        pace.check()
        if self.fail.get("put"):
            self.begun.add(key)
        self._step(self.fail, "put")
        data = b"".join(self._parts(source))
        check_digest(_sha256(data), source)
        self.begun.discard(key)
        written = Written.THERE if key in self.objects else Written.NEW
        self.objects.setdefault(key, data)
        self._step(self.after, "put")
        return written

    def holds(self, key: str, source: ObjectSource, *, pace: Pace) -> bool | None:
        check_own(key, self.node_id)
        self._step(self.fail, "holds")
        if not self.readable:
            return None
        return key in self.objects and _sha256(self.objects[key]) == source.sha256

    def answers(self) -> bool:
        return not self.away

    def unfinished(self) -> Sequence[str]:
        self._step(self.fail, "unfinished")
        return sorted(self.begun)

    def give_up(self, key: str) -> None:
        check_own(key, self.node_id)
        self._step(self.fail, "give_up")
        self.begun.discard(key)

    def open(self, key: str) -> StoredObject | None:
        self._step(self.fail, "open")
        if not is_object_key(key):
            raise ValueError(f"{key!r} is not an object key")
        return FakeStoredObject(self.objects[key]) if key in self.objects else None

    def _parts(self, source: ObjectSource) -> Iterator[bytes]:
        size = self.part_size or max(source.size, 1)
        for offset in range(0, source.size, size):
            yield source.read_at(offset, min(size, source.size - offset))
            self.taken()

    def _step(self, plan: dict[str, list[WorkerError]], name: str) -> None:
        if plan.get(name):
            raise plan[name].pop(0)


@dataclass(slots=True)
class FakeStoredObject:
    """The port `StoredObject`; `broken` is raised by the read that comes to the end."""

    data: bytes
    broken: WorkerError | None = None
    closed: bool = False
    at: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, length: int) -> bytes:
        chunk = self.data[self.at : self.at + length]
        self.at += len(chunk)
        if not chunk and self.broken is not None:
            raise self.broken
        return chunk

    def close(self) -> None:
        self.closed = True


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
