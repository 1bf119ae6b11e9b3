"""get_logs on fakes: whose lines are kept, how many, what is refused, and what a crash or a runtime away leads to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainer, FakeContainers, Written
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.fakes.object_store import FakeObjectStore
from tests.fakes.processes import FakeProcesses
from tests.fakes.spool import FakeSpool
from workers.actions.base import Begun, Done, Job, NotDone, Pending
from workers.actions.get_logs import GetLogs
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.ids import Incarnation, KeyId, NodeId, id_from_cause
from workers.domain.outcome import Outcome, Report
from workers.domain.request import Actor, ActorKind
from workers.domain.target import ContainerTarget, FileTarget, Target
from workers.domain.targets.custody import custody_key, object_key
from workers.host.ports import Host

NOON_NS = 1_783_198_004_000_000_000
SECOND = 1_000_000_000
NODE = NodeId("0" * 32)
ID = id_from_cause(NOON_NS, "logs")
KEY = object_key(NODE, ID)
ACTION = GetLogs()
CONTAINER = "4a7c0de5f1e1"
CANARY = "c4n4ry-Zq81"


@dataclass
class Bench:
    """One container that wrote three lines, one spool, one store."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOON_NS))
    spool: FakeSpool = field(default_factory=FakeSpool)
    failpoints: FakeFailpoints = field(default_factory=FakeFailpoints)
    containers: FakeContainers = field(init=False)
    store: FakeObjectStore = field(init=False)
    container: FakeContainer = field(init=False)
    seen_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self.containers = FakeContainers(self.clock)
        self.store = FakeObjectStore(NODE, self.clock)
        self.container = self.containers.spawn(CONTAINER)
        self.container.written += [Written(text, NOON_NS + n * SECOND) for n, text in enumerate(("one", "two", CANARY))]
        self.clock.advance(10)
        self.seen_ns = self.clock.now_ns()

    @property
    def host(self) -> Host:
        shelves: dict[str, Any] = {"spool": self.spool, "objects": self.store}
        return Host(FakeProcesses(self.clock), self.clock, self.failpoints, containers=self.containers, **shelves)

    def job(self, target: Target | None = None, **parameters: int) -> Job[Any]:
        command = ActionCommand(
            command_id=ID,
            node_id=NODE,
            node_key=KeyId("k"),
            incarnation=Incarnation("i"),
            action="get_logs",
            target=target or ContainerTarget(CONTAINER, self.seen_ns),
            parameters=parameters,
            parameters_sha256=parameters_digest(parameters),
            issued_at_ns=self.seen_ns,
            not_before_ns=NOON_NS,
            expires_at_ns=NOON_NS + 300 * SECOND,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "ada"),
        )
        return Job(command, ACTION.parse(parameters), self.clock.now_ns() + 60 * SECOND)

    def bind(self, job: Job[Any] | None = None) -> Any:
        job = job or self.job()
        ACTION.admit(job, self.host)
        return ACTION.bind(job, self.host)

    def run(self, **parameters: int) -> Report:
        job = self.job(None, **parameters)
        return ACTION.execute(job, self.bind(job), self.host)

    def again(self, claim: Any) -> Report:
        match ACTION.probe(self.job(), claim, self.host):
            case Done(report=report) | Pending(report=report):
                return report
            case NotDone() | Begun():
                return ACTION.execute(self.job(), claim, self.host)

    def kept(self) -> list[str]:
        return [line.rpartition(" ")[2] for line in self.store.objects[KEY].decode().splitlines()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_its_lines_are_in_the_store_with_their_custody_and_in_no_message(bench: Bench) -> None:
    report = bench.run()
    assert report.outcome is Outcome.COMPLETED, report
    assert bench.kept() == ["one", "two", CANARY]
    assert bench.store.objects[KEY].startswith(b"2026-")
    assert report.outputs["sha256"] == hashlib.sha256(bench.store.objects[KEY]).hexdigest()
    (custody,) = bench.spool.sealed.values()
    assert bench.container.facts.ref.id in custody.source
    assert (custody.action, custody.path, custody.truncated) == ("get_logs", b"", False)
    assert CANARY not in repr((report, custody))
    assert bench.containers.effects == 0, "nothing was done to it"


def test_tail_and_since_are_asked_of_its_runtime_since_from_the_sighting(bench: Bench) -> None:
    bench.run(tail=2, since=9)
    assert bench.kept() == ["two", CANARY]
    assert bench.containers.asked == [(2, bench.seen_ns - 9 * SECOND)]


def test_by_default_the_newest_lines_are_asked_for_and_zero_asks_for_all(bench: Bench) -> None:
    bench.run()
    assert bench.containers.asked == [(10_000, 0)]
    other = Bench()
    other.run(tail=0)
    assert other.containers.asked == [(0, 0)]


def test_more_than_this_node_takes_is_cut_at_a_line_and_marked(bench: Bench) -> None:
    bench.spool.largest = len(b"2026-07-04T20:46:44Z stdout F one\n") + 20
    report = bench.run()
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["truncated"] is True
    assert bench.kept() == ["one"]
    assert "limit" in report.message


def test_a_container_that_was_started_again_or_has_ended_is_asked_all_the_same(bench: Bench) -> None:
    bench.containers.restart(bench.container)
    assert bench.run().outcome is Outcome.COMPLETED
    other = Bench()
    other.containers.end(other.container)
    assert other.run().outcome is Outcome.COMPLETED


def test_one_that_wrote_nothing_is_an_empty_object(bench: Bench) -> None:
    bench.container.written.clear()
    assert bench.run().outputs["size"] == 0
    assert bench.store.objects[KEY] == b""


# --- refusals, and nothing to do -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (FileTarget(path=b"/x", observed_at_ns=NOON_NS), "invalid_target"),
        (ContainerTarget("web", NOON_NS), "invalid_target"),
        (ContainerTarget("f" * 64, NOON_NS), "container_unknown"),
    ],
)
def test_what_is_no_container_of_this_node_is_refused(bench: Bench, target: Target, code: str) -> None:
    with pytest.raises(CommandRejected) as caught:
        bench.bind(bench.job(target))
    assert caught.value.reason == code


