"""file_acquire on fakes: what is refused, what is kept, and what each crash and each failure of the store leads to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.fakes.object_store import FakeObjectStore
from tests.fakes.processes import FakeProcesses
from tests.fakes.spool import FakeSpool
from workers.actions.base import Begun, Done, Job, NotDone, Pending
from workers.actions.base.gathering import KEPT_NS
from workers.actions.file_acquire import FileAcquire
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected, LimitExceeded, PermanentFailure, TransientFailure, WorkerError
from workers.domain.ids import EventId, Incarnation, KeyId, NodeId, id_from_cause
from workers.domain.node_state import Progress
from workers.domain.outcome import Outcome, Report, Values
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.target import FileTarget, ReviewedFile, Target
from workers.domain.targets.custody import custody_key, object_key
from workers.domain.targets.file import FileKind, Location
from workers.domain.targets.protected_files import ProtectedPaths
from workers.host.ports import Host
from workers.node.live_state import Uploads

NOON_NS = 1_783_198_004_000_000_000
NODE = NodeId("0" * 32)
ID = id_from_cause(NOON_NS, "acquire")
KEY = object_key(NODE, ID)
PATH = b"/tmp/xmrig"
ACTION = FileAcquire()
AWAY = "store_unavailable"


@dataclass
class Bench:
    """One file, one spool, one store."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOON_NS))
    spool: FakeSpool = field(default_factory=FakeSpool)
    failpoints: FakeFailpoints = field(default_factory=FakeFailpoints)
    uploads: Uploads = field(default_factory=Uploads)
    store: FakeObjectStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = FakeObjectStore(NODE, self.clock)
        self.put(b"malware")

    def put(self, content: bytes, **more: Any) -> None:
        self.spool.disk.put(PATH, content, **more)

    @property
    def host(self) -> Host:
        return Host(
            FakeProcesses(self.clock),
            self.clock,
            self.failpoints,
            spool=self.spool,
            objects=self.store,
            progress=self.uploads,
        )

    def job(self, target: Target | None = None, *, path: bytes = PATH, **more: Any) -> Job[Any]:
        parameters: Values = more.pop("parameters", {})
        command = ActionCommand(
            command_id=ID,
            node_id=NODE,
            node_key=KeyId("k"),
            incarnation=Incarnation("i"),
            action="file_acquire",
            target=target or FileTarget(path=path, observed_at_ns=NOON_NS),
            parameters=parameters,
            parameters_sha256=parameters_digest(parameters),
            issued_at_ns=NOON_NS,
            not_before_ns=NOON_NS,
            expires_at_ns=NOON_NS + 300_000_000_000,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "ada"),
            reason="look into it",
            causation=Causation(event_id=EventId("event-1")),
        )
        return Job(replace(command, **more), ACTION.parse(parameters), self.clock.now_ns() + 60_000_000_000)

    def bind(self, job: Job[Any] | None = None) -> Any:
        job = job or self.job()
        ACTION.admit(job, self.host)
        return ACTION.bind(job, self.host)

    def run(self) -> Report:
        return ACTION.execute(self.job(), self.bind(), self.host)

    def again(self, claim: Any) -> Report:
        """What a node does with a claim that it finds after a crash."""
        match ACTION.probe(self.job(), claim, self.host):
            case Done(report=report) | Pending(report=report):
                return report
            case NotDone() | Begun():
                return ACTION.execute(self.job(), claim, self.host)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def refusal(bench: Bench, job: Job[Any] | None = None) -> str:
    with pytest.raises(CommandRejected) as caught:
        bench.bind(job)
    assert bench.spool.reads == 0
    assert bench.store.objects == {}
    return caught.value.reason


def test_the_content_is_in_the_store_with_its_custody(bench: Bench) -> None:
    report = bench.run()
    assert report.outcome is Outcome.COMPLETED
    assert bench.store.objects[KEY] == b"malware"
    assert report.outputs["sha256"] == hashlib.sha256(b"malware").hexdigest()
    assert (report.outputs["object_key"], report.outputs["custody_key"]) == (KEY, custody_key(KEY))
    assert not report.effect_holds
    (custody,) = bench.spool.sealed.values()
    assert (custody.asked_by, custody.reason, custody.event_id) == ("person:ada", "look into it", "event-1")
    assert (custody.path, custody.node_id, custody.size) == (PATH, NODE, 7)
    assert bench.spool.copies == {}


