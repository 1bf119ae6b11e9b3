"""S3 that is unreachable, slow, resetting, failing or lying: at most one object a command, its digest true, nothing
half done; and a node's credential can do nothing but add under its own name."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.acquire import GATHER, KEY, STORE, AcquireRig
from tests.drivers.quarantine import NODE as DRIVEN
from tests.s3.proxy import FaultyProxy
from tests.s3.rig import NODE, OTHER
from tests.s3.server import ADMIN, GATEWAY, S3Server
from tests.s3.stub import Stub
from workers.domain.errors import ConfigError, LimitExceeded, PermanentFailure, TransientFailure, WorkerError
from workers.domain.ids import NodeId, id_from_cause
from workers.domain.outcome import Outcome, Report
from workers.domain.pace import Pace
from workers.domain.targets.custody import custody_key, object_key
from workers.host.evidence.sources import BytesSource
from workers.settings import S3Settings, StorageSettings, parse
from workers.store.objects.bucket import Bucket, open_bucket
from workers.store.objects.ports import Written
from workers.store.objects.s3 import S3Reader, S3Store

pytestmark = pytest.mark.slow

ID = id_from_cause(1_783_198_004_000_000_000, "s3")
NAME = object_key(NODE, ID)
FAR = Pace(lambda: 0, 1)
"""Never over."""
LARGE = (11 << 20) + 7


def source(data: bytes) -> BytesSource:
    return BytesSource(data, hashlib.sha256(data).hexdigest())


# --- who may do what -------------------------------------------------------------------------------------------------


def denied(call: Callable[[], object]) -> bool:
    try:
        call()
    except PermanentFailure as error:
        return error.reason == "store_refused" and "AccessDenied" in error.message
    return False


def test_a_nodes_credential_adds_under_its_own_name_and_can_do_nothing_else(s3_server: S3Server) -> None:
    prefix = f"t{os.urandom(6).hex()}"
    node, other, admin, gateway = (
        s3_server.bucket(identity, prefix=prefix) for identity in (NODE, OTHER, ADMIN, GATEWAY)
    )
    theirs = object_key(OTHER, ID)
    assert node.put(NAME, b"evidence", "")
    assert other.put(theirs, b"theirs", "")
    upload = other.begin(theirs, "")
    forbidden: dict[str, Callable[[], object]] = {
        "read its own object": lambda: node.get(NAME),
        "look at its own object": lambda: node.head(NAME),
        "read another's object": lambda: node.get(theirs),
        "put under another's name": lambda: node.put(object_key(OTHER, id_from_cause(1, "x")), b"x", ""),
        "put beside the nodes": lambda: node.put("elsewhere", b"x", ""),
        "put under a name that begins like its own": lambda: node.put(f"{NODE}x/y", b"x", ""),
        "begin an upload under another's name": lambda: node.begin(theirs, ""),
        "end another's upload": lambda: node.abort(theirs, upload),
        "look at another's uploads": lambda: node.uploads(f"{OTHER}/"),
        "look at all uploads": lambda: node.uploads(""),
        "delete its own object": lambda: _delete(node, NAME),
        "delete another's object": lambda: _delete(node, theirs),
        "list the bucket": lambda: _list(node),
        "put through the gateway's credential": lambda: gateway.put(NAME + "x", b"x", ""),
        "delete through the gateway's credential": lambda: _delete(gateway, NAME),
    }
    assert [what for what, call in forbidden.items() if not denied(call)] == []
    assert S3Reader(gateway).open(NAME) is not None
    assert {key for key, _ in admin.uploads("")} == {theirs}
    other.abort(theirs, upload)


def _delete(bucket: Bucket, key: str) -> None:
    bucket._requests.send("DELETE", bucket._prefix + key)


def _list(bucket: Bucket) -> None:
    bucket._requests.send("GET", query={"list-type": "2"})


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"access_key": "nobody"}, "InvalidAccessKeyId"),
        ({"secret": "wrong"}, "SignatureDoesNotMatch"),
        ({"bucket": "another"}, "AccessDenied"),
    ],
)
def test_a_wrong_credential_is_refused_for_good_and_named(
    s3_server: S3Server, tmp_path: Path, wrong: dict[str, str], code: str
) -> None:
    secret = tmp_path / "secret"
    known = s3_server.settings(NODE)
    secret.write_text(wrong.pop("secret", known.secret_key_file.read_text()))
    store = S3Store(open_bucket(known.model_copy(update={"secret_key_file": secret, **wrong})), NODE)
    with pytest.raises(PermanentFailure) as caught:
        store.put(NAME, source(b"x"), pace=FAR)
    assert code in caught.value.message
    assert caught.value.reason == "store_refused"
    assert store.answers(), "a refusal is an answer"


# --- the connection is broken ----------------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.port) as made:
        yield made


class Far:
    """A node's store behind a faulty proxy, and what an administrator sees directly."""

    def __init__(self, server: S3Server, proxy: FaultyProxy) -> None:
        prefix = f"t{os.urandom(6).hex()}"
        settings = server.settings(NODE, prefix=prefix, endpoint=proxy.endpoint)
        self.bucket = open_bucket(settings, connect_s=2.0, read_s=2.0)
        self.store = S3Store(self.bucket, NODE)
        self.admin = server.bucket(ADMIN, prefix=prefix)

    def content(self) -> bytes | None:
        found = self.admin.get(NAME)
        return bytes(found.read()) if found is not None else None

    def unfinished(self) -> list[str]:
        return [key for key, _ in self.admin.uploads("")]


