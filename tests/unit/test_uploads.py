"""The progress of uploads: the board, and the source that reports to it."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from workers.actions.base.upload_progress import ProgressSource
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.node_state import Progress
from workers.host.evidence.ports import NoProgress
from workers.node.live_state import MOST_UPLOADS, Uploads

IDS = [id_from_cause(1_783_198_004_000_000_000, str(number)) for number in range(MOST_UPLOADS + 3)]


class BoardMachine(RuleBasedStateMachine):
    """Against a model: of each the most, until it is over; never more than `MOST_UPLOADS` of them."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Uploads()
        self.model: dict[ExecutionId, int] = {}

    @rule(execution_id=st.sampled_from(IDS), done=st.integers(0, 9))
    def report(self, execution_id: ExecutionId, done: int) -> None:
        self.board.update(execution_id, done=done, size=9)
        if execution_id in self.model or len(self.model) < MOST_UPLOADS:
            self.model[execution_id] = max(done, self.model.get(execution_id, 0))

    @rule(execution_id=st.sampled_from(IDS))
    def over(self, execution_id: ExecutionId) -> None:
        self.board.finish(execution_id)
        self.model.pop(execution_id, None)

    @invariant()
    def shows_what_was_reported(self) -> None:
        assert self.board.now() == tuple(Progress(each, done, 9) for each, done in self.model.items())


TestBoard = BoardMachine.TestCase


def test_it_is_bounded_and_has_capacity_again_when_one_is_over() -> None:
    board = Uploads()
    for each in IDS:
        board.update(each, done=0, size=1)
    assert [progress.execution_id for progress in board.now()] == IDS[:MOST_UPLOADS]
    board.finish(IDS[0])
    board.update(IDS[-1], done=0, size=1)
    assert [progress.execution_id for progress in board.now()] == [*IDS[1:MOST_UPLOADS], IDS[-1]]


def test_without_a_board_nothing_is_kept() -> None:
    nothing = NoProgress()
    nothing.update(IDS[0], done=1, size=2)
    nothing.finish(IDS[0])


class Bytes:
    """An `ObjectSource` that notes what was done with it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.closed = False
        self.linked: list[tuple[int, str]] = []

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def link(self, directory: int, name: str) -> bool:
        self.linked.append((directory, name))
        return len(self.linked) == 1

    def close(self) -> None:
        self.closed = True


@given(st.binary(max_size=64), st.lists(st.tuples(st.integers(0, 64), st.integers(0, 64)), max_size=8))
def test_a_progress_source_is_the_source_and_reports_what_precedes_the_farthest_read(
    data: bytes, reads: list[tuple[int, int]]
) -> None:
    source, board = Bytes(data), Uploads()
    reporting = ProgressSource(source, IDS[0], board)
    assert (reporting.size, reporting.sha256) == (source.size, source.sha256)
    for number, (offset, length) in enumerate(reads, 1):
        assert reporting.read_at(offset, length) == data[offset : offset + length]
        farthest = max(offset for offset, _ in reads[:number])
        assert board.now() == (Progress(IDS[0], farthest, len(data)),)


def test_a_progress_source_gives_its_file_a_name_and_is_closed_as_the_source() -> None:
    source = Bytes(b"evidence")
    reporting = ProgressSource(source, IDS[0], Uploads())
    assert (reporting.link(3, "first"), reporting.link(4, "second")) == (True, False)
    assert source.linked == [(3, "first"), (4, "second")]
    reporting.close()
    assert source.closed
