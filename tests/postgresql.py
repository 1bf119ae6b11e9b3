"""A PostgreSQL cluster of the suite's own: made in a temporary directory, on a Unix socket, gone afterwards.

Used through the fixtures `postgresql` and `history_url`. Needs Debian's package `postgresql` and nothing that runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.components import require

_DEBIAN: Final = Path("/usr/lib/postgresql")
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",  # what is tested is what clients see; no test pulls the plug
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "lc_messages": "C",
}


def _programs() -> Path | None:
    """Where `initdb` and `pg_ctl` are: Debian keeps them off the PATH, one directory a version."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Cluster:
    """One server."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._home = Path(tempfile.mkdtemp(prefix="douse-postgresql-"))
        # The server refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._home, self._user)
        self._names = count()
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-instructions",
                  "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")  # fmt: skip
        self.start()

    def url(self, schema: str = "") -> str:
        """Of a store that is not there yet; each call names another unless `schema` says which."""
        name = schema or f"douse_{next(self._names)}"
        return f"postgresql+psycopg://postgres@/postgres?host={self._home}&schema={name}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = " ".join(f"-c {name}='{value}'" for name, value in _SETTINGS.items())
        log = self._home / "log"
        self._run("pg_ctl", "start", "-w", "-s", "-l", str(log), "-o", f"{settings} -k {self._home}")

    def stop(self) -> None:
        """End every connection and stop it."""
        self._run("pg_ctl", "stop", "-m", "fast", "-s", "-w")

    def remove(self) -> None:
        """Nothing of it stays."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-s", "-w")
        shutil.rmtree(self._home)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._home / "data"), *arguments]
        # To a file: the server that pg_ctl starts would hold a pipe open.
        with (self._home / "out").open("a") as out:
            done = subprocess.run(command, user=self._user, cwd=self._home, stdout=out, stderr=out, timeout=60)
        assert done.returncode == 0, (self._home / "out").read_text() + _text_of(self._home / "log")


def _text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A server for the whole run."""
    programs = _programs()
    require("postgresql", "history stores are tested in it too", present=programs is not None)
    assert programs is not None
    cluster = Cluster(programs)
    yield cluster
    cluster.remove()


NewUrl = Callable[[], str]
"""Names a history store that is not there yet."""


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> NewUrl:
    """Runs the test once on each database."""
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgresql")
        return cluster.url
    names = count()
    return lambda: f"sqlite:///{tmp_path}/history-{next(names)}.sqlite"