@pytest.mark.parametrize("mode", ["refuse", "swallow"])
def test_an_unreachable_store_is_reported_and_used_again_once_it_is_back(
    s3_server: S3Server, proxy: FaultyProxy, mode: str
) -> None:
    far = Far(s3_server, proxy)
    proxy.mode = mode
    assert not far.store.answers()
    with pytest.raises(TransientFailure) as caught:
        far.store.put(NAME, source(b"x"), pace=FAR)
    assert caught.value.reason == "store_unavailable"
    assert len(caught.value.message) < 200
    proxy.mode = "pass"
    assert far.store.put(NAME, source(b"x"), pace=FAR) is Written.NEW
    assert far.content() == b"x"


@pytest.mark.parametrize("parts_before", [0.5, 1.5, 2.05])
def test_an_upload_that_is_reset_resumes_where_it_stopped(
    s3_server: S3Server, proxy: FaultyProxy, parts_before: float
) -> None:
    far = Far(s3_server, proxy)
    data = os.urandom(LARGE)
    proxy.reset_after = round(parts_before * (5 << 20))
    with pytest.raises(TransientFailure):
        far.store.put(NAME, source(data), pace=FAR)
    assert far.content() is None
    assert far.unfinished() == [NAME]
    proxy.uploaded = 0
    assert far.store.put(NAME, source(data), pace=FAR) is Written.NEW
    assert far.content() == data
    assert far.unfinished() == []
    whole_parts = int(parts_before)
    assert proxy.uploaded < LARGE - whole_parts * (5 << 20) + 200_000, "parts that had arrived were not sent again"


def test_time_that_is_over_stops_a_slow_upload_between_parts(s3_server: S3Server, proxy: FaultyProxy) -> None:
    far = Far(s3_server, proxy)
    proxy.pause_s = 0.01
    pace = Pace(time.time_ns, time.time_ns() + 600_000_000)
    with pytest.raises(LimitExceeded) as caught:
        far.store.put(NAME, source(os.urandom(LARGE)), pace=pace)
    assert caught.value.reason == "timed_out"
    assert far.content() is None
    far.store.give_up(NAME)
    assert far.unfinished() == []


def test_a_pause_within_the_time_that_a_run_may_stand_still_breaks_no_part_off(
    s3_server: S3Server, proxy: FaultyProxy
) -> None:
    """Far longer than the store may usually take to answer."""
    far, data = Far(s3_server, proxy), os.urandom(LARGE)
    proxy.stall_after = (5 << 20) + 1_000_000
    waking = threading.Timer(3.5, lambda: setattr(proxy, "stall_after", 0))
    waking.start()
    pace = Pace(time.time_ns, time.time_ns() + 20_000_000_000, 20_000_000_000)
    assert far.store.put(NAME, source(data), pace=pace) is Written.NEW
    waking.join()
    assert far.content() == data
    assert proxy.uploaded < LARGE + 200_000, "a part was sent twice"


# --- the store fails and lies ----------------------------------------------------------------------------------------


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as made:
        yield made


