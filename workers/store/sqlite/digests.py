"""A digest of every table's content, kept in the file and compared at each start.

Called by ``store.sqlite.database``. SQLite has checksums for its log and none for its pages: a bit that flips inside a
row stays a well-formed row. Each table's digest is the sum of its rows' digests, so that a transaction adds what it
writes and takes off what it removes, without reading the rest. Triggers of this connection alone see every row that is
written, whichever statement does it. Against decay of the disk, not against whoever can write the file.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

_SIZE: Final = 8
_MODULUS: Final = 1 << (8 * _SIZE)
_NOT_CONTENT: Final = frozenset({"digests", "reserve"})
_COMMITS: Final = "commits"
"""Not a table: the number of commits that changed a row, for ``mark``."""
_SEQUENCES: Final = "sqlite_sequence"
"""SQLite's table of the highest row ids; it can have no trigger."""


class Digests:
    """The digests of one connection's file. The caller's lock makes it one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """``connection`` is the only one that writes the file."""
        self._connection = connection
        self._changes: dict[str, int] = {}
        """Since the transaction began, by table."""
        self.commits = 0
        """How many commits the file holds; read by ``differing``."""
        self._next = 0
        connection.create_function("douse_row_written", -1, self._written)
        connection.create_function("douse_row_removed", -1, self._removed)

    def kept(self) -> bool:
        """Whether the file has digests: not before its first start with them."""
        return bool(self._tables("digests"))

    def differing(self) -> Sequence[str]:
        """The tables whose content is not what was written; none for a file that has no digests yet."""
        if not self.kept():
            return ()
        kept = dict(self._connection.execute("SELECT name, digest FROM digests").fetchall())
        self.commits = self._next = int.from_bytes(kept.pop(_COMMITS, b""), "big")
        counted = self._counted()
        return sorted(name for name in kept.keys() | counted.keys() if kept.get(name) != counted.get(name))

    def keep(self) -> None:
        """Count everything anew and keep it: for a new file, and after a migration. Inside a transaction."""
        self._connection.execute("CREATE TABLE IF NOT EXISTS digests (name TEXT PRIMARY KEY, digest BLOB NOT NULL)")
        self._connection.execute("DELETE FROM digests")
        self._connection.executemany("INSERT INTO digests VALUES (?, ?)", self._counted().items())
        self._changes.clear()

    def watch(self) -> None:
        """Follow every table's rows from now on."""
        for table in self._tables():
            new, old = (", ".join(f'{row}."{column}"' for column in self._columns(table)) for row in ("NEW", "OLD"))
            steps = {
                "INSERT": f"SELECT douse_row_written('{table}', {new});",
                "DELETE": f"SELECT douse_row_removed('{table}', {old});",
                "UPDATE": f"SELECT douse_row_removed('{table}', {old}), douse_row_written('{table}', {new});",
            }
            for event, step in steps.items():
                self._connection.execute(
                    f'CREATE TEMP TRIGGER "douse_{table}_{event}" AFTER {event} ON main."{table}" BEGIN {step} END'
                )

    def write(self) -> None:
        """Keep what the transaction changed: its last statement before the commit."""
        if not self._changes:
            return
        rows = self._connection.execute("SELECT name, digest FROM digests").fetchall()
        kept = {name: int.from_bytes(digest, "big") for name, digest in rows}
        changed = {name: _bytes(kept.get(name, 0) + change) for name, change in self._changes.items()}
        changed[_SEQUENCES] = self._sequences()
        self._next = self.commits + 1
        changed[_COMMITS] = _bytes(self._next)
        self._connection.executemany(
            "INSERT INTO digests VALUES (?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest", changed.items()
        )
        self._changes.clear()

    def committed(self) -> None:
        """What ``write`` kept is committed."""
        self.commits = self._next

    def forget(self) -> None:
        """The transaction was rolled back, if it was not committed."""
        self._changes.clear()
        self._next = self.commits

    def _written(self, table: str, *values: object) -> None:
        self._changes[table] = self._changes.get(table, 0) + _row(values)

    def _removed(self, table: str, *values: object) -> None:
        self._changes[table] = self._changes.get(table, 0) - _row(values)

    def _counted(self) -> Mapping[str, bytes]:
        counted = {
            table: _bytes(sum(map(_row, self._connection.execute(f'SELECT * FROM "{table}"'))))
            for table in self._tables()
        }
        return {**counted, _SEQUENCES: self._sequences()}

    def _sequences(self) -> bytes:
        if not self._tables(_SEQUENCES):
            return _bytes(0)
        return _bytes(sum(map(_row, self._connection.execute("SELECT name, seq FROM sqlite_sequence"))))

    def _tables(self, name: str = "") -> Sequence[str]:
        """Those with content, or that one if it is there."""
        rows = self._connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY name")
        found = [row[0] for row in rows]
        if name:
            return [each for each in found if each == name]
        return [each for each in found if each not in _NOT_CONTENT and not each.startswith("sqlite_")]

    def _columns(self, table: str) -> Sequence[str]:
        return [row[0] for row in self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def _row(values: Sequence[object]) -> int:
    """The digest of one row: its values with their types and lengths."""
    digest = blake2b(digest_size=_SIZE)
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        digest.update(b"%s %d " % (type(value).__name__.encode(), len(data)))
        digest.update(data)
    return int.from_bytes(digest.digest(), "big")


def _bytes(number: int) -> bytes:
    return (number % _MODULUS).to_bytes(_SIZE, "big")