def test_a_node_that_may_not_read_back_reports_it(bench: Bench) -> None:
    bench.store.readable = False
    report = bench.run()
    assert report.outcome is Outcome.COMPLETED
    assert report.post_condition is not None
    assert "may not read it back" in report.post_condition.detail


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [FileKind.DIRECTORY, FileKind.SYMLINK, FileKind.FIFO, FileKind.SOCKET, FileKind.DEVICE]
)
def test_only_regular_files_are_taken(bench: Bench, kind: FileKind) -> None:
    bench.put(b"", kind=kind)
    assert refusal(bench) == "not_regular"


def test_what_is_too_large_is_refused_before_it_is_read(bench: Bench) -> None:
    bench.put(b"x", size=1 << 40)
    assert refusal(bench) == "too_large"


def test_a_name_that_nothing_has_is_refused(bench: Bench) -> None:
    assert refusal(bench, bench.job(path=b"/tmp/nothing")) == "missing"


def test_kernel_files_are_never_read(bench: Bench) -> None:
    bench.put(b"", filesystem="proc")
    assert refusal(bench) == "protected_target"


def test_this_workers_own_files_are_never_read(bench: Bench) -> None:
    facts = bench.spool.examine(Location(PATH))
    assert facts is not None
    bench.spool.own = ProtectedPaths({}, {facts.parent: "holds this node's keys"})
    assert refusal(bench, bench.job(approval_class="two")) == "protected_target"


@pytest.mark.parametrize("path", [b"/root/.ssh/id_ed25519", b"/home/a/.kube/config", b"/srv/tls/server.key"])
def test_a_secret_takes_two_people(bench: Bench, path: bytes) -> None:
    bench.spool.disk.put(path)
    assert refusal(bench, bench.job(path=path)) == "approval_missing"
    assert bench.bind(bench.job(path=path, approval_class="two"))


def test_a_hard_link_to_a_secret_is_the_secret(bench: Bench) -> None:
    facts = bench.spool.examine(Location(PATH))
    assert facts is not None
    bench.spool.secret = ProtectedPaths({facts.identity: "holds this machine's passwords"})
    assert refusal(bench) == "approval_missing"


def test_a_network_filesystem_takes_the_flag(bench: Bench) -> None:
    bench.put(b"x", filesystem="fuse.sshfs")
    assert refusal(bench) == "remote_filesystem"
    assert bench.bind(bench.job(parameters={"allow_remote": True}))


@pytest.mark.parametrize("missing", ["spool", "objects"])
def test_without_a_store_it_is_refused(bench: Bench, missing: str) -> None:
    host = replace(bench.host, spool=None) if missing == "spool" else replace(bench.host, objects=None)
    with pytest.raises(CommandRejected) as caught:
        ACTION.admit(bench.job(), host)
    assert caught.value.reason == "no_store"


def test_a_reviewed_file_is_the_one_that_was_reviewed(bench: Bench) -> None:
    facts = bench.spool.examine(Location(PATH))
    assert facts is not None
    reviewed = ReviewedFile(
        facts.identity.device,
        facts.identity.inode,
        facts.size,
        facts.mtime_ns,
        facts.ctime_ns,
        hashlib.sha256(b"malware").hexdigest(),
        1,
    )
    target = FileTarget(path=PATH, observed_at_ns=NOON_NS, reviewed=reviewed)
    assert bench.bind(bench.job(target)).identity == "reviewed"
    changed = replace(target, reviewed=replace(reviewed, mtime_ns=99))
    assert refusal(bench, bench.job(changed)) == "target_changed"
    other = bench.job(replace(target, reviewed=replace(reviewed, sha256="0" * 64)))
    claim = bench.bind(other)
    with pytest.raises(PermanentFailure) as caught:
        ACTION.execute(other, claim, bench.host)
    assert caught.value.reason == "target_changed"
    assert bench.store.objects == {}
    assert bench.spool.kept() == []


# --- a file that changes meanwhile ------------------------------------------------------------------------------------


def test_another_file_under_the_name_is_not_taken(bench: Bench) -> None:
    claim = bench.bind()
    bench.put(b"another")
    with pytest.raises(PermanentFailure) as caught:
        ACTION.execute(bench.job(), claim, bench.host)
    assert caught.value.reason == "target_changed"
    assert bench.store.objects == {}


