"""The real stores on a memory filesystem: what the tests of the workers use as journal, ledger and history.

`break_with(fault)` makes every commit fail as a full or broken disk does; `reopened()` is the same file as the next
process finds it. Only the disk is missing: whether a commit survives a power failure is asked elsewhere.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import make_url

from tests.fakes.chance import FakeRandomness
from tests.fakes.codec import FakeCodec
from tests.stories import step_of
from workers.domain.errors import WorkerError
from workers.domain.history.execution import fold
from workers.domain.ids import NodeId
from workers.domain.result import ActionResult
from workers.store.history.sqlite_home import SqliteHome
from workers.store.history.store import SqlHistoryStore, open_history
from workers.store.journal import SqliteJournal, SqliteJournalTx
from workers.store.ledger import SqliteLedger, SqliteLedgerTx
from workers.wire.ports import Codec

_MEMORY = Path("/dev/shm")
NO_NODE = NodeId("0" * 32)


class Directory:
    """A directory of its own that goes when nothing refers to it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="douse-test-", dir=_MEMORY if _MEMORY.is_dir() else None))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class MemoryJournal(SqliteJournal):
    """The node's journal; `seed` chooses its incarnation."""

    def __init__(self, *, node_id: NodeId = NO_NODE, seed: int = 0, directory: Directory | None = None) -> None:
        self._directory = directory if directory is not None else Directory()
        super().__init__(
            self._directory.path / "journal.sqlite", node_id=node_id, randomness=FakeRandomness(seed), reserve_bytes=0
        )
        self.fault: WorkerError | None = None
        self.commits = 0
        weakref.finalize(self, self._database.close)

    def reopened(self) -> MemoryJournal:
        self.close()
        return MemoryJournal(directory=self._directory)

    def break_with(self, fault: WorkerError | None) -> None:
        """Every commit from now on fails with this; None repairs the disk."""
        self.fault = fault

    @contextmanager
    def begin(self) -> Iterator[SqliteJournalTx]:
        with super().begin() as tx:
            yield tx
            if self.fault is not None:
                raise self.fault
        self.commits += 1


class MemoryLedger(SqliteLedger):
    """The dispatcher's ledger."""

    def __init__(self, *, directory: Directory | None = None) -> None:
        self._directory = directory if directory is not None else Directory()
        super().__init__(self._directory.path / "ledger.sqlite", randomness=FakeRandomness(), reserve_bytes=0)
        self.fault: WorkerError | None = None
        self.commits = 0
        self.closed = False
        weakref.finalize(self, self._database.close)

    def close(self) -> None:
        self.closed = True
        super().close()

    def reopened(self) -> MemoryLedger:
        self.close()
        return MemoryLedger(directory=self._directory)

    def break_with(self, fault: WorkerError | None) -> None:
        """Every commit from now on fails with this; None repairs the disk."""
        self.fault = fault

    @contextmanager
    def begin(self) -> Iterator[SqliteLedgerTx]:
        with super().begin() as tx:
            yield tx
            if self.fault is not None:
                raise self.fault
        self.commits += 1


class MemoryHistory(SqlHistoryStore):
    """A history store, empty at first."""

    def __init__(self, codec: Codec | None = None) -> None:
        self._directory = Directory()
        path = self._directory.path / "history.sqlite"
        shutil.copy(_empty_history(), path)
        codec = codec if codec is not None else FakeCodec()
        super().__init__(SqliteHome(make_url(f"sqlite:///{path}"), busy_s=5.0).engine(), codec)
        weakref.finalize(self, self.engine.dispose)

    def put(self, *results: ActionResult) -> None:
        """Fold results in, as if the projector had: for tests that only read."""
        with self.begin() as tx:
            tx.put_steps(step_of(result, self._codec) for result in results)
            for execution_id, steps in tx.steps({result.execution_id for result in results}).items():
                tx.put_execution(fold(execution_id, steps))


@cache
def _kept() -> Directory:
    return Directory()


@cache
def _empty_history() -> Path:
    """A file with the newest schema: the migrations take a tenth of a second, a copy a millisecond."""
    path = _kept().path / "empty.sqlite"
    open_history(f"sqlite:///{path}", FakeCodec()).close()
    return path