def stubbed(stub: Stub, tmp_path: Path, node: NodeId = NODE) -> S3Store:
    secret = tmp_path / "stub.secret"
    secret.write_text("any")
    settings = S3Settings(
        endpoint=stub.endpoint,
        bucket="evidence",
        access_key="any",
        secret_key_file=secret,
        part_size_mb=5,
        insecure_dev=True,
    )
    return S3Store(open_bucket(settings, connect_s=2.0, read_s=5.0), node)


def patiently(call: Callable[[], Written], tries: int = 5) -> Written:
    """As the retry doorway does, without its pauses."""
    for _ in range(tries - 1):
        try:
            return call()
        except TransientFailure:
            continue
    return call()


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize(
    "plan",
    [
        {"PUT": ["500", "503 SlowDown", "html"]},
        {"PUT": ["400 BadDigest", "garbage"]},
        {"POST": ["500"], "FINISH": ["500", "late error", "400 InvalidPart"]},
        {"FINISH": ["404 NoSuchUpload", "409 ConditionalRequestConflict"]},
        {"GET": ["503", "403 AccessDenied"], "DELETE": ["500"]},
    ],
)
def test_a_store_that_fails_gets_it_once_and_whole(
    stub: Stub, tmp_path: Path, plan: dict[str, list[str]], size: int
) -> None:
    store, data = stubbed(stub, tmp_path), os.urandom(size)
    for what, errors in plan.items():
        stub.plan[what] = list(errors)
    assert patiently(lambda: store.put(NAME, source(data), pace=FAR)) in Written
    assert stub.objects == {NAME: data}
    assert stub.writes == {NAME: 1}
    stub.plan.clear()
    store.give_up(NAME)
    assert store.unfinished() == []


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_tag_that_lies_is_neither_believed_nor_held_against_the_object(stub: Stub, tmp_path: Path, size: int) -> None:
    store, data = stubbed(stub, tmp_path), os.urandom(size)
    stub.lying_tags = True
    assert store.put(NAME, source(data), pace=FAR) is Written.NEW
    assert stub.objects == {NAME: data}


def test_parts_whose_tag_lies_are_sent_again(stub: Stub, tmp_path: Path) -> None:
    store, data = stubbed(stub, tmp_path), os.urandom(LARGE)
    stub.uploads["old"] = (NAME, {1: b"\0" * (5 << 20), 2: data[5 << 20 : 10 << 20]})
    assert store.put(NAME, source(data), pace=FAR) is Written.NEW
    assert stub.objects == {NAME: data}
    assert sum(request == f"PUT {NAME}" for request in stub.requests) == 2, "the one that matched was kept"


@pytest.mark.fault("F7")
def test_an_answer_that_got_lost_is_found_done(stub: Stub, tmp_path: Path) -> None:
    store = stubbed(stub, tmp_path)
    stub.plan["PUT"] = ["lost"]
    with pytest.raises(TransientFailure):
        store.put(NAME, source(b"x"), pace=FAR)
    assert store.put(NAME, source(b"x"), pace=FAR) is Written.THERE
    assert stub.writes == {NAME: 1}


@pytest.mark.parametrize(
    ("planned", "reason", "kind"),
    [
        ("403 AccessDenied", "store_refused", PermanentFailure),
        ("404 NoSuchBucket", "store_refused", PermanentFailure),
        ("400 QuotaExceeded", "store_full", LimitExceeded),
        ("507", "store_full", LimitExceeded),
        ("429 TooManyRequests", "store_unavailable", TransientFailure),
    ],
)
def test_each_refusal_has_its_reason(
    stub: Stub, tmp_path: Path, planned: str, reason: str, kind: type[WorkerError]
) -> None:
    stub.plan["PUT"] = [planned]
    with pytest.raises(kind) as caught:
        stubbed(stub, tmp_path).put(NAME, source(b"x"), pace=FAR)
    assert caught.value.reason == reason


# --- a whole acquisition ---------------------------------------------------------------------------------------------


class Acquiring:
    """The action on real files, with the stub as its store."""

    def __init__(self, stub: Stub, directory: Path) -> None:
        self.stub, self.directory = stub, directory
        self.path = directory / "log"
        self.path.write_bytes(os.urandom(50_000))

    def run(self) -> Report:
        store = stubbed(self.stub, self.directory, DRIVEN)
        return AcquireRig(self.directory / "rig", store=store).acquire(os.fsencode(self.path))

    def again(self) -> Report:
        """What the node does until there is an end."""
        for _ in range(8):
            answer = self.run()
            if answer.outcome is not Outcome.UNKNOWN:
                return answer
        raise AssertionError("no end")


