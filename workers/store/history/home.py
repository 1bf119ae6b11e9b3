"""Where a history store lives, as all databases have it in common: what ``sqlite_home`` and ``postgresql_home`` offer.

Called by ``store``, ``schema`` and ``rebuild``. A home knows how its store is connected to, how a new one is made
beside it, and how the new one replaces it in one step that a kill cannot halve.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine

WRITE: Final = "douse_write"
"""Execution option of a connection whose transaction will write: one such transaction at a time in a home."""

BUSY_S: Final = 5.0
"""Seconds that a transaction waits for the one writer before it gives up."""

HALF_WAY: Final = "rebuild.replace.half_way"
"""Failpoint: everything is ready for the one step, and it is not done."""

SNAPSHOT: Final[Mapping[str, Mapping[str, Any]]] = {
    "sqlite": {},
    "postgresql": {"isolation_level": "REPEATABLE READ"},
}
"""Execution options, by dialect, of a connection that sees one moment only. A SQLite transaction does anyway."""


class Home(Protocol):
    """One database: one live store, at most one store in the making."""

    @property
    def name(self) -> str:
        """For people; no password in it."""

    def engine(self) -> Engine:
        """Connections to the live store, whichever it is when they are used. A transaction with ``WRITE`` is never one
        on a store that was replaced: it raises ``TransientFailure`` (``store_replaced``) instead."""

    def check(self, engine: Engine) -> None:
        """Raises ``ConfigError`` when the live store is damaged. Blocks: it is read whole."""

    def prepare(self, connection: Connection) -> None:
        """Make what the schema's tables are put into, inside the transaction that makes them."""

    def claim(self) -> None:
        """Be the only rebuild here, until ``release`` or the end of the process; what an earlier one left behind is
        removed. Raises ``ConfigError`` when another is at work."""

    def beside(self) -> "Home":
        """The home of the store in the making: nothing is there yet. Only after ``claim``."""

    def replace(self, connection: Connection, *, keep: bool, reach: Callable[[str], None]) -> str:
        """Let the store in the making, which no process has open any more, replace the live one. ``connection`` is in
        a ``WRITE`` transaction of the live store; the change is made when that transaction ends, if not before. Where
        the old store was kept, if ``keep``; else empty. ``reach`` is called with the failpoints on the way."""

    def release(self) -> None:
        """Remove what is not live any more; let the next rebuild in. Idempotent."""
