"""A bit flipped, a file cut, a file deleted: what each store answers at the next start, and while it runs.

The table for operators is in docs/damaged-stores.md; a row of it is a row here.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.chance import FakeRandomness
from workers.domain.errors import ConfigError, PermanentFailure
from workers.domain.ids import NodeId
from workers.domain.log.record import LogPosition, OutRecord
from workers.store.journal import SqliteJournal
from workers.store.ledger import SqliteLedger
from workers.system import yaml_files
from workers.wiring import one_machine

COUNT: Final = 200
NODE: Final = NodeId("a" * 32)
SECRET: Final = b"the-value-of-this-row-"

Store = SqliteLedger | SqliteJournal


def open_ledger(path: Path) -> Store:
    return SqliteLedger(path, randomness=FakeRandomness())


def open_journal(path: Path) -> Store:
    return SqliteJournal(path, node_id=NODE, randomness=FakeRandomness())


def flipped(path: Path) -> None:
    """One bit of the content of one row."""
    data = bytearray(path.read_bytes())
    data[data.index(SECRET + b"150") + 3] ^= 1
    path.write_bytes(data)


def flipped_early(path: Path) -> None:
    """One bit in the log, a few commits before its end."""
    data = bytearray(path.read_bytes())
    data[data.index(SECRET + b"195") + 3] ^= 1
    path.write_bytes(data)


def flipped_first_page(path: Path) -> None:
    """One bit in the header of the file."""
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


def flipped_structure(path: Path) -> None:
    """One bit in the head of every page but the first."""
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page] ^= 0x20
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def cut_log(path: Path) -> None:
    os.truncate(path, 32 + 20 * 4120)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def deleted(path: Path) -> None:
    path.unlink()


def written(make: Callable[[Path], Store], path: Path) -> None:
    """A store as a killed worker leaves it: its last commits in the log."""
    live = path.with_name("live.sqlite")
    with closing(make(live)) as store:
        for number in range(COUNT):
            with store.begin() as tx:
                tx.publish(OutRecord("a.topic", b"key", SECRET + b"%d" % number))
                tx.advance(LogPosition("log", "a.topic", 0), number + 1)  # type: ignore[arg-type]
            if number == COUNT - 10:
                store._database._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        for end in ("", "-wal", "-mark"):
            shutil.copyfile(f"{live}{end}", f"{path}{end}")


@pytest.fixture(params=[open_ledger, open_journal], ids=["ledger", "journal"])
def make(request: pytest.FixtureRequest) -> Callable[[Path], Store]:
    made: Callable[[Path], Store] = request.param
    return made


def checkpointed(path: Path) -> None:
    """All of the log is in the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_an_undamaged_store_starts(make: Callable[[Path], Store], tmp_path: Path) -> None:
    written(make, tmp_path / "s.sqlite")
    with closing(make(tmp_path / "s.sqlite")) as store:
        assert len(store.outbox(limit=1000)) == COUNT


