"""A store in the making beside the live one, and the step in which it replaces that one.

Made by wiring for ``douse history rebuild``; implements ``Rebuilding``. Never writes to the live store.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, RowMapping, Table, delete, insert, select

from workers.domain.history.rebuild import FOREVER_NS, Carried, Reach
from workers.domain.history.retention import Cutoffs
from workers.domain.history.sequence import Ranges
from workers.domain.ids import LogId
from workers.domain.log.record import LogPosition
from workers.store.history import tables
from workers.store.history.dialect import home_of, insert_new, snapshot, translated
from workers.store.history.digest import digest_of
from workers.store.history.home import BUSY_S, WRITE, Home
from workers.store.history.missing_rows import MissingRows
from workers.store.history.retention import cutoffs_of, set_cutoffs
from workers.store.history.store import SqlHistoryStore, opened
from workers.system.ports import Failpoints
from workers.wire.ports import Codec


def open_rebuilding(url: str, codec: Codec, failpoints: Failpoints, *, busy_s: float = BUSY_S) -> "SqlRebuilding":
    """A new store beside the one at ``url``.

    Raises:
        ConfigError: the URL cannot be used, or another rebuild is at work there.
        TransientFailure: the database is unreachable or busy.
    """
    home = home_of(url, busy_s=busy_s)
    live = opened(home, codec)
    try:
        with translated():
            home.claim()
        return SqlRebuilding(home, live, opened(home.beside(), codec), codec, failpoints)
    except BaseException:
        live.close()
        raise


class SqlRebuilding:
    """Implements ``Rebuilding``."""

    def __init__(
        self, home: Home, live: SqlHistoryStore, fresh: SqlHistoryStore, codec: Codec, failpoints: Failpoints
    ) -> None:
        """Use ``open_rebuilding``. Owns both stores."""
        self._home = home
        self._codec = codec
        self._failpoints = failpoints
        self.live = live
        self.fresh = fresh

    @contextmanager
    def frozen(self) -> Iterator["SqlLiveHistory"]:
        with translated(), snapshot(self.live.engine) as connection:
            yield self._of(connection)

    @contextmanager
    def held(self) -> Iterator["SqlLiveHistory"]:
        with translated(), self.live.engine.connect() as plain:
            connection = plain.execution_options(**{WRITE: True})
            with connection.begin():
                yield self._of(connection)

    def close(self) -> None:
        self.fresh.close()
        self.live.close()
        with translated():
            self._home.release()

    def _of(self, connection: Connection) -> "SqlLiveHistory":
        return SqlLiveHistory(connection, self.fresh, self._home, self._codec, self._failpoints)


class SqlLiveHistory:
    """Implements ``LiveHistory``."""

    def __init__(
        self, connection: Connection, fresh: SqlHistoryStore, home: Home, codec: Codec, failpoints: Failpoints
    ) -> None:
        """``connection`` sees one moment of the live store."""
        self._connection = connection
        self._fresh = fresh
        self._home = home
        self._codec = codec
        self._failpoints = failpoints
        self.positions: Mapping[LogPosition, int] = {
            _position(row): row["next_offset"] for row in connection.execute(select(tables.offsets)).mappings()
        }
        self.forgotten: Cutoffs = cutoffs_of(connection)

    def digest(self) -> str:
        return digest_of(self._connection)

    def copy_missing(self, reach: Reach) -> Carried:
        return MissingRows(self._connection, self._fresh, self._codec).copy(reach)

    def copy_state(self, reach: Reach) -> None:
        old = self._connection
        with self._fresh.writing() as new:
            new.execute(delete(tables.offsets))
            _copy(old, new, tables.offsets)
            _copy(old, new, tables.audit_anchors)
            _copy(old, new, tables.node_names)
            _copy(old, new, tables.gaps)
            self._senders(new)
            self._put_aside(new, reach)
            set_cutoffs(new, cutoffs_of(new).with_later(self.forgotten))

    def replace(self, *, keep: bool) -> str:
        self._fresh.close()
        return self._home.replace(self._connection, keep=keep, reach=self._failpoints.reach)

    def _senders(self, new: Connection) -> None:
        """The union of both: the log no longer has all records."""
        folded = {row.name: Ranges.parse(row.seen) for row in new.execute(select(tables.senders))}
        live = {row.name: Ranges.parse(row.seen) for row in self._connection.execute(select(tables.senders))}
        new.execute(delete(tables.senders))
        rows = [
            {"name": name, "seen": folded.get(name, Ranges()).merged(live.get(name, Ranges())).text()}
            for name in sorted({*folded, *live})
        ]
        if rows:
            new.execute(insert(tables.senders), rows)

    def _put_aside(self, new: Connection, reach: Reach) -> None:
        """What lies before the first record that is left of its log, or in a log that no longer exists."""
        for rows in self._connection.execute(select(tables.unverified)).mappings().partitions(100):
            gone = [dict(row) for row in rows if row["at_offset"] < reach.starts.get(_position(row), FOREVER_NS)]
            if gone:
                new.execute(insert_new(new, tables.unverified), gone)


def _position(row: RowMapping) -> LogPosition:
    return LogPosition(LogId(row["log_id"]), row["topic"], row["partition"])


def _copy(old: Connection, new: Connection, table: Table) -> None:
    rows = [dict(row) for row in old.execute(select(table)).mappings()]
    if rows:
        new.execute(insert_new(new, table), rows)