def test_a_file_that_is_written_to_is_kept_as_it_was_read_and_marked(bench: Bench) -> None:
    def grow() -> None:
        bench.spool.disk.files[PATH].content += b" and more"

    bench.spool.during = grow
    report = bench.run()
    assert report.outputs["content_changed"] is True
    assert bench.store.objects[KEY] == b"malware"
    assert report.outputs["sha256"] == hashlib.sha256(b"malware").hexdigest()


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", FileAcquire.failpoints)
def test_a_crash_anywhere_leaves_one_object_whose_digest_is_true(bench: Bench, place: str) -> None:
    claim = bench.bind()
    bench.failpoints.arm(place)
    with pytest.raises(Crash):
        ACTION.execute(bench.job(), claim, bench.host)
    before = dict(bench.store.objects)
    bench.spool.disk.files[PATH].content += b", grown since"
    report = bench.again(claim)
    assert report.outcome is Outcome.COMPLETED
    assert set(bench.store.objects) == {KEY, custody_key(KEY)}
    assert hashlib.sha256(bench.store.objects[KEY]).hexdigest() == report.outputs["sha256"]
    assert bench.store.objects | before == bench.store.objects, "nothing was overwritten"
    assert bench.spool.reads == (2 if place == FileAcquire.failpoints[0] else 1)


def test_a_crash_after_everything_is_no_second_run(bench: Bench) -> None:
    claim = bench.bind()
    ACTION.execute(bench.job(), claim, bench.host)
    found = ACTION.probe(bench.job(), claim, bench.host)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.COMPLETED
    assert len(bench.store.puts) == 2


def test_a_growing_log_through_three_crashes_is_one_object(bench: Bench) -> None:
    claim = bench.bind()
    for place in ("file_acquire.a0", "file_acquire.a1", "file_acquire.a2"):
        bench.failpoints.arm(place)
        with pytest.raises(Crash):
            bench.again(claim)
        bench.spool.disk.files[PATH].content += b"\nanother line"
    report = bench.again(claim)
    assert report.outcome is Outcome.COMPLETED
    assert set(bench.store.objects) == {KEY, custody_key(KEY)}
    assert hashlib.sha256(bench.store.objects[KEY]).hexdigest() == report.outputs["sha256"]


def test_an_object_of_a_forgotten_life_is_never_overwritten_nor_given_another_digest(bench: Bench) -> None:
    bench.store.objects[KEY] = b"older"
    claim = bench.bind()
    with pytest.raises(PermanentFailure) as caught:
        ACTION.execute(bench.job(), claim, bench.host)
    assert caught.value.reason == "spool_lost"
    assert bench.store.objects == {KEY: b"older"}
    assert bench.spool.kept() == []


def test_where_nothing_can_be_read_back_a_forgotten_object_is_still_not_claimed(bench: Bench) -> None:
    bench.store.objects[KEY] = b"malware"
    bench.store.readable = False
    with pytest.raises(PermanentFailure) as caught:
        bench.run()
    assert caught.value.reason == "spool_lost"


# --- the store -------------------------------------------------------------------------------------------------------


def test_an_answer_that_got_lost_is_asked_for_again_and_found_done(bench: Bench) -> None:
    claim = bench.bind()
    bench.store.after["put"] = [TransientFailure(code=AWAY)]
    with pytest.raises(TransientFailure):
        ACTION.execute(bench.job(), claim, bench.host)
    assert bench.again(claim).outcome is Outcome.COMPLETED
    assert bench.spool.reads == 1


def test_while_the_store_is_unavailable_the_copy_waits(bench: Bench) -> None:
    claim = bench.bind()
    bench.store.fail["put"] = [TransientFailure(code=AWAY)]
    with pytest.raises(TransientFailure):
        ACTION.execute(bench.job(), claim, bench.host)
    bench.store.away = True
    waiting = ACTION.probe(bench.job(), claim, bench.host)
    assert isinstance(waiting, Pending)
    assert (waiting.report.outcome, waiting.report.code) == (Outcome.UNKNOWN, "file_acquire_error_upload_pending")
    bench.spool.disk.files.clear()  # what was sealed no longer needs the file
    bench.store.away = False
    assert isinstance(ACTION.probe(bench.job(), claim, bench.host), Begun)
    assert bench.again(claim).outcome is Outcome.COMPLETED
    assert bench.store.objects[KEY] == b"malware"


def test_a_store_that_stays_unavailable_ends_it(bench: Bench) -> None:
    claim = bench.bind()
    bench.store.fail["put"] = [TransientFailure(code=AWAY)]
    with pytest.raises(TransientFailure):
        ACTION.execute(bench.job(), claim, bench.host)
    job = bench.job()
    bench.clock.advance(301 + KEPT_NS / 1e9)
    ended = ACTION.probe(job, claim, bench.host)
    assert isinstance(ended, Done)
    assert (ended.report.outcome, ended.report.code) == (Outcome.FAILED, "file_acquire_error_store_unavailable")