def test_a_store_that_says_stored_and_does_not_have_it_is_caught_where_the_node_may_look(
    stub: Stub, tmp_path: Path
) -> None:
    at = Acquiring(stub, tmp_path)
    stub.plan["PUT"] = ["drop"]
    answer = at.run()
    assert (answer.outcome, answer.code) == (Outcome.FAILED, "object_differs"), answer


def test_failures_of_every_kind_end_in_one_object_with_a_true_digest(stub: Stub, tmp_path: Path) -> None:
    at = Acquiring(stub, tmp_path)
    stub.readable = False
    stub.plan["PUT"] = ["500", "lost", "html", "400 BadDigest", "lost"]
    answer = at.again()
    assert answer.outcome is Outcome.COMPLETED, answer
    assert set(stub.objects) == {KEY, custody_key(KEY)}
    assert set(stub.writes.values()) == {1}
    assert hashlib.sha256(stub.objects[KEY]).hexdigest() == answer.outputs["sha256"]


def driven(directory: Path, path: Path, settings: S3Settings, **more: str) -> subprocess.Popen[bytes]:
    storage: dict[str, Any] = {"s3": json.loads(settings.model_dump_json())}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.drivers.acquire", str(directory), str(path)],
        env={**os.environ, STORE: json.dumps(storage), **more},
        stdout=subprocess.DEVNULL,
    )


def test_killed_in_the_middle_of_a_part_it_leaves_one_object_and_no_orphan(s3_server: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(os.urandom(LARGE))
    prefix = f"t{os.urandom(6).hex()}"
    admin = s3_server.bucket(ADMIN, prefix=prefix)
    with FaultyProxy(s3_server.port) as proxy:
        settings = s3_server.settings(DRIVEN, prefix=prefix, endpoint=proxy.endpoint)
        for kill_after in (2 << 20, 7 << 20, 3 << 20):
            proxy.uploaded, proxy.stall_after = 0, kill_after
            process = driven(tmp_path / "rig", path, settings)
            end = time.monotonic() + 60
            while proxy.uploaded < kill_after and process.poll() is None and time.monotonic() < end:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, "it had ended before it could be killed"
            proxy.cut()  # or what the proxy still holds would arrive after the kill
            proxy.stall_after = 0
            with path.open("ab") as file:
                file.write(b"a line more\n")
        assert driven(tmp_path / "rig", path, settings).wait(60) == 0
    found = admin.get(KEY)
    assert found is not None
    sealed = AcquireRig(tmp_path / "rig").spool.custody(GATHER)
    assert sealed is not None
    assert hashlib.sha256(found.read()).hexdigest() == sealed.sha256
    assert admin.uploads("") == []


def test_the_janitor_finds_and_aborts_unfinished_uploads(s3_server: S3Server) -> None:
    bucket = s3_server.bucket(NODE, prefix=f"t{os.urandom(6).hex()}")
    store = S3Store(bucket, NODE)
    names = [object_key(NODE, id_from_cause(1, str(number))) for number in range(3)]
    for name in names:
        bucket.put_part(name, bucket.begin(name, ""), 1, b"x")
        bucket.begin(name, "")
    assert store.unfinished() == sorted(names)
    for name in names:
        store.give_up(name)
    assert store.unfinished() == []


def test_settings_that_cannot_work_are_refused_before_anything_runs(tmp_path: Path) -> None:
    good = {"bucket": "evidence", "access_key": "a", "secret_key_file": str(tmp_path / "none")}
    for bad in (
        {"s3": {**good, "endpoint": "http://store.example:9000", "insecure_dev": True}},
        {"s3": {**good, "endpoint": "http://127.0.0.1:9000"}},
        {"s3": {**good, "endpoint": "https://store.example/path"}},
        {"s3": {**good, "endpoint": "https://store.example", "bucket": "../x"}},
        {"s3": {**good, "endpoint": "https://store.example"}, "directory": "/x"},
    ):
        with pytest.raises(ConfigError):
            parse(StorageSettings, bad)
    fine = parse(StorageSettings, {"s3": {**good, "endpoint": "https://store.example:9000"}})
    assert fine.s3 is not None
    with pytest.raises(ConfigError, match=r"storage\.s3"):
        open_bucket(fine.s3)
