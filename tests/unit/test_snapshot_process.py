"""snapshot_process on fakes: what is kept, of which process, what is never kept, and what a crash leads to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.fakes.object_store import FakeObjectStore
from tests.fakes.processes import FakeProcess, FakeProcesses
from tests.fakes.spool import FakeSpool
from workers.actions.base import Begun, Done, Job, NotDone, Pending
from workers.actions.snapshot_process import SnapshotProcess
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected, LimitExceeded, TransientFailure
from workers.domain.event import ProcessRef
from workers.domain.ids import EventId, Incarnation, KeyId, NodeId, id_from_cause
from workers.domain.outcome import Outcome, Report
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.target import FileTarget, ProcessTarget, Target
from workers.domain.targets.custody import custody_key, object_key
from workers.domain.targets.process_snapshot import SCHEMA, VERSION, Variable
from workers.domain.targets.redaction import shown_variable
from workers.host.ports import Host

NOON_NS = 1_783_198_004_000_000_000
NODE = NodeId("0" * 32)
ID = id_from_cause(NOON_NS, "snapshot")
KEY = object_key(NODE, ID)
ACTION = SnapshotProcess()
CANARY = "c4n4ry-Zq81"
PID = 4711


@dataclass
class Bench:
    """One process that is observed a second after its start, one spool, one store."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOON_NS))
    spool: FakeSpool = field(default_factory=FakeSpool)
    failpoints: FakeFailpoints = field(default_factory=FakeFailpoints)
    processes: FakeProcesses = field(init=False)
    store: FakeObjectStore = field(init=False)
    process: FakeProcess = field(init=False)
    seen_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self.processes = FakeProcesses(self.clock)
        self.store = FakeObjectStore(NODE, self.clock)
        self.process = self.processes.spawn(PID)
        self.clock.advance(1)
        self.seen_ns = self.clock.now_ns()
        self.clock.advance(1)

    @property
    def host(self) -> Host:
        return Host(self.processes, self.clock, self.failpoints, spool=self.spool, objects=self.store)

    def job(self, target: Target | None = None, **parameters: int) -> Job[Any]:
        command = ActionCommand(
            command_id=ID,
            node_id=NODE,
            node_key=KeyId("k"),
            incarnation=Incarnation("i"),
            action="snapshot_process",
            target=target or ProcessTarget(line=(ProcessRef(pid=PID),), observed_at_ns=self.seen_ns),
            parameters=parameters,
            parameters_sha256=parameters_digest(parameters),
            issued_at_ns=NOON_NS,
            not_before_ns=NOON_NS,
            expires_at_ns=NOON_NS + 300_000_000_000,
            timeout_s=60,
            actor=Actor(ActorKind.RULE, "miners"),
            causation=Causation(event_id=EventId("event-1")),
        )
        return Job(command, ACTION.parse(parameters), self.clock.now_ns() + 60_000_000_000)

    def bind(self, job: Job[Any] | None = None) -> Any:
        job = job or self.job()
        ACTION.admit(job, self.host)
        return ACTION.bind(job, self.host)

    def run(self) -> Report:
        return ACTION.execute(self.job(), self.bind(), self.host)

    def again(self, claim: Any) -> Report:
        match ACTION.probe(self.job(), claim, self.host):
            case Done(report=report) | Pending(report=report):
                return report
            case NotDone() | Begun():
                return ACTION.execute(self.job(), claim, self.host)

    def kept(self) -> dict[str, Any]:
        return dict(json.loads(self.store.objects[KEY]))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_document_is_in_the_store_with_its_custody(bench: Bench) -> None:
    report = bench.run()
    assert report.outcome is Outcome.COMPLETED, report
    kept = bench.kept()
    assert (kept["schema"], kept["version"]) == (SCHEMA, VERSION)
    assert (kept["process"]["pid"], kept["process"]["exe"]) == (PID, "/tmp/xmrig")
    assert report.outputs["sha256"] == hashlib.sha256(bench.store.objects[KEY]).hexdigest()
    assert report.outputs["truncated"] is False
    (custody,) = bench.spool.sealed.values()
    assert (custody.path, custody.action, custody.asked_by) == (b"", "snapshot_process", "rule:miners")
    assert str(PID) in custody.source
    assert bench.processes.effects == 0, "nothing was sent to it"
    assert all(handle.closed for handle in bench.processes.handles)


def test_a_protected_process_may_be_read(bench: Bench) -> None:
    bench.processes.line = (PID, 1)
    assert bench.run().outcome is Outcome.COMPLETED


