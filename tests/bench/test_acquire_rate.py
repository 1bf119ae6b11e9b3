"""How fast a file is acquired, beside the same file by C tools and by a bare put: 50 MB and 1 GB, in turns.

Ours reads the file onto the spool and hashes it, makes that durable, seals what it is, reads it again for the store,
hashes what it sends, makes the object durable (directory) and reads it back where it may; then its custody record goes
the same way. Two baselines for the directory store, each of which ends with the object durable:

* *least*: `sha256sum file; cp file object; sync object`: one reading for the digest, one copy. A crash loses it.
* *same work*: `cp file spool; sync spool; sha256sum spool; cp spool object; sync object; sha256sum object`, the two
  digests compared: what ours does, by tools.

For S3 the baseline is `sha256sum file`, and then the client library's own `fput_object` with the same size of parts, to
the same server with the same credential: no condition, no spool, nothing that survives a crash. The server shares the
two cores with both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from minio import Minio

from tests.bench.board import Board
from tests.components import require
from tests.drivers.acquire import GATHER, AcquireRig
from tests.drivers.quarantine import MEGABYTE
from tests.drivers.quarantine import NODE as DRIVEN
from tests.s3.server import ADMIN, BUCKET, S3Server
from workers.domain.outcome import Outcome
from workers.domain.targets.custody import object_key
from workers.store.objects.ports import ObjectStore
from workers.store.objects.s3 import S3Store

LEAST = 'set -e; sha256sum "$1" >"$2.sum"; cp "$1" "$2.object"; sync "$2.object"'
SAME = (
    'set -e; cp "$1" "$2.spool"; sync "$2.spool"; sha256sum <"$2.spool" >"$2.one"; cp "$2.spool" "$2.object"; '
    'sync "$2.object"; sha256sum <"$2.object" >"$2.two"; cmp "$2.one" "$2.two"; rm "$2.spool"'
)
SIZES = pytest.mark.parametrize(("megabytes", "rounds"), [(50, 7), (1024, 3)])
PART_MB = 16


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A gigabyte, of which the smaller file is a part."""
    path = tmp_path_factory.mktemp("evidence") / "whole"
    if shutil.disk_usage(path.parent).free < 6 * 1024 * MEGABYTE:
        pytest.skip("less than 6 GiB are free here")
    block = os.urandom(MEGABYTE)
    with path.open("wb") as into:
        for _ in range(1024):
            into.write(block)
    yield path
    path.unlink()


@pytest.mark.timeout(900)
@SIZES
def test_acquire_to_a_directory(gigabyte: Path, tmp_path: Path, board: Board, megabytes: int, rounds: int) -> None:
    for tool in ("bash", "sha256sum", "cp", "sync", "cmp"):
        require(tool, "the same work by C tools")
    path = _fresh(gigabyte, tmp_path, megabytes)
    ours, least, same = [], [], []
    for number in range(rounds):
        least.append(megabytes / _timed(lambda: _by_tools(LEAST, path, tmp_path)))
        ours.append(megabytes / _acquired(path, tmp_path / f"rig-{number}"))
        same.append(megabytes / _timed(lambda: _by_tools(SAME, path, tmp_path)))
    what = f"acquire of {megabytes} MB to a directory"
    board.compare(what, "MB/s", ours, "least: sha256sum, cp, sync", least)
    board.compare(what, "MB/s", ours, "same work: cp, sync, sha256sum, cp, sync, sha256sum", same)


@pytest.mark.timeout(1800)
@SIZES
def test_acquire_to_s3(
    gigabyte: Path, tmp_path: Path, board: Board, s3_server: S3Server, megabytes: int, rounds: int
) -> None:
    require("sha256sum", "the same work by C tools")
    path = _fresh(gigabyte, tmp_path, megabytes)
    prefix = f"t{os.urandom(6).hex()}"
    store = S3Store(s3_server.bucket(DRIVEN, prefix=prefix, part_size_mb=PART_MB), DRIVEN)
    settings = s3_server.settings(ADMIN)
    bare = Minio(
        settings.endpoint.partition("://")[2],
        settings.access_key,
        settings.secret_key_file.read_text(),
        secure=False,
        region=settings.region,
    )
    ours, theirs = [], []
    for number in range(rounds):

        def put(name: str = f"bare-{number}") -> None:
            subprocess.run(["sha256sum", str(path)], check=True, stdout=subprocess.DEVNULL)
            bare.fput_object(BUCKET, f"{prefix}/{DRIVEN}/{name}", str(path), part_size=PART_MB * MEGABYTE)

        theirs.append(megabytes / _timed(put))
        ours.append(megabytes / _acquired(path, tmp_path / f"rig-{number}", store))
        for key in (object_key(DRIVEN, GATHER), object_key(DRIVEN, GATHER) + ".custody"):
            bare.remove_object(BUCKET, f"{prefix}/{key}")
    board.compare(f"acquire of {megabytes} MB to S3", "MB/s", ours, "sha256sum, the client's fput_object", theirs)


def _fresh(gigabyte: Path, directory: Path, megabytes: int) -> Path:
    """A file of that size, on disk and in the page cache."""
    path = directory / "file"
    with gigabyte.open("rb") as source, path.open("wb") as into:
        for _ in range(megabytes):
            into.write(source.read(MEGABYTE))
    subprocess.run(["sync", str(path)], check=True)
    with path.open("rb") as file:
        while file.read(MEGABYTE):
            pass
    return path


def _by_tools(script: str, path: Path, directory: Path) -> None:
    subprocess.run(["bash", "-c", script, "-", str(path), str(directory / "tools")], check=True)


def _timed(work: Callable[[], None]) -> float:
    """Seconds. What the work left is not counted, nor is its removal."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _acquired(path: Path, directory: Path, store: ObjectStore | None = None) -> float:
    rig = AcquireRig(directory, store=store, largest=2048 * MEGABYTE)
    began = time.monotonic()
    report = rig.acquire(os.fsencode(path))
    took = time.monotonic() - began
    assert report.outcome is Outcome.COMPLETED, report
    shutil.rmtree(directory)
    return took
