"""A digest of every table's content, kept in the file and compared at each start.

Called by ``store.sqlite.database``. SQLite has checksums for its log and none for its pages: a bit that flips inside a
row stays a well-formed row. Each table's digest is the sum of its rows' digests, so that a transaction adds what it
writes and takes off what it removes, without reading the rest. Triggers of this connection alone see every row that is
written, whichever statement does it. Against decay of the disk, not against whoever can write the file.
"""

import sqlite3
from collections.abc import Sequence
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
        self._kept: dict[str, int] = {}
        """What the file holds, by table; read by ``differing``."""
        self._pending: dict[str, int] = {}
        """What it will hold after this commit."""
        self._has_sequences = False
        connection.create_function("douse_row_written", -1, self._written)
        connection.create_function("douse_row_removed", -1, self._removed)

    @property
    def commits(self) -> int:
        """How many commits that changed a row the file holds."""
        return self._kept.get(_COMMITS, 0)

    def kept(self) -> bool:
        """Whether the file has digests: not before its first start with them."""
        return bool(self._tables("digests"))

    def differing(self) -> Sequence[str]:
        """The tables whose content is not what was written; none for a file that has no digests yet."""
        if not self.kept():
            return ()
        rows = self._connection.execute("SELECT name, digest FROM digests").fetchall()
        self._kept = {name: int.from_bytes(digest, "big") for name, digest in rows}
        counted = self._counted()
        names = (self._kept.keys() | counted.keys()) - {_COMMITS}
        return sorted(name for name in names if self._kept.get(name) != counted.get(name))

    def keep(self) -> None:
        """Count everything anew and keep it: for a new file, and after a migration. Inside a transaction."""
        self._connection.execute("CREATE TABLE IF NOT EXISTS digests (name TEXT PRIMARY KEY, digest BLOB NOT NULL)")
        self._pending = {**self._counted(), _COMMITS: self.commits}
        self._connection.execute("DELETE FROM digests")
        self._connection.executemany(
            "INSERT INTO digests VALUES (?, ?)", [(name, _bytes(number)) for name, number in self._pending.items()]
        )
        self._changes.clear()

    def watch(self) -> None:
        """Follow every table's rows from now on."""
        self._has_sequences = bool(self._tables(_SEQUENCES))
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
        changed = {name: (self._kept.get(name, 0) + by) % _MODULUS for name, by in self._changes.items()}
        changed[_COMMITS] = self.commits + 1
        changed[_SEQUENCES] = self._sequences()
        self._connection.executemany(
            "INSERT INTO digests VALUES (?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest",
            [(name, _bytes(number)) for name, number in changed.items()],
        )
        self._changes.clear()
        self._pending = changed

    def committed(self) -> None:
        """What ``write`` kept is committed."""
        self._kept.update(self._pending)
        self._pending = {}

    def forget(self) -> None:
        """The transaction was rolled back, if it was not committed."""
        self._changes.clear()
        self._pending = {}

    def _written(self, table: str, *values: object) -> None:
        self._changes[table] = self._changes.get(table, 0) + _row(values)

    def _removed(self, table: str, *values: object) -> None:
        self._changes[table] = self._changes.get(table, 0) - _row(values)

    def _counted(self) -> dict[str, int]:
        self._has_sequences = bool(self._tables(_SEQUENCES))
        counted = {
            table: sum(map(_row, self._connection.execute(f'SELECT * FROM "{table}"'))) % _MODULUS
            for table in self._tables()
        }
        return {**counted, _SEQUENCES: self._sequences()}

    def _sequences(self) -> int:
        if not self._has_sequences:
            return 0
        return sum(map(_row, self._connection.execute("SELECT name, seq FROM sqlite_sequence"))) % _MODULUS

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
    return number.to_bytes(_SIZE, "big")