@pytest.mark.parametrize("damage", [flipped, flipped_first_page, flipped_structure, cut, emptied, deleted])
def test_a_damaged_file_is_one_line_at_the_start(
    make: Callable[[Path], Store], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "s.sqlite"
    written(make, path)
    checkpointed(path)
    damage(path)
    with pytest.raises(ConfigError) as caught:
        make(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert "damaged" in line
    assert "move it, its -wal and its -mark away" in line


@pytest.mark.parametrize("damage", [flipped_early, flipped_first_page, cut_log, emptied, deleted])
def test_a_damaged_log_is_one_line_at_the_start(
    make: Callable[[Path], Store], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    """SQLite itself opens what is left and drops the commits behind the damage without a word."""
    path = tmp_path / "s.sqlite"
    written(make, path)
    damage(path.with_name("s.sqlite-wal"))
    with pytest.raises(ConfigError, match=r"its last \d+ commits are gone: its log \(s.sqlite-wal\) was damaged"):
        make(path)


@pytest.mark.parametrize("damage", [flipped_first_page, emptied, deleted])
def test_a_damaged_mark_proves_nothing_and_stops_nothing(
    make: Callable[[Path], Store], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "s.sqlite"
    written(make, path)
    damage(path.with_name("s.sqlite-mark"))
    make(path).close()


def test_an_older_copy_is_one_line_at_the_start(make: Callable[[Path], Store], tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    written(make, path)
    checkpointed(path)
    shutil.copyfile(path, tmp_path / "copy")
    with closing(make(path)) as store, store.begin() as tx:
        tx.publish(OutRecord("a.topic", b"key", b"one more"))
    shutil.copyfile(tmp_path / "copy", path)
    with pytest.raises(ConfigError, match="its last 1 commits are gone"):
        make(path)


def test_a_file_without_digests_gets_them_at_its_next_start(make: Callable[[Path], Store], tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    written(make, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE digests")
    path.with_name("s.sqlite-mark").unlink()
    make(path).close()
    checkpointed(path)
    flipped(path)
    with pytest.raises(ConfigError, match="the content of outbox is not what was written"):
        make(path)


def test_what_is_rolled_back_or_refused_leaves_the_digests_right(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with closing(SqliteLedger(path, randomness=FakeRandomness())) as ledger:
        with suppress(ZeroDivisionError), ledger.begin() as tx:
            tx.put("a", "b", b"c")
            raise ZeroDivisionError
        with ledger.begin() as tx:
            tx.put("a", "b", b"1")
            tx.put("a", "b", b"2", due_ns=5)
            tx.put("a", "c", b"")
            tx.delete("a", "c")
        ledger.verify()
    SqliteLedger(path, randomness=FakeRandomness()).close()


def test_damage_while_it_runs_is_found_when_it_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with closing(SqliteLedger(path, randomness=FakeRandomness())) as ledger:
        with ledger.begin() as tx:
            tx.put("node", "n", SECRET + b"150")
        connection = ledger._database._connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        flipped(path)
        connection.execute("PRAGMA shrink_memory")
        with pytest.raises(PermanentFailure, match="the content of rows is not what was written"):
            ledger.verify()
        with pytest.raises(PermanentFailure, match="is not what was written"), ledger.begin():
            pass


def configured(role: str, home: Path) -> tuple[Path, Path]:
    """The settings file of a worker whose data directory is `home/data`, and its store."""
    node_id = one_machine.one_machine_keys(home / "keys")
    data = home / "data"
    data.mkdir(mode=0o700)
    name = {"node": "journal.sqlite", "dispatcher": "ledger.sqlite", "projector": "history.sqlite"}[role]
    own: dict[str, dict[str, object]] = {
        "node": {"node": {"data_dir": str(data), "id": node_id}},
        "dispatcher": {"ledger": str(data / name), "zones": {"default": 4}},
        "projector": {"history": f"sqlite:///{data / name}"},
    }
    kafka = {
        "bootstrap_servers": "127.0.0.1:1",
        "security": {"protocol": "PLAINTEXT"},
        "insecure_dev": True,
        "log_id": "l",
    }
    keys = {"private_key": str(home / "keys" / f"{role}.key"), "keyset": str(home / "keys" / "keyset.json")}
    yaml_files.write(home / "config.yaml", {"kafka": kafka, "keys": keys, **own[role]})
    return home / "config.yaml", data / name


def only_line(*command: str) -> str:
    """What a command that must end with status 2 prints."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.slow
@pytest.mark.parametrize("role", ["dispatcher", "node"])
def test_a_worker_with_a_damaged_store_ends_with_one_line_and_the_exit_status_of_bad_settings(
    role: str, tmp_path: Path
) -> None:
    config, store = configured(role, tmp_path)
    written(open_ledger if role == "dispatcher" else open_journal, store)
    checkpointed(store)
    flipped(store)
    line = only_line(sys.executable, "-m", "workers", role, "--config", str(config))
    assert line.startswith(f"douse: {store}: is damaged: the content of outbox is not what was written; ")


@pytest.mark.slow
@pytest.mark.parametrize("role", ["dispatcher", "node", "projector"])
def test_a_worker_whose_data_directory_is_read_only_ends_with_one_line(
    role: str, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("root", "mounts a directory read-only, in a mount namespace of its own")
    config, store = configured(role, tmp_path)
    read_only = f"mount --bind {store.parent} {store.parent} && mount -o remount,ro,bind {store.parent}"
    start = f"{read_only} && exec {sys.executable} -m workers {role} --config {config}"
    line = only_line("unshare", "--mount", "sh", "-c", start)
    assert str(store.parent) in line
    assert "Read-only file system" in line