def test_what_the_environment_holds_is_kept_only_where_it_is_harmless(bench: Bench) -> None:
    entries = ("PATH=/usr/bin", f"DB_PASSWORD={CANARY}", f"ODD={CANARY}", f"{CANARY}", f"LD_PRELOAD=x?token={CANARY}")
    bench.process.environment = tuple(Variable(*shown_variable(entry)) for entry in entries)
    bench.process.facts = replace(bench.process.facts, cgroup=f"/user.slice/token={CANARY}")
    bench.run()
    assert CANARY.encode() not in bench.store.objects[KEY]
    names = [variable["name"] for variable in bench.kept()["environment"]["items"]]
    assert names == ["PATH", "DB_PASSWORD", "ODD", "***", "LD_PRELOAD"]
    assert bench.kept()["environment"]["items"][0]["value"] == "/usr/bin"


# --- refusals, and nothing to do -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "chosen", "code"),
    [
        (FileTarget(path=b"/x", observed_at_ns=NOON_NS), {}, "invalid_target"),
        (None, {"ancestor": 3}, "ancestor_unknown"),
        (ProcessTarget(line=(ProcessRef(pid=PID),), observed_at_ns=0), {}, "identity_missing"),
        (ProcessTarget(line=(ProcessRef(pid=PID),), observed_at_ns=NOON_NS + 5_000_000), {}, "identity_unclear"),
    ],
)
def test_a_target_that_is_not_clear_is_refused(
    bench: Bench, target: Target | None, chosen: dict[str, int], code: str
) -> None:
    with pytest.raises(CommandRejected) as caught:
        bench.bind(bench.job(target, **chosen))
    assert caught.value.reason == code
    assert bench.store.objects == {}


@pytest.mark.parametrize("missing", ["spool", "objects"])
def test_without_a_store_it_is_refused(bench: Bench, missing: str) -> None:
    host = replace(bench.host, spool=None) if missing == "spool" else replace(bench.host, objects=None)
    with pytest.raises(CommandRejected) as caught:
        ACTION.admit(bench.job(), host)
    assert caught.value.reason == "no_store"


def end(bench: Bench) -> None:
    bench.process.end()


def reuse(bench: Bench) -> None:
    bench.processes.spawn(PID, exe="/usr/bin/innocent")


@pytest.mark.parametrize("change", [end, reuse])
@pytest.mark.parametrize("when", ["before the claim", "after it"])
def test_a_process_that_has_ended_is_no_action_and_no_other_process_is_read(
    bench: Bench, change: Callable[[Bench], None], when: str
) -> None:
    if when == "before the claim":
        change(bench)
    claim = bench.bind()
    if when == "after it":
        change(bench)
    report = ACTION.execute(bench.job(), claim, bench.host)
    assert (report.outcome, report.code) == (Outcome.NO_ACTION, "snapshot_process_success_target_gone")
    assert bench.store.objects == {}
    assert bench.spool.kept() == []


def test_a_snapshot_beyond_the_nodes_limit_is_cut_and_marked(bench: Bench) -> None:
    bench.process.environment = tuple(Variable(f"V{number}", None) for number in range(4000))
    bench.spool.largest = 60_000
    report = bench.run()
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["truncated"] is True
    assert len(bench.store.objects[KEY]) <= 60_000
    assert bench.kept()["environment"]["truncated"] is True
    assert "limit" in report.message


def test_a_limit_that_holds_no_snapshot_at_all_fails_it(bench: Bench) -> None:
    bench.spool.largest = 100
    with pytest.raises(LimitExceeded) as caught:
        bench.run()
    assert caught.value.reason == "too_large"
    assert bench.spool.kept() == []


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", SnapshotProcess.failpoints)
def test_a_crash_anywhere_leaves_one_object_whose_digest_is_true(bench: Bench, place: str) -> None:
    claim = bench.bind()
    bench.failpoints.arm(place)
    with pytest.raises(Crash):
        ACTION.execute(bench.job(), claim, bench.host)
    before = dict(bench.store.objects)
    bench.clock.advance(5)  # read now, the document would be another one
    report = bench.again(claim)
    assert report.outcome is Outcome.COMPLETED
    assert set(bench.store.objects) == {KEY, custody_key(KEY)}
    assert hashlib.sha256(bench.store.objects[KEY]).hexdigest() == report.outputs["sha256"]
    assert bench.store.objects | before == bench.store.objects, "nothing was overwritten"
    assert bench.spool.reads == (2 if place == SnapshotProcess.failpoints[0] else 1)


def test_what_was_sealed_is_stored_though_the_process_has_ended_since(bench: Bench) -> None:
    claim = bench.bind()
    bench.store.fail["put"] = [TransientFailure(code="store_unavailable")]
    with pytest.raises(TransientFailure):
        ACTION.execute(bench.job(), claim, bench.host)
    bench.process.end()
    bench.store.away = True
    assert isinstance(ACTION.probe(bench.job(), claim, bench.host), Pending)
    bench.store.away = False
    assert bench.again(claim).outcome is Outcome.COMPLETED
    assert bench.kept()["process"]["pid"] == PID
