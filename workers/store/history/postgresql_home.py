"""A history store in a schema of a PostgreSQL database: ``douse``, or the one that ``schema=`` in the URL names.

Called by ``dialect.home_of``. Every connection finds its tables by the schema's name, so that one ``ALTER SCHEMA``
commits another store in its stead, for readers that are connected already too. Every write transaction first takes a
lock that is named after the schema, and finds its tables only then.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, text

from workers.domain.errors import ConfigError
from workers.store.history.home import HALF_WAY, WRITE

_SCHEMA: Final = "douse"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
"""Nothing in it that SQL would have to quote."""

_LONGEST: Final = 40
"""Short enough for what a rebuild appends, within PostgreSQL's 63 bytes."""

_CONNECT_S: Final = 5


class PostgresqlHome:
    """Implements ``Home``."""

    def __init__(self, url: URL, busy_s: float, longest: int = _LONGEST) -> None:
        """Raises ``ConfigError`` for a schema that is no plain name."""
        schema = url.query.get("schema", _SCHEMA)
        if not isinstance(schema, str) or _NAME.fullmatch(schema) is None or len(schema) > longest:
            raise ConfigError(f"history: schema in the URL must be lower-case letters, digits and _, at most {longest}")
        self._url = url
        self._schema = schema
        self._busy_ms = round(busy_s * 1000)
        self._claimed: Connection | None = None
        self._driver_url = url.difference_update_query(["schema"])
        create_engine(self._driver_url).dispose()  # reports a missing driver here and now

    @property
    def name(self) -> str:
        """The URL, without its password."""
        return self._url.render_as_string()

    def engine(self) -> Engine:
        given = self._driver_url.query.get("options", "")
        options = f"{given} -csearch_path={self._schema}".strip()
        engine = create_engine(
            self._driver_url.difference_update_query(["options"]),
            pool_pre_ping=True,
            connect_args={"options": options, "connect_timeout": _CONNECT_S},
        )

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            if connection.get_execution_options().get(WRITE, False):
                connection.exec_driver_sql(
                    f"SET LOCAL lock_timeout = {self._busy_ms}; SELECT pg_advisory_xact_lock({_key(self._schema)})"
                )

        return engine

    def check(self, engine: Engine) -> None:
        """Nothing: that is the server's business (``data_checksums``)."""

    def prepare(self, connection: Connection) -> None:
        """The schema. A role that may only read needs no right to make one that is there."""
        if not _is_there(connection, self._schema):
            connection.execute(text(f"CREATE SCHEMA {self._schema}"))

    def claim(self) -> None:
        # The lock lives and dies with this one connection.
        engine = create_engine(
            self._driver_url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": _CONNECT_S},
        )
        connection = engine.connect()
        key = _key(f"{self._schema} rebuild")
        if not connection.execute(text(f"SELECT pg_try_advisory_lock({key})")).scalar_one():
            connection.close()
            raise ConfigError(f"history: another rebuild of {self.name} is at work; wait for it, or end it")
        self._claimed = connection
        self._sweep(connection)

    def beside(self) -> "PostgresqlHome":
        return PostgresqlHome(self._url.update_query_dict({"schema": self._new}), self._busy_ms / 1000, 63)

    def replace(self, connection: Connection, *, keep: bool, reach: Callable[[str], None]) -> str:
        """Done when the transaction of ``connection`` commits."""
        old = self._kept if keep else self._old
        connection.execute(text(f"DROP SCHEMA IF EXISTS {old} CASCADE"))
        for grant in self._grants(connection):
            connection.execute(text(grant))
        connection.execute(text(f"ALTER SCHEMA {self._schema} RENAME TO {old}"))
        reach(HALF_WAY)
        connection.execute(text(f"ALTER SCHEMA {self._new} RENAME TO {self._schema}"))
        return old if keep else ""

    def release(self) -> None:
        if self._claimed is not None:
            self._sweep(self._claimed)
            self._claimed.close()
            self._claimed = None

    @property
    def _new(self) -> str:
        return f"{self._schema}_rebuilding"

    @property
    def _old(self) -> str:
        return f"{self._schema}_replaced"

    @property
    def _kept(self) -> str:
        return f"{self._schema}_before_rebuild"

    def _sweep(self, connection: Connection) -> None:
        for schema in (self._new, self._old):
            if _is_there(connection, schema):
                connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))

    def _grants(self, connection: Connection) -> Iterator[str]:
        """The privileges of others on the live store, as grants on the new one: its readers need not be its owner."""
        found = connection.execute(
            text(
                "SELECT format('GRANT %s ON SCHEMA %I TO %I', a.privilege_type, CAST(:new AS text), r.rolname)"
                " FROM pg_namespace n, aclexplode(n.nspacl) a JOIN pg_roles r ON r.oid = a.grantee"
                " WHERE n.nspname = :live AND a.grantee <> n.nspowner"
                " UNION ALL SELECT format('GRANT %s ON %I.%I TO %I', a.privilege_type, CAST(:new AS text), c.relname,"
                " r.rolname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
                " aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee"
                " WHERE n.nspname = :live AND c.relkind = 'r' AND a.grantee <> c.relowner"
            ),
            {"live": self._schema, "new": self._new},
        )
        return iter(found.scalars().all())


def _is_there(connection: Connection, schema: str) -> bool:
    asked = text("SELECT 1 FROM pg_namespace WHERE nspname = :schema")
    return connection.execute(asked, {"schema": schema}).scalar_one_or_none() is not None


def _key(words: str) -> int:
    """The number of an advisory lock."""
    return int.from_bytes(hashlib.sha256(f"douse history {words}".encode()).digest()[:8], "big", signed=True)
