"""The history store: opens it, begins the projector's transactions, answers the gateway's queries.

Opened by wiring. Any number of processes may read while the one projector writes. Every answer is folded
from the steps when it is asked for, so that there is one truth and nothing to keep in step with it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, select

from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import Execution, FoldedStep, Undo, with_undos
from workers.domain.history.queries import (
    EventQuery,
    ExecutionQuery,
    Page,
    StoredAudit,
    StoredEvent,
    StoredNode,
    StoreHealth,
    cursor_after,
)
from workers.domain.ids import EventId, ExecutionId
from workers.domain.log.record import LogPosition
from workers.domain.node_state import NodeState
from workers.domain.trust.audit import GENESIS, AuditRecord
from workers.store.history import queries, rows, tables
from workers.store.history.dialect import home_of, snapshot, translated
from workers.store.history.digest import digest_of
from workers.store.history.home import BUSY_S, WRITE, Home
from workers.store.history.schema import migrate
from workers.store.history.transaction import SqlHistoryTx
from workers.wire.ports import Codec


def open_history(url: str, codec: Codec, *, busy_s: float = BUSY_S, check: bool = False) -> "SqlHistoryStore":
    """A store of this version's schema, made if it is not there; ``busy_s`` is how long it waits for another writer.
    With ``check`` it is read whole before.

    Raises:
        ConfigError: the URL cannot be used, a newer Douse wrote the store, or ``check`` found it damaged.
        TransientFailure: the database is unreachable or busy.
    """
    return opened(home_of(url, busy_s=busy_s), codec, check=check)


def opened(home: Home, codec: Codec, *, check: bool = False) -> "SqlHistoryStore":
    """The live store of a home. Raises as ``open_history``."""
    engine = home.engine()
    try:
        if check:
            with translated():
                home.check(engine)
        migrate(home, engine)
    except BaseException:
        engine.dispose()
        raise
    return SqlHistoryStore(engine, codec)


class SqlHistoryStore:
    """Implements ``HistoryStore``. Every method may be called from any thread."""

    def __init__(self, engine: Engine, codec: Codec) -> None:
        """Use ``open_history``."""
        self.engine = engine
        """For this package alone."""
        self._codec = codec

    @contextmanager
    def begin(self) -> Iterator[SqlHistoryTx]:
        with self.writing() as connection:
            tx = SqlHistoryTx(connection, self._codec)
            yield tx
            tx.flush()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction, for this package alone."""
        with translated(), self.engine.connect() as plain:
            connection = plain.execution_options(**{WRITE: True})
            with connection.begin():
                yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(), self.engine.connect() as connection:
            yield connection

    def next_offset(self, position: LogPosition) -> int | None:
        columns = tables.offsets.c
        key = rows.position_row(position)
        chosen = select(columns.next_offset).where(*(columns[name] == value for name, value in key.items()))
        with self._reading() as connection:
            return connection.execute(chosen).scalar_one_or_none()

    def execution(self, execution_id: ExecutionId) -> Execution | None:
        with self._reading() as connection:
            found = self._folded(connection, [execution_id], whole=True)
        return found[0] if found else None

    def executions(self, query: ExecutionQuery) -> Page[Execution]:
        with self._reading() as connection:
            found = connection.execute(queries.chosen_executions(connection, query)).all()
            page = found[: query.limit]
            more = cursor_after(page[-1].requested_at_ns, page[-1].execution_id) if len(found) > len(page) else ""
            return Page(tuple(self._folded(connection, [row.execution_id for row in page], whole=False)), more)

    def contained(self) -> Sequence[Execution]:
        with self._reading() as connection:
            holding = connection.execute(queries.holding()).scalars().all()
            return self._folded(connection, holding, whole=False)

    def event(self, event_id: EventId) -> StoredEvent | None:
        with self._reading() as connection:
            value = connection.execute(queries.chosen_event(event_id)).scalar_one_or_none()
            return self._events(connection, [value])[0] if value is not None else None

    def events(self, query: EventQuery) -> Page[StoredEvent]:
        with self._reading() as connection:
            found = connection.execute(queries.chosen_events(connection, query)).all()
            page = found[: query.limit]
            more = cursor_after(page[-1].occurred_at_ns, page[-1].event_id) if len(found) > len(page) else ""
            return Page(tuple(self._events(connection, [row.value for row in page])), more)

    def nodes(self, node_id: str = "") -> Sequence[StoredNode]:
        with self._reading() as connection:
            found = connection.execute(queries.newest_heartbeats(node_id)).all()
        return [
            StoredNode(self._codec.decode(value, NodeState), verified, folded_at_ns)
            for value, verified, folded_at_ns, _ in found
        ]

    def audit(self, *, execution_id: str = "", chain_id: str = "", limit: int = 200) -> Sequence[StoredAudit]:
        """Newest first; ``verified`` when the signature and the link to the record before both hold."""
        with self._reading() as connection:
            found = connection.execute(queries.chosen_audit(execution_id, chain_id, limit)).all()
        answers = []
        for payload, verified, linked in found:
            record = self._codec.decode(payload, AuditRecord)
            first = record.record_no == 0 and record.previous == GENESIS
            answers.append(StoredAudit(record, verified and (first or bool(linked))))
        return answers

    def health(self) -> StoreHealth:
        with self._reading() as connection:
            # A topic that was read under two log ids shows the newest log's offset: it is last.
            offsets = connection.execute(select(tables.offsets).order_by(tables.offsets.c.born)).all()
            counted = queries.counted(connection)
        next_offsets = {f"{row.topic}/{row.partition}": row.next_offset for row in offsets}
        return StoreHealth(next_offsets, *counted)

    def digest(self) -> str:
        with translated(), snapshot(self.engine) as connection:
            return digest_of(connection)

    def close(self) -> None:
        self.engine.dispose()

    def _folded(self, connection: Connection, ids: Sequence[str], *, whole: bool) -> list[Execution]:
        """These executions, in this order, with their undos; those that have no steps are left out."""
        steps: dict[str, list[FoldedStep]] = defaultdict(list)
        for row in connection.execute(select(tables.steps).where(tables.steps.c.execution_id.in_(ids))):
            steps[row.execution_id].append(rows.read_step(self._codec, row))
        found = [rows.read_execution(ExecutionId(id_), steps[id_], whole=whole) for id_ in ids if id_ in steps]
        undos: dict[str, list[Undo]] = defaultdict(list)
        for undo in connection.execute(queries.undos_of(ids)):
            undos[undo.undo_of].append(rows.read_undo(undo))
        newest = connection.execute(queries.present_incarnations({each.node_id for each in found}))
        present = dict(newest.all())
        return [
            with_undos(
                each,
                undos[rows.indexed(each.execution_id)],
                journal_lost=present.get(each.node_id, each.incarnation) != each.incarnation,
            )
            for each in found
        ]

    def _events(self, connection: Connection, values: Sequence[bytes]) -> list[StoredEvent]:
        found = [self._codec.decode(value, RuntimeEvent) for value in values]
        led_to: dict[str, list[str]] = defaultdict(list)
        for event_id, execution_id in connection.execute(queries.led_to(event.event_id for event in found)):
            led_to[event_id].append(execution_id)
        return [StoredEvent(event, tuple(led_to[rows.indexed(event.event_id)])) for event in found]
