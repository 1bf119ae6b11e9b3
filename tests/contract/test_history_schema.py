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
from sqlalchemy import text

import workers.store.history.migrations as migrations
from tests.fakes.codec import FakeCodec
from tests.postgresql import Cluster, NewUrl
from workers.domain.errors import ConfigError, PermanentFailure, TransientFailure
from workers.domain.ids import LogId
from workers.domain.log.record import LogPosition
from workers.store.history.dialect import home_of
from workers.store.history.schema import NEWEST, migrate
from workers.store.history.store import open_history, opened
from workers.store.history.tables import metadata

CODEC = FakeCodec()


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(new_url: NewUrl) -> None:
    home = home_of(new_url())
    engine = home.engine()
    migrate(home, engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_newest_revision_is_the_one_the_code_names() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [NEWEST]


def test_a_store_is_opened_again_and_kept(new_url: NewUrl) -> None:
    url = new_url()
    for _ in range(2):
        store = open_history(url, CODEC)
        assert store.health().executions == 0
        store.close()


def test_many_may_open_a_new_store_at_once(new_url: NewUrl) -> None:
    url = new_url()
    with ThreadPoolExecutor(6) as pool:
        for store in pool.map(lambda _: open_history(url, CODEC), range(6)):
            assert store.health().executions == 0
            store.close()


def test_a_store_of_a_newer_douse_is_refused_in_one_line_and_left_alone(new_url: NewUrl) -> None:
    url = new_url()
    open_history(url, CODEC).close()
    engine = home_of(url).engine()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))
    with pytest.raises(ConfigError, match="newer Douse") as refused:
        open_history(url, CODEC)
    assert len(str(refused.value).splitlines()) == 1
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["v9999"]
    engine.dispose()


def test_a_store_of_the_first_schema_is_brought_up_with_what_is_in_it(new_url: NewUrl) -> None:
    home = home_of(new_url())
    engine = home.engine()
    migrate(home, engine)
    with engine.begin() as connection:
        for statement in (
            "ALTER TABLE offsets DROP COLUMN born",
            "DROP TABLE audit_anchors",
            "DROP TABLE forgotten",
            "UPDATE alembic_version SET version_num = 'v0001'",
            "INSERT INTO offsets (log_id, topic, partition, next_offset) VALUES ('log', 'response.results', 3, 42)",
        ):
            connection.execute(text(statement))
    store = opened(home, CODEC)
    assert store.next_offset(LogPosition(LogId("log"), "response.results", 3)) == 42
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store.close()
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://u:secret@h/d",
        "oracle+x://h",
        "sqlite:////proc/x/y",
        "postgresql+psycopg://u:secret@h/d?schema=Drop-Me",
        "postgresql+none://u:secret@h/d",
    ],
)
def test_a_url_that_cannot_be_used_is_one_clear_line(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^history: ") as refused:
        open_history(url, CODEC)
    assert len(str(refused.value).splitlines()) == 1
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
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


def test_an_unreachable_server_is_a_transient_failure_and_the_store_works_again_when_it_is_back(
    postgresql: Cluster,
) -> None:
    store = open_history(postgresql.url(), CODEC)
    postgresql.stop()
    try:
        with pytest.raises(TransientFailure):
            store.health()
        with pytest.raises(TransientFailure), store.begin():
            pass
    finally:
        postgresql.start()
    with store.begin() as tx:
        tx.advance(LogPosition(LogId("log"), "t", 0), expected=None, next_offset=1)
    assert store.health().next_offsets == {"t/0": 1}
    store.close()


def test_a_second_writer_waits_for_the_first_and_then_gives_up(new_url: NewUrl) -> None:
    url = new_url()
    first, second = open_history(url, CODEC), open_history(url, CODEC, busy_s=0.05)
    with first.begin() as tx:
        tx.advance(LogPosition(LogId("log"), "t", 0), expected=None, next_offset=1)
        with pytest.raises(TransientFailure), second.begin():
            pass
    with second.begin():
        pass
    first.close()
    second.close()