def test_an_id_of_two_is_refused(bench: Bench) -> None:
    bench.containers.spawn(CONTAINER + "1")
    with pytest.raises(CommandRejected) as caught:
        bench.bind()
    assert caught.value.reason == "container_ambiguous"


@pytest.mark.parametrize(
    ("missing", "code"), [("spool", "no_store"), ("objects", "no_store"), ("containers", "no_runtime")]
)
def test_without_store_or_runtime_it_is_refused(bench: Bench, missing: str, code: str) -> None:
    nothing: dict[str, Any] = {missing: None}
    with pytest.raises(CommandRejected) as caught:
        ACTION.admit(bench.job(), replace(bench.host, **nothing))
    assert caught.value.reason == code


@pytest.mark.parametrize("unheard", [False, True])
def test_one_that_only_the_kernel_knows_has_no_logs_here(bench: Bench, unheard: bool) -> None:
    bench.container.facts = replace(bench.container.facts, unserved="nobody answers", unheard=unheard)
    with pytest.raises(TransientFailure if unheard else CommandRejected, match="nobody answers"):
        bench.bind()


def test_one_that_was_removed_meanwhile_is_no_action(bench: Bench) -> None:
    claim = bench.bind()
    bench.container.removed = True
    report = ACTION.execute(bench.job(), claim, bench.host)
    assert (report.outcome, report.code) == (Outcome.NO_ACTION, "get_logs_success_target_gone")
    assert bench.store.objects == {}


def test_a_runtime_that_gives_no_logs_fails_it_for_good(bench: Bench) -> None:
    bench.container.written.insert(0, Written("", error=PermanentFailure(code="logs_unsupported")))
    with pytest.raises(PermanentFailure) as caught:
        bench.run()
    assert caught.value.reason == "logs_unsupported"
    assert bench.spool.kept() == []


def test_a_stream_that_breaks_off_is_begun_anew_and_nothing_of_it_stays(bench: Bench) -> None:
    claim = bench.bind()
    bench.container.written.insert(2, Written("", error=TransientFailure()))
    with pytest.raises(TransientFailure):
        ACTION.execute(bench.job(), claim, bench.host)
    assert bench.store.objects == {}
    del bench.container.written[2]
    assert bench.again(claim).outcome is Outcome.COMPLETED
    assert bench.kept() == ["one", "two", CANARY]


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", GetLogs.failpoints)
def test_a_crash_anywhere_leaves_one_object_whose_digest_is_true(bench: Bench, place: str) -> None:
    claim = bench.bind()
    bench.failpoints.arm(place)
    with pytest.raises(Crash):
        ACTION.execute(bench.job(), claim, bench.host)
    before = dict(bench.store.objects)
    bench.container.written.append(Written("written since"))
    report = bench.again(claim)
    assert report.outcome is Outcome.COMPLETED
    assert set(bench.store.objects) == {KEY, custody_key(KEY)}
    assert hashlib.sha256(bench.store.objects[KEY]).hexdigest() == report.outputs["sha256"]
    assert bench.store.objects | before == bench.store.objects, "nothing was overwritten"
    assert len(bench.containers.asked) == (2 if place == GetLogs.failpoints[0] else 1)
