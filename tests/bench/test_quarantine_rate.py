"""How fast a file is quarantined, beside the same work done by C tools: hash, compress, sync, read back and compare.

Both start from a file in the page cache, in turns. The tools do not park the file first, keep no manifest and take
nothing away; we do all of that within the time.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.board import Board
from tests.components import require
from tests.drivers.quarantine import MEGABYTE, Rig
from workers.domain.outcome import Outcome
from workers.host.files.ports import VaultLimits

PIPELINE = (
    'set -e; sha256sum "$1" >"$2.sum"; zstd -q -1 "$1" -o "$2"; sync "$2"; zstd -q -dc "$2" | sha256sum >>"$2.sum"'
)
SPARE = 4
"""Times the file's size that must be free."""
SOURCES = (Path("/usr/lib"), Path("/usr/bin"))
"""What malware is made of: executables."""


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A gigabyte of this machine's executables and libraries, over again where it has fewer."""
    path = tmp_path_factory.mktemp("code") / "code"
    if shutil.disk_usage(path.parent).free < 1024 * MEGABYTE * (SPARE + 1):
        pytest.skip("less than 5 GiB are free here")
    found = [p for root in SOURCES for p in root.rglob("*") if p.is_file() and not p.is_symlink()]
    found = [p for p in found if p.stat().st_size > 100_000 and p.read_bytes()[:4] == b"\x7fELF"]
    with path.open("wb") as into:
        while into.tell() < 1024 * MEGABYTE:
            for source in found:
                into.write(source.read_bytes())
    yield path
    path.unlink()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("megabytes", "rounds"), [(50, 7), (1024, 3)])
def test_quarantine_beside_c_tools(
    machine_code: Path, tmp_path: Path, board: Board, megabytes: int, rounds: int
) -> None:
    for tool in ("zstd", "sha256sum", "sync"):
        require(tool, "the same work by C tools")
    size = megabytes * MEGABYTE
    ours, theirs = [], []
    for number in range(rounds):
        theirs.append(megabytes / _by_tools(_fresh(machine_code, tmp_path / "tools", size)))
        ours.append(megabytes / _by_us(_fresh(machine_code, tmp_path / "ours", size), tmp_path / f"vault-{number}"))
    board.compare(
        f"quarantine of {megabytes} MB", "MB/s", ours, "sha256sum, zstd -1, sync, zstd -dc | sha256sum", theirs
    )


def _fresh(machine_code: Path, directory: Path, size: int) -> Path:
    """A file of that size, on disk and in the page cache."""
    directory.mkdir(exist_ok=True)
    path = directory / "file"
    with machine_code.open("rb") as source, path.open("wb") as into:
        while (left := size - into.tell()) > 0:
            into.write(source.read(min(left, MEGABYTE)))
    subprocess.run(["sync", str(path)], check=True)
    path.read_bytes()
    return path


def _by_tools(path: Path) -> float:
    began = time.monotonic()
    subprocess.run(["bash", "-c", PIPELINE, "-", str(path), str(path.with_name("part"))], check=True)
    took = time.monotonic() - began
    one, two = path.with_name("part.sum").read_text().splitlines()
    assert one.split()[0] == two.split()[0]
    shutil.rmtree(path.parent)
    return took


def _by_us(path: Path, vault: Path) -> float:
    rig = Rig(vault, limits=VaultLimits(max_file=2048 * MEGABYTE, quota=4096 * MEGABYTE, reserve=0))
    began = time.monotonic()
    report = rig.quarantine(str(path).encode())
    took = time.monotonic() - began
    assert report.outcome is Outcome.COMPLETED, report
    assert not path.exists()
    shutil.rmtree(vault)
    return took
