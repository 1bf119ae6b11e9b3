"""Brings a store's schema to this version, or reports that it belongs to a newer one.

Called by ``store`` at opening. Alembic is imported here and in ``migrations`` only, and only when there is work to do.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, column, inspect, select, table

from workers.domain.errors import ConfigError
from workers.store.history.dialect import translated
from workers.store.history.home import WRITE, Home

NEWEST: Final = "v0002"
"""The revision of this version; a test holds it against ``migrations``."""

_VERSION = table("alembic_version", column("version_num"))


def migrate(home: Home, engine: Engine) -> None:
    """Make or mend the schema; nothing at all when it is this version's. Safe to call in several processes at once.

    Raises:
        ConfigError: a newer Douse wrote this store.
        TransientFailure: the database is unreachable or busy.
    """
    with translated():
        with engine.connect() as connection:
            if _revision(connection) == NEWEST:
                return
        with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
            home.prepare(connection)
            _upgrade(connection, home.name)


def _upgrade(connection: Connection, name: str) -> None:
    # Asked again: another process may have migrated while this one waited for the lock.
    found = _revision(connection)
    if found == NEWEST:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise ConfigError(
            f"history: {name} has schema {found}, written by a newer Douse (this one knows "
            f"{NEWEST}); upgrade Douse, or name another store"
        )
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(select(_VERSION.c.version_num)).scalar_one_or_none() or ""
