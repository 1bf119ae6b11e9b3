"""One transaction of the projector: rows gathered, then written table by table in few statements.

Made by ``store.begin``, used by the projector's fold. Holds no connection of its own and never commits.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, func, or_, select, update

from workers.domain.errors import PermanentFailure
from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import Execution, FoldedStep, StepKey
from workers.domain.history.retention import Cutoffs, Forgotten
from workers.domain.history.search import search_row
from workers.domain.history.sequence import Ranges
from workers.domain.ids import ExecutionId
from workers.domain.log.record import LogPosition
from workers.domain.node_state import NodeState
from workers.domain.trust.audit import AuditRecord
from workers.store.history import rows, tables
from workers.store.history.dialect import insert_new, insert_or_replace
from workers.store.history.retention import cutoffs_of, forget, set_cutoffs
from workers.wire.ports import Codec

_CHUNK: Final = 1000
"""Values in one IN list: SQLite takes 32,766 variables, PostgreSQL 65,535."""


def _newer(new: Any) -> ColumnElement[bool]:
    old = tables.nodes.c
    return or_(new.record_no > old.record_no, and_(new.record_no == old.record_no, new.digest < old.digest))


_REPLACED: Final[Mapping[Table, Callable[[Any], ColumnElement[bool]] | None]] = {
    tables.executions: None,
    tables.senders: None,
    tables.nodes: _newer,
}
"""Tables whose row is replaced by a later one, and when; in the others a row once there stays."""


class SqlHistoryTx:
    """Implements ``HistoryTx``."""

    def __init__(self, connection: Connection, codec: Codec) -> None:
        """``connection`` is inside a transaction that its owner commits after ``flush``."""
        self._connection = connection
        self._codec = codec
        self._waiting: dict[Table, list[rows.Values]] = defaultdict(list)
        self._put: dict[ExecutionId, dict[StepKey, FoldedStep]] = defaultdict(dict)

    def advance(self, position: LogPosition, *, expected: int | None, next_offset: int) -> None:
        """The fence against a second owner."""
        key = rows.position_row(position)
        if expected is None:
            born = select(func.coalesce(func.max(tables.offsets.c.born), 0) + 1).scalar_subquery()
            done = self._connection.execute(
                insert_new(self._connection, tables.offsets)
                .values(**key, next_offset=next_offset, born=born)
                .execution_options(preserve_rowcount=True)
            )
        else:
            columns = tables.offsets.c
            done = self._connection.execute(
                update(tables.offsets)
                .where(*(columns[name] == value for name, value in key.items()), columns.next_offset == expected)
                .values(next_offset=next_offset)
            )
        if done.rowcount != 1:
            raise PermanentFailure(
                f"another projector moved {position.topic}/{position.partition} on from {expected}: one store has one "
                "projector; stop the other, or give this one a store of its own",
                code="second_owner",
            )

    def steps(self, execution_ids: Iterable[ExecutionId]) -> Mapping[ExecutionId, Sequence[FoldedStep]]:
        """The steps folded so far, those of this transaction among them."""
        wanted = set(execution_ids)
        found = {id_: dict(self._put[id_]) for id_ in wanted if id_ in self._put}
        for chunk in _chunks(wanted):
            chosen = select(tables.steps).where(tables.steps.c.execution_id.in_(chunk))
            for row in self._connection.execute(chosen):
                known = found.setdefault(ExecutionId(row.execution_id), {})
                # Decoding is what costs: a step that this transaction brought is not read back.
                if (row.producer, row.attempt, row.seq, row.digest) not in known:
                    step = rows.read_step(self._codec, row)
                    known[step.key] = step
        return {execution_id: list(steps.values()) for execution_id, steps in found.items()}

    def put_steps(self, steps: Iterable[FoldedStep]) -> None:
        for step in steps:
            self._put[step.result.execution_id].setdefault(step.key, step)
            self._waiting[tables.steps].append(rows.step_row(step))

    def put_execution(self, execution: Execution) -> None:
        """Only the row that the execution is searched by: everything else is read from its steps."""
        self._waiting[tables.executions].append(rows.search_values(search_row(execution)))

    def put_event(self, event: RuntimeEvent, *, payload: bytes) -> None:
        self._waiting[tables.events].append(rows.event_row(event, payload))

    def put_node(self, state: NodeState, *, payload: bytes, verified: bool, folded_at_ns: int) -> None:
        """The newest of its incarnation stays."""
        row = rows.node_row(state, payload, verified=verified, folded_at_ns=folded_at_ns)
        self._waiting[tables.nodes].append(row)
        self._waiting[tables.node_names].extend(
            {"name": rows.indexed(name), "node_id": row["node_id"]} for name in state.host_names
        )

    def put_audit(self, record: AuditRecord, *, payload: bytes, signed: bytes, verified: bool) -> None:
        self._waiting[tables.audit].append(rows.audit_row(record, payload, signed, verified=verified))

    def senders(self, names: Iterable[str]) -> Mapping[str, Ranges]:
        self.flush()
        wanted = {rows.indexed(name): name for name in names}
        found = {}
        for chunk in _chunks(wanted):
            chosen = select(tables.senders).where(tables.senders.c.name.in_(chunk))
            found.update({wanted[row.name]: Ranges.parse(row.seen) for row in self._connection.execute(chosen)})
        return found

    def put_sender(self, name: str, received: Ranges) -> None:
        self._waiting[tables.senders].append({"name": rows.indexed(name), "seen": received.text()})

    def record_digests(self, numbers: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], frozenset[str]]:
        self.flush()
        wanted: dict[str, set[int]] = defaultdict(set)
        for sender, number in numbers:
            wanted[sender].add(number)
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        columns = tables.steps.c
        # Sender by sender: SQLite reads the whole table to find a list of pairs.
        for sender, wanted_numbers in wanted.items():
            for chunk in _chunks(wanted_numbers):
                chosen = select(columns.record_no, columns.digest).where(
                    columns.sender == rows.indexed(sender), columns.record_no.in_(chunk)
                )
                for record_no, digest in self._connection.execute(chosen):
                    found[sender, record_no].add(digest)
        return {key: frozenset(digests) for key, digests in found.items()}

    def put_unverified(self, position: LogPosition, offset: int, *, value: bytes, reason: str, at_ns: int) -> None:
        self._waiting[tables.unverified].append(
            rows.unverified_row(position, offset, value, reason=reason, at_ns=at_ns)
        )

    def put_gap(self, position: LogPosition, *, expected: int, resumed_at: int, reason: str, at_ns: int) -> None:
        self._waiting[tables.gaps].append(
            {
                **rows.position_row(position),
                "expected": expected,
                "resumed_at": resumed_at,
                "reason": rows.indexed(reason),
                "at_ns": at_ns,
            }
        )

    def forgotten(self) -> Cutoffs:
        return cutoffs_of(self._connection)

    def forget(self, cutoffs: Cutoffs, *, limit: int) -> Forgotten:
        self.flush()
        before = self.forgotten()
        now = before.with_later(cutoffs)
        if now != before:
            set_cutoffs(self._connection, now)
        return forget(self._connection, now, limit)

    def flush(self) -> None:
        """Write what was gathered, still inside the transaction."""
        for table, waiting in self._waiting.items():
            if waiting:
                statement = (
                    insert_or_replace(self._connection, table, when=_REPLACED[table])
                    if table in _REPLACED
                    else insert_new(self._connection, table)
                )
                self._connection.execute(statement, waiting)
        self._waiting.clear()


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(sorted(values))
    while chunk := list(islice(left, _CHUNK)):
        yield chunk
