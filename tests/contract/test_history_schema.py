"""A history store's schema: made, kept, opened by several processes at once, never misread from a newer version."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import workers.adapters.history_store.migrations as migrations
from tests.fakes.codec import FakeCodec
from workers.adapters.history_store.dialect import open_engine
from workers.adapters.history_store.schema import NEWEST, migrate
from workers.adapters.history_store.store import open_history
from workers.adapters.history_store.tables import metadata
from workers.core.errors import ConfigError, PermanentFailure, TransientFailure

CODEC = FakeCodec()


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/h.sqlite")
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_newest_revision_is_the_one_the_code_names() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [NEWEST]


def test_a_store_is_opened_again_and_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/h.sqlite"
    for _ in range(2):
        store = open_history(url, CODEC)
        assert store.health().executions == 0
        store.close()


def test_many_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/h.sqlite"
    with ThreadPoolExecutor(6) as pool:
        for store in pool.map(lambda _: open_history(url, CODEC), range(6)):
            assert store.health().executions == 0
            store.close()


def test_a_store_of_a_newer_douse_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    open_history(f"sqlite:///{path}", CODEC).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9999'")
    with pytest.raises(ConfigError, match="newer Douse") as refused:
        open_history(f"sqlite:///{path}", CODEC)
    assert len(str(refused.value).splitlines()) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("v9999",)]


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/d", "oracle+x://h", "sqlite:////proc/x/y"],
)
def test_a_url_that_cannot_be_used_is_one_clear_line(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^history: ") as refused:
        open_history(url, CODEC)
    assert len(str(refused.value).splitlines()) == 1
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"not a database at all " * 100)
    with pytest.raises(PermanentFailure) as refused:
        open_history(f"sqlite:///{path}", CODEC)
    assert refused.value.reason == "history_io"


def test_a_store_that_another_holds_is_a_transient_failure(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    open_history(f"sqlite:///{path}", CODEC).close()
    store = open_history(f"sqlite:///{path}", CODEC, busy_s=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientFailure), store.begin():
            pass
        other.execute("ROLLBACK")
    with store.begin():
        pass
    store.close()
