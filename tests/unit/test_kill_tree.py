"""kill_process with ``tree`` on a scripted process table: its members, the order of deaths, which are spared."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.failpoints import Crash
from tests.fakes.processes import FakeProcess
from tests.process_bench import SECOND, World, reason_of
from workers.actions.base import Begun, Done, Job, NotDone, Pending
from workers.actions.base.descendants import MOST_NAMED, TreeClaim
from workers.actions.kill_process import KillParameters, KillProcess
from workers.domain.errors import CommandRejected, PermanentFailure
from workers.domain.outcome import Outcome


class Family(World):
    """A root, its two children, and a grandchild under the second."""

    def __init__(self) -> None:
        super().__init__(KillProcess())
        self.died: list[int] = []
        self.root = self.child()
        self.first, self.second = self.child(self.root), self.child(self.root)
        self.grandchild = self.child(self.second)
        self.stranger = self.child()
        self.all = [self.root, self.first, self.second, self.grandchild]
        self.clock.advance(10)

    def child(self, of: FakeProcess | None = None, **facts: object) -> FakeProcess:
        """One more, and the order in which they are killed is kept."""
        made = self.processes.spawn(None, parent_pid=of.facts.pid if of is not None else 1, **facts)
        made.before_signal = lambda number: self.died.append(pid_of(made)) if number == signal.SIGKILL else None
        return made

    def order(self) -> Job[KillParameters]:
        """The whole tree."""
        return self.observed(self.root, tree=True)

    def forks(self, process: FakeProcess, on: int = signal.SIGSTOP, **facts: object) -> list[FakeProcess]:
        """It forks in the very moment that it is stopped; the list has its child then."""
        born: list[FakeProcess] = []

        def fork(number: int) -> None:
            if number == on and not born:
                born.append(self.child(process, **facts))

        process.before_signal = _both(process.before_signal, fork)
        return born

    @property
    def at_large(self) -> list[int]:
        """Members that live and run; none may live and be stopped."""
        assert not [each for each in self.all if each.alive and (each.facts.state == "T" or each.stop_waits)]
        return [pid_of(each) for each in self.all if each.alive]


def _both(one: Callable[[int], None] | None, other: Callable[[int], None]) -> Callable[[int], None]:
    def call(number: int) -> None:
        if one is not None:
            one(number)
        other(number)

    return call


def pid_of(process: FakeProcess) -> int:
    return process.facts.pid


@pytest.fixture
def family() -> Family:
    return Family()


def test_a_process_and_all_its_descendants_die_children_before_their_parents(family: Family) -> None:
    report = family.run(family.order())
    assert (report.outcome, reason_of(report)) == (Outcome.COMPLETED, "killed")
    assert family.at_large == []
    assert family.died == [pid_of(each) for each in (family.grandchild, family.second, family.first, family.root)]
    assert family.stranger.signals == []
    assert (report.outputs["killed"], report.outputs["left"]) == (4, 0)
    assert str(pid_of(family.grandchild)) in str(report.outputs["others"])
    assert str(pid_of(family.root)) not in str(report.outputs["others"])
    assert all(handle.closed for handle in family.processes.handles)


def test_without_it_only_the_one_dies(family: Family) -> None:
    report = family.run(family.observed(family.root))
    assert report.outputs["killed"] == 1
    assert [each.alive for each in family.all] == [False, True, True, True]


def test_the_claim_names_all_descendants_before_any_is_touched(family: Family) -> None:
    claim = family.bind(family.order())
    assert [*claim.named()] == [pid_of(each) for each in (family.first, family.second, family.grandchild)]
    assert family.processes.effects == 0


def test_a_child_that_is_forked_while_its_parent_is_stopped_dies_too(family: Family) -> None:
    born = family.forks(family.first)
    late = family.forks(family.root)
    report = family.run(family.order())
    assert not born[0].alive
    assert not late[0].alive
    assert report.outputs["killed"] == 6


def test_a_process_that_was_handed_to_init_is_no_descendant_any_more(family: Family) -> None:
    family.second.end()
    assert family.run(family.order()).outputs["killed"] == 2
    assert family.grandchild.alive
    assert family.grandchild.signals == []


def test_a_descendant_that_lost_its_parent_after_the_claim_dies_all_the_same(family: Family) -> None:
    job = family.order()
    claim = family.bind(job)
    family.second.end()
    assert family.action.execute(job, claim, family.host).outcome is Outcome.COMPLETED
    assert family.at_large == []


def test_descendants_die_although_their_root_ends_after_the_claim(family: Family) -> None:
    job = family.order()
    claim = family.bind(job)
    family.root.end()
    assert isinstance(family.action.probe(job, claim, family.host), NotDone)
    report = family.action.execute(job, claim, family.host)
    assert (report.outcome, report.outputs["killed"]) == (Outcome.COMPLETED, 3)
    assert family.at_large == []


def test_another_process_that_has_a_descendants_pid_now_is_left_alone(family: Family) -> None:
    job = family.order()
    claim = family.bind(job)
    innocent = family.processes.spawn(pid=pid_of(family.first))
    family.action.execute(job, claim, family.host)
    assert innocent.alive
    assert innocent.signals == []


# --- protected ones ---------------------------------------------------------------------------------------------------


def test_one_protected_descendant_saves_all_and_nothing_is_touched(family: Family) -> None:
    family.processes.line = (pid_of(family.grandchild), 1)
    with pytest.raises(CommandRejected) as refusal:
        family.run(family.order())
    assert refusal.value.reason == "protected_target"
    assert str(pid_of(family.grandchild)) in refusal.value.message
    assert family.processes.effects == 0
    assert all(handle.closed for handle in family.processes.handles)


@pytest.mark.parametrize("again", [False, True], ids=["first attempt", "after a crash"])
def test_a_protected_one_that_is_found_only_then_spares_all_and_all_run_on(family: Family, again: bool) -> None:
    """Except those that were stopped before."""
    family.first.facts = replace(family.first.facts, state="T")
    born = family.forks(family.second)
    job = family.order()
    claim = family.bind(job)
    if again:
        family.failpoints.arm("kill_process.at_rest")
        with pytest.raises(Crash):
            family.action.execute(job, claim, family.host)
    kernel = family.forks(family.grandchild, on=signal.SIGSTOP, kernel_thread=True)
    report = family.action.execute(job, claim, family.host)
    assert (report.outcome, reason_of(report)) == (Outcome.FAILED, "protected_target")
    assert "kernel thread" in report.message
    assert signal.SIGKILL not in kernel[0].signals
    assert family.first.facts.state == "T"
    spared = (family.root, family.second, family.grandchild, born[0], kernel[0])
    assert [each.facts.state for each in spared] == ["S"] * 5
    assert family.died == []
    assert all(handle.closed for handle in family.processes.handles) or again


def test_this_worker_is_never_stopped_even_where_the_claim_did_not_name_it(family: Family) -> None:
    """It could not let itself go on."""
    job = family.order()
    claim = family.bind(job)
    own = family.child(family.second)
    family.processes.line = (pid_of(own), 1)
    report = family.action.execute(job, claim, family.host)
    assert (report.outcome, reason_of(report)) == (Outcome.FAILED, "protected_target")
    assert own.signals == []
    assert [each.facts.state for each in family.all] == ["S"] * 4
    assert family.died == []


# --- some are left ----------------------------------------------------------------------------------------------------


def test_a_process_that_may_not_be_signalled_is_left_and_reported(family: Family) -> None:
    family.second.permitted = False
    report = family.run(family.order())
    assert (report.outcome, reason_of(report)) == (Outcome.PARTIAL, "partly_killed")
    assert (report.outputs["killed"], report.outputs["left"]) == (3, 1)
    assert "may not signal" in report.message
    assert family.at_large == [pid_of(family.second)]


def test_where_no_process_may_be_signalled_it_is_a_failure(family: Family) -> None:
    for each in family.all:
        each.permitted = False
    with pytest.raises(PermanentFailure) as failure:
        family.run(family.order())
    assert failure.value.reason == "permission"


@pytest.mark.parametrize("hold", ["freeze", "stick"])
def test_a_process_that_cannot_die_yet_is_waited_for(family: Family, hold: str) -> None:
    job = family.order()
    for each in family.all if hold == "freeze" else [family.grandchild]:
        getattr(each, hold)()
    claim = family.bind(job)
    report = family.action.execute(job, claim, family.host)
    assert (report.outcome, reason_of(report)) == (Outcome.UNKNOWN, "kill_pending")
    found = family.action.probe(job, claim, family.host)
    assert isinstance(found, Pending)
    assert found.report.outputs["left"] == (4 if hold == "freeze" else 1)
    for each in family.all:
        each.thaw() if hold == "freeze" else each.unstick()
    assert isinstance(family.action.probe(job, claim, family.host), Done)
    assert family.at_large == []


def test_a_process_that_cannot_die_yet_and_is_in_no_claim_is_left(family: Family) -> None:
    """A later look would not find it again."""
    job = family.order()
    claim = family.bind(job)
    late = family.child(family.first)
    late.stick()
    report = family.action.execute(job, claim, family.host)
    assert (report.outcome, reason_of(report)) == (Outcome.PARTIAL, "partly_killed")
    assert (report.outputs["killed"], report.outputs["left"]) == (4, 1)
    assert "state D" in report.message


# --- more than can be held --------------------------------------------------------------------------------------------


class Few(KillProcess):
    """Holds three at once."""

    most_held = 3


def test_a_wide_tree_dies_in_rounds(family: Family) -> None:
    family.action = Few()
    family.all += [family.child(family.root) for _ in range(20)]
    job = family.order()
    claim = replace(family.bind(job), descendants_named="")
    report = family.action.execute(job, claim, family.host)
    assert family.at_large == []
    assert (report.outcome, report.outputs["killed"]) == (Outcome.COMPLETED, 24)
    assert family.died[-1] == pid_of(family.root)


@pytest.mark.parametrize("walked", [True, False])
def test_a_tree_dies_in_rounds_where_descriptors_are_short(family: Family, walked: bool) -> None:
    family.all += [family.child(family.root) for _ in range(60)]
    job = family.order()
    claim = replace(family.bind(job), descendants_named="") if walked else family.bind(job)
    family.processes.descriptors = 30
    report = family.action.execute(job, claim, family.host)
    assert (report.outcome, report.outputs["killed"]) == (Outcome.COMPLETED, 64)
    assert family.at_large == []


def test_of_a_deep_tree_some_may_escape_and_that_is_reported(family: Family) -> None:
    family.action = Few()
    chain = [family.root]
    for _ in range(10):
        chain.append(family.child(chain[-1]))
    family.all += chain
    job = family.order()
    claim = replace(family.bind(job), descendants_named="")
    report = family.action.execute(job, claim, family.host)
    assert report.outcome is Outcome.PARTIAL
    assert "escaped" in report.message
    assert pid_of(family.root) not in family.at_large


def test_a_claim_names_as_many_as_it_holds_and_the_rest_dies_too(family: Family) -> None:
    family.all += [family.child(family.root) for _ in range(MOST_NAMED)]
    job = family.order()
    claim = family.bind(job)
    assert len(claim.named()) == MOST_NAMED
    assert not claim.descendants_named_all
    assert family.action.execute(job, claim, family.host).outputs["killed"] == len(family.all)
    assert family.at_large == []


def test_a_short_time_is_shared_between_looking_and_waiting(family: Family) -> None:
    job = replace(family.order(), deadline_ns=family.clock.now_ns() + SECOND)
    assert family.run(job).outcome is Outcome.COMPLETED
    assert family.at_large == []


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", KillProcess.failpoints)
def test_a_crash_at_any_step_leaves_none_stopped_for_ever_and_none_alive(family: Family, place: str) -> None:
    born = family.forks(family.second)
    job = family.order()
    claim = family.bind(job)
    assert isinstance(family.action.probe(job, claim, family.host), NotDone)
    family.failpoints.arm(place)
    with pytest.raises(Crash):
        family.action.execute(job, claim, family.host)
    found = family.action.probe(job, claim, family.host)
    if place == "kill_process.signalled":
        assert isinstance(found, Done)
        assert (found.report.outcome, found.report.cause) == (Outcome.COMPLETED, "unproven")
    else:
        assert isinstance(found, Begun), "it must go on whatever the time"
        assert family.action.execute(job, claim, family.host).outcome is Outcome.COMPLETED
    assert family.at_large == []
    assert not born[0].alive
    assert len(set(family.died)) == len(family.died), "none was killed twice"


def test_a_dry_run_reports_how_many(family: Family) -> None:
    job = family.order()
    report = family.action.dry_run_report(job, family.bind(job), family.host)
    assert "and its descendants, 3 at present" in report.message
    assert family.processes.effects == 0


TREE = TreeClaim(
    pid=1,
    boot_id="",
    start_ticks=1,
    serial=1,
    started_at=1,
    exe="",
    name="",
    command_line="",
    user_id=0,
    cgroup="",
    container_init=False,
    identity="",
    tree=True,
    stopped_before=False,
    descendants=0,
    descendants_named_all=True,
    descendants_named="",
)

numbers = st.integers(1, (1 << 63) - 1)


people = st.tuples(st.integers(1, 1 << 22), numbers, numbers, st.booleans())


@given(st.dictionaries(st.integers(1, 1 << 22), people, max_size=20))
def test_what_a_claim_names_can_be_read_again(family_of: dict[int, tuple[int, int, int, bool]]) -> None:
    words = [f"{pid}.{up}.{ticks}.{no}{'T' * stopped}" for pid, (up, ticks, no, stopped) in family_of.items()]
    claim = replace(TREE, boot_id="boot", descendants_named=" ".join(words))
    read = {
        pid: (one.parent, one.identity.start_ticks, one.identity.serial, one.stopped_before)
        for pid, one in claim.named().items()
    }
    assert read == family_of


class Wild(Few):
    """Any number at once."""

    def __init__(self, most: int) -> None:
        self.most_held = most  # type: ignore[misc]


@given(data=st.data())
def test_in_any_tree_none_stays_stopped_and_no_protected_one_dies(data: st.DataObject) -> None:
    """Any shape, with any that fork just then, were stopped before or may not be signalled, and a crash anywhere."""
    family = Family()
    crashes = data.draw(st.booleans(), label="crash")
    family.action = Wild(100 if crashes else data.draw(st.integers(2, 12), label="held at once"))
    for parent in data.draw(st.lists(st.integers(0, 20), max_size=12), label="parents"):
        family.all.append(family.child(family.all[parent % len(family.all)]))
    family.clock.advance(10)
    some = st.sets(st.integers(1, len(family.all) - 1), max_size=3)
    stopped = [family.all[number] for number in data.draw(some, label="stopped before")]
    for each in stopped:
        each.facts = replace(each.facts, state="T")
    denied = [family.all[number] for number in data.draw(some, label="not permitted")]
    for each in denied:
        each.permitted = False
    born = [family.forks(family.all[number]) for number in data.draw(some, label="fork")]
    job = family.order()
    claim = family.bind(job)
    if data.draw(st.booleans(), label="one turns out to be protected"):
        family.processes.line = (pid_of(family.all[data.draw(st.integers(1, len(family.all) - 1))]), 1)
    if crashes:
        family.failpoints.arm(data.draw(st.sampled_from(KillProcess.failpoints)))
    try:
        report = family.action.execute(job, claim, family.host)
    except Crash:
        found = family.action.probe(job, claim, family.host)
        report = found.report if isinstance(found, Done) else family.action.execute(job, claim, family.host)
    members = [*family.all, *(child for children in born for child in children)]
    still = [each for each in members if each.alive and each.facts.state == "T" and each not in stopped]
    assert not still
    assert family.stranger.signals == []
    protected = [each for each in members if pid_of(each) in family.processes.line]
    assert all(each.alive for each in protected)
    alive = [each for each in members if each.alive]
    if report.outcome is Outcome.COMPLETED:
        assert not alive
    elif report.outcome is Outcome.FAILED:
        assert len(alive) == len(members)
    else:
        assert report.outcome is Outcome.PARTIAL
    assert len(set(family.died)) == len(family.died)