@pytest.mark.parametrize(
    "error", [PermanentFailure(code="store_refused"), LimitExceeded(code="store_full"), LimitExceeded(code="timed_out")]
)
def test_a_store_that_refuses_ends_it_and_nothing_stays(bench: Bench, error: PermanentFailure | LimitExceeded) -> None:
    bench.store.fail["put"] = [error]
    if error.reason == "timed_out":
        assert bench.run().outcome is Outcome.TIMED_OUT
    else:
        with pytest.raises(type(error)):
            bench.run()
    assert bench.spool.kept() == []
    assert bench.store.unfinished() == []
    assert bench.store.objects == {}


def test_a_store_that_has_something_else_under_the_name_is_not_believed(bench: Bench) -> None:
    claim = bench.bind()
    bench.store.after["put"] = [TransientFailure(code=AWAY)]
    with pytest.raises(TransientFailure):
        ACTION.execute(bench.job(), claim, bench.host)
    bench.store.objects[KEY] = b"changed by the store"
    with pytest.raises(PermanentFailure) as caught:
        bench.again(claim)
    assert caught.value.reason == "object_differs"


def test_a_custody_record_that_was_tampered_with_is_none(bench: Bench) -> None:
    claim = bench.bind()
    bench.failpoints.arm("file_acquire.a1")
    with pytest.raises(Crash):
        ACTION.execute(bench.job(), claim, bench.host)
    bench.spool.fail["custody"] = [PermanentFailure(code="custody_damaged")] * 2
    assert bench.again(claim).outcome is Outcome.COMPLETED
    assert bench.spool.reads == 2


def test_a_full_disk_fails_it_and_leaves_nothing(bench: Bench) -> None:
    bench.spool.fail["seal"] = [LimitExceeded(code="failed_enospc")]
    with pytest.raises(LimitExceeded):
        bench.run()
    assert bench.spool.kept() == []
    assert bench.store.objects == {}


# --- how far it is ---------------------------------------------------------------------------------------------------


def reported_parts(bench: Bench) -> list[tuple[Progress, ...]]:
    """What a heartbeat would report at each part that the store has taken, from here on."""
    reported: list[tuple[Progress, ...]] = []
    bench.store.part_size = 3
    bench.store.taken = lambda: reported.append(bench.uploads.now())
    return reported


def test_while_the_store_takes_parts_the_progress_is_reported(bench: Bench) -> None:
    reported = reported_parts(bench)
    assert bench.run().outcome is Outcome.COMPLETED
    assert reported[:3] == [(Progress(ID, done, 7),) for done in (0, 3, 6)], "of the part under way nothing is counted"
    assert len(reported) > 3
    assert set(reported[3:]) == {(Progress(ID, 7, 7),)}, "the custody record is no progress of its own"
    assert bench.uploads.now() == ()


def test_an_upload_that_the_store_has_not_begun_is_reported_too(bench: Bench) -> None:
    reported: list[tuple[Progress, ...]] = []
    bench.store.asked = lambda: reported.append(bench.uploads.now())
    bench.run()
    assert reported == [(Progress(ID, 0, 7),), (Progress(ID, 7, 7),)], "the object's put, and its custody record's"


@pytest.mark.parametrize("place", FileAcquire.failpoints)
def test_a_crash_anywhere_leaves_no_progress(bench: Bench, place: str) -> None:
    bench.failpoints.arm(place)
    with pytest.raises(Crash):
        bench.run()
    assert bench.uploads.now() == ()


@pytest.mark.parametrize(
    "error", [TransientFailure(code=AWAY), PermanentFailure(code="store_refused"), LimitExceeded(code="store_full")]
)
@pytest.mark.parametrize("call", ["put", "holds"])
def test_a_failure_leaves_no_progress_and_the_next_try_reports_again(
    bench: Bench, error: WorkerError, call: str
) -> None:
    claim = bench.bind()
    reported = reported_parts(bench)
    bench.store.fail[call] = [error]
    with pytest.raises(type(error)):
        ACTION.execute(bench.job(), claim, bench.host)
    assert bench.uploads.now() == ()
    reported.clear()
    if isinstance(error, TransientFailure):
        assert bench.again(claim).outcome is Outcome.COMPLETED
        assert [progress.done for (progress,) in reported[:3]] == [0, 3, 6]
        assert bench.uploads.now() == ()


def test_a_part_that_cannot_be_taken_leaves_no_progress(bench: Bench) -> None:
    reported = reported_parts(bench)

    def break_off() -> None:
        reported.append(bench.uploads.now())
        raise TransientFailure(code=AWAY)

    bench.store.taken = break_off
    with pytest.raises(TransientFailure):
        bench.run()
    assert reported == [(Progress(ID, 0, 7),)]
    assert bench.uploads.now() == ()
