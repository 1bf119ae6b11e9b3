"""One behaviour for every object store: the fake, a directory, and a real S3 server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.object_store import FakeObjectStore
from tests.s3.rig import NODE, OTHER, S3Rig
from workers.domain.errors import LimitExceeded, PermanentFailure, WorkerError
from workers.domain.ids import ExecutionId, NodeId, id_from_cause
from workers.domain.pace import Pace
from workers.domain.targets.custody import custody_key, object_key
from workers.host.evidence.sources import BytesSource
from workers.store.objects.directory import DirectoryReader, DirectoryStore
from workers.store.objects.ports import ObjectReader, ObjectSource, ObjectStore, Written

FAR = Pace(lambda: 0, 1)
"""Never over."""


def source(data: bytes) -> BytesSource:
    return BytesSource(data, hashlib.sha256(data).hexdigest())


def execution(name: str) -> ExecutionId:
    return id_from_cause(1_783_198_004_000_000_000, name)


def key(name: str, node: NodeId = NODE) -> str:
    return object_key(node, execution(name))


@dataclass
class Broken:
    """A source whose content is not what was sealed, or whose disk fails."""

    size: int
    error: WorkerError | None = None
    sha256: str = "0" * 64

    def read_at(self, offset: int, length: int) -> bytes:
        if self.error is not None and offset + length >= self.size:
            raise self.error
        return bytes(length)

    def link(self, directory: int, name: str) -> bool:
        del directory, name
        return False

    def close(self) -> None:
        """Nothing is open."""


class Rig(Protocol):
    """A store and what looks into it."""

    store: ObjectStore
    reader: ObjectReader
    large: int
    """Bytes of an object that travels in several parts."""

    def other(self) -> ObjectStore: ...

    def half_done(self, name: str) -> None:
        """Leave an upload of that execution as a crash leaves it."""


@dataclass
class FakeRig:
    store: FakeObjectStore
    large: int = 100

    @property
    def reader(self) -> ObjectReader:
        return self.store

    def other(self) -> ObjectStore:
        return FakeObjectStore(OTHER, self.store.clock, self.store.objects)

    def half_done(self, name: str) -> None:
        self.store.begun.add(key(name))


@dataclass
class DirectoryRig:
    path: Path
    clock: FakeClock
    large: int = 3_000_000

    @property
    def store(self) -> ObjectStore:
        return DirectoryStore(self.path, NODE)

    @property
    def reader(self) -> ObjectReader:
        return DirectoryReader(self.path)

    def other(self) -> ObjectStore:
        return DirectoryStore(self.path, OTHER)

    def half_done(self, name: str) -> None:
        assert self.store.answers()
        (self.path / NODE / f"{execution(name)}.part").write_bytes(b"half")


@pytest.fixture(params=["fake", "directory", "s3"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    match request.param:
        case "fake":
            yield cast(Rig, FakeRig(FakeObjectStore(NODE)))
        case "directory":
            yield cast(Rig, DirectoryRig(tmp_path / "objects", FakeClock()))
        case _:
            yield cast(Rig, S3Rig(request.getfixturevalue("s3_server")))


def content(reader: ObjectReader, name: str) -> bytes | None:
    opened = reader.open(name)
    if opened is None:
        return None
    try:
        found = bytearray()
        while chunk := opened.read(65_536):
            found += chunk
        assert opened.size == len(found)
        return bytes(found)
    finally:
        opened.close()


def put(rig: Rig, name: str, data: bytes) -> Written:
    return rig.store.put(key(name), source(data), pace=FAR)


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_what_was_put_is_what_is_read(rig: Rig, size: int) -> None:
    data = os.urandom(size)
    assert put(rig, "small", data) is Written.NEW
    assert content(rig.reader, key("small")) == data


def test_a_large_object_arrives_whole(rig: Rig) -> None:
    data = os.urandom(rig.large)
    assert put(rig, "large", data) is Written.NEW
    assert content(rig.reader, key("large")) == data
    assert rig.store.unfinished() == []


@pytest.mark.parametrize("large", [False, True])
def test_a_name_that_is_taken_keeps_what_it_has(rig: Rig, large: bool) -> None:
    data = os.urandom(rig.large if large else 10)
    assert put(rig, "taken", data) is Written.NEW
    assert put(rig, "taken", os.urandom(rig.large if large else 10)) is Written.THERE
    assert put(rig, "taken", b"small") is Written.THERE
    assert content(rig.reader, key("taken")) == data
    assert rig.store.unfinished() == []


def test_an_object_and_its_custody_record_are_two_names(rig: Rig) -> None:
    assert put(rig, "both", b"object") is Written.NEW
    assert rig.store.put(custody_key(key("both")), source(b"record"), pace=FAR) is Written.NEW
    assert content(rig.reader, key("both")) == b"object"
    assert content(rig.reader, custody_key(key("both"))) == b"record"


def test_what_was_never_put_is_not_there(rig: Rig) -> None:
    assert content(rig.reader, key("nothing")) is None


def test_nodes_do_not_see_each_others_objects(rig: Rig) -> None:
    assert put(rig, "mine", b"mine") is Written.NEW
    theirs = key("mine", OTHER)
    assert rig.other().put(theirs, source(b"theirs"), pace=FAR) is Written.NEW
    assert content(rig.reader, key("mine")) == b"mine"
    assert content(rig.reader, theirs) == b"theirs"


@pytest.mark.parametrize("name", ["", "/etc/passwd", f"{NODE}/../x", key("x", OTHER), NODE, f"{NODE}/", f"{NODE}/x"])
def test_a_key_of_another_node_is_a_programming_error(rig: Rig, name: str) -> None:
    for call in (
        lambda: rig.store.put(name, source(b"x"), pace=FAR),
        lambda: rig.store.holds(name, source(b"x"), pace=FAR),
        lambda: rig.store.give_up(name),
    ):
        with pytest.raises(ValueError, match="is not a key of this node"):
            call()


@pytest.mark.parametrize("name", ["", "/etc/passwd", f"{NODE}/../x", "../x", f"{NODE}/x"])
def test_only_object_keys_are_read(rig: Rig, name: str) -> None:
    with pytest.raises(ValueError, match="is not an object key"):
        rig.reader.open(name)


@pytest.mark.parametrize("large", [False, True])
def test_bytes_that_are_not_what_was_sealed_never_get_the_name(rig: Rig, large: bool) -> None:
    with pytest.raises(PermanentFailure) as caught:
        rig.store.put(key("changed"), Broken(rig.large if large else 10), pace=FAR)
    assert caught.value.reason == "spool_damaged"
    assert content(rig.reader, key("changed")) is None
    assert rig.store.unfinished() == []


@pytest.mark.parametrize("large", [False, True])
def test_a_disk_that_fails_leaves_no_object_and_what_it_leaves_is_found(rig: Rig, large: bool) -> None:
    failing = Broken(rig.large if large else 10, PermanentFailure("EIO", code="io_error"))
    with pytest.raises(PermanentFailure) as caught:
        rig.store.put(key("failing"), cast(ObjectSource, failing), pace=FAR)
    assert caught.value.reason == "io_error"
    assert content(rig.reader, key("failing")) is None
    rig.store.give_up(key("failing"))
    assert rig.store.unfinished() == []


def test_a_deadline_that_has_passed_stops_it(rig: Rig) -> None:
    with pytest.raises(LimitExceeded) as caught:
        rig.store.put(key("late"), source(b"x"), pace=Pace(lambda: 1, 0))
    assert caught.value.reason == "timed_out"
    assert content(rig.reader, key("late")) is None


def test_an_unfinished_upload_is_found_and_aborted(rig: Rig) -> None:
    rig.half_done("half")
    rig.half_done("other half")
    assert rig.store.unfinished() == sorted([key("half"), key("other half")])
    assert content(rig.reader, key("half")) is None
    rig.store.give_up(key("half"))
    rig.store.give_up(key("half"))
    assert rig.store.unfinished() == [key("other half")]
    rig.store.give_up(key("other half"))
    assert rig.store.unfinished() == []


def test_an_unfinished_upload_is_resumed(rig: Rig) -> None:
    rig.half_done("again")
    data = os.urandom(rig.large)
    assert put(rig, "again", data) is Written.NEW
    assert content(rig.reader, key("again")) == data
    assert rig.store.unfinished() == []


def test_a_store_holds_only_the_very_object(rig: Rig) -> None:
    """Where the node may look at all."""
    may_look: list[Callable[[], bool | None]] = [
        lambda: rig.store.holds(key("seen"), source(b"object"), pace=FAR),
        lambda: rig.store.holds(key("seen"), source(b"another"), pace=FAR),
    ]
    assert may_look[0]() in (False, None)
    assert put(rig, "seen", b"object") is Written.NEW
    assert [look() for look in may_look] in ([True, False], [None, None])


def test_a_store_does_not_hold_an_object_that_was_changed_after_it_was_made(tmp_path: Path) -> None:
    rig = DirectoryRig(tmp_path / "objects", FakeClock())
    store, sent = rig.store, source(b"object")
    assert store.put(key("seen"), sent, pace=FAR) is Written.NEW
    path = rig.path / key("seen")
    path.chmod(0o600)
    path.write_bytes(b"forged")
    path.chmod(0o400)
    os.utime(path, ns=(0, 0))
    assert store.holds(key("seen"), sent, pace=FAR) is False


def test_a_store_that_can_be_reached_answers(rig: Rig) -> None:
    assert rig.store.answers()
