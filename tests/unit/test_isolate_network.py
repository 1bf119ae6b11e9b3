"""isolate_network and its undo: tried, tested, kept or taken back, and released; brokers are never cut off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.container_bench import code_of
from tests.fakes.failpoints import Crash
from tests.fakes.network import BROKER, JUMP, STORE
from tests.network_bench import FORWARD, ISOLATE, OTHER, RELEASE, World
from workers.actions.base import Begun, Done, NotDone, Pending
from workers.actions.isolate_network import IsolateNetwork
from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome
from workers.domain.target import ContainerTarget, NetworkTarget, Target


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    assert made.network.held == 0, "a namespace was not let go of"


def refused(world: World, target: Target) -> str:
    with pytest.raises(CommandRejected) as caught:
        world.bind(target)
    assert world.network.effects == 0
    return caught.value.reason


# --- what it does ----------------------------------------------------------------------------------------------------


def test_a_host_keeps_its_lifelines_and_what_the_operator_allows(world: World) -> None:
    report = world.isolate(world.of_host)
    assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
    assert world.network.here.log == ["begin", "keep"]
    isolation = world.network.here.isolation
    assert isolation is not None
    assert (isolation.made_by, isolation.keeps_address) == (FORWARD, True)
    assert isolation.lifelines == (BROKER, STORE, JUMP)
    assert report.outputs["allowed"] == (
        "kafka tcp 10.0.0.7/32 9092, store tcp 10.0.0.8/32 8333, operator any 10.1.0.0/24 0"
    )


def test_a_container_keeps_the_operator_s_list_alone(world: World) -> None:
    report = world.isolate(world.of_container)
    assert report.outcome is Outcome.COMPLETED
    isolation = world.space.isolation
    assert isolation is not None
    assert (isolation.lifelines, isolation.keeps_address) == ((JUMP,), False)
    assert world.network.here.log == []
    assert report.outputs["container_id"] == world.container.facts.ref.id


def test_a_paused_container_is_isolated_too(world: World) -> None:
    world.containers.open(world.container.facts.ref).pause()
    assert world.isolate(world.of_container).outcome is Outcome.COMPLETED


# --- a host is never cut off from its brokers ------------------------------------------------------------------------


def test_an_isolation_that_cuts_the_broker_off_is_taken_back(world: World) -> None:
    world.network.cut = lambda lifeline, isolation: lifeline == BROKER
    report = world.isolate(world.of_host)
    assert report.code == "isolate_network_error_self_test"
    assert "10.0.0.7:9092" in report.message
    assert world.network.here.standing is None
    assert world.network.here.log == ["begin", "end of trial"]


def test_an_isolation_that_cuts_the_store_off_is_taken_back(world: World) -> None:
    world.network.cut = lambda lifeline, isolation: lifeline == STORE
    assert world.isolate(world.of_host).code == "isolate_network_error_self_test"
    assert world.network.here.standing is None


def test_a_store_that_was_down_before_is_no_reason_to_take_it_back(world: World) -> None:
    world.network.down = {STORE}
    assert world.isolate(world.of_host).outcome is Outcome.COMPLETED


def test_one_lost_connection_is_no_cut_line(world: World) -> None:
    job, claim = world.bind(world.of_host)

    def once() -> None:
        world.network.down = {BROKER}
        world.network.before["answering"] = world.network.down.clear

    world.network.before["begin"] = lambda: world.network.before.__setitem__("answering", once)
    assert ISOLATE.execute(job, claim, world.host).outcome is Outcome.COMPLETED


def test_while_no_broker_answers_nothing_is_begun(world: World) -> None:
    job, claim = world.bind(world.of_host)
    world.network.down = {BROKER}
    with pytest.raises(TransientFailure) as caught:
        ISOLATE.execute(job, claim, world.host)
    assert caught.value.reason == "no_lifeline"
    assert world.network.here.log == []


def test_a_container_that_the_broker_is_behind_is_not_isolated(world: World) -> None:
    """As if the container were the broker."""
    job, claim = world.bind(world.of_container)
    world.network.before["begin"] = lambda: world.network.down.add(BROKER)
    report = ISOLATE.execute(job, claim, world.host)
    assert code_of(report) == "self_test"
    assert world.space.standing is None


def test_an_isolation_that_leaks_is_taken_back(world: World) -> None:
    world.network.here.leaks = "a packet to 10.0.0.7 was not refused"
    report = world.isolate(world.of_host)
    assert report.code == "isolate_network_error_self_test"
    assert "was not refused" in report.message
    assert world.network.here.standing is None


def test_a_kernel_that_refuses_in_the_middle_leaves_nothing(world: World) -> None:
    job, claim = world.bind(world.of_host)

    def refuse() -> None:
        raise PermanentFailure("no memory", code="nftables")

    world.network.before["keep"] = refuse
    with pytest.raises(PermanentFailure):
        ISOLATE.execute(job, claim, world.host)
    assert world.network.here.standing is None


def test_rules_that_are_flushed_during_the_test_are_a_failure(world: World) -> None:
    job, claim = world.bind(world.of_host)
    world.network.before["keep"] = lambda: setattr(world.network.here, "standing", None)
    report = ISOLATE.execute(job, claim, world.host)
    assert code_of(report) == "self_test"
    assert "taken away" in report.message


@pytest.mark.parametrize("place", IsolateNetwork.failpoints)
def test_a_worker_that_dies_at_a_step_is_settled_by_the_probe(world: World, place: str) -> None:
    if place.endswith("taken_back"):
        world.network.here.leaks = "a packet got out"
    job, claim = world.bind(world.of_host)
    world.failpoints.arm(place)
    with pytest.raises(Crash):
        ISOLATE.execute(job, claim, world.host)
    for made in world.network.opened:
        made.close()
    world.network.here.leaks = ""
    found = ISOLATE.probe(job, claim, world.host)
    match place.rpartition(".")[2]:
        case "begun" | "tested":
            assert isinstance(found, Begun)
            assert ISOLATE.execute(job, claim, world.host).outcome is Outcome.COMPLETED
            assert world.network.here.log == ["begin", "end of trial", "begin", "keep"]
        case "kept":
            assert isinstance(found, Done)
            assert (found.report.outcome, found.report.cause) == (Outcome.COMPLETED, "unproven")
        case _:
            assert isinstance(found, NotDone)


def test_what_a_dead_worker_left_on_trial_is_taken_back_where_the_broker_is_cut_off(world: World) -> None:
    job, claim = world.bind(world.of_host)
    world.network.here.stand(FORWARD, trial=True)
    world.network.cut = lambda lifeline, isolation: lifeline == BROKER
    assert isinstance(ISOLATE.probe(job, claim, world.host), Begun)
    assert code_of(ISOLATE.execute(job, claim, world.host)) == "self_test"
    assert world.network.here.standing is None


# --- ownership -------------------------------------------------------------------------------------------------------


def test_a_second_isolation_changes_nothing_and_does_not_hold(world: World) -> None:
    world.network.here.stand(OTHER)
    report = world.isolate(world.of_host)
    assert (report.outcome, code_of(report), report.effect_holds) == (Outcome.NO_ACTION, "already_isolated", False)
    assert OTHER in report.message
    assert world.network.here.log == []


def test_an_isolation_that_another_put_in_place_since_the_claim_stays(world: World) -> None:
    job, claim = world.bind(world.of_host)
    world.network.here.stand(OTHER)
    assert isinstance(ISOLATE.probe(job, claim, world.host), Done)
    assert code_of(ISOLATE.execute(job, claim, world.host)) == "already_isolated"
    world.network.here.standing = None
    world.network.before["begin"] = lambda: world.network.here.stand(OTHER)
    with pytest.raises(TransientFailure):
        ISOLATE.execute(job, claim, world.host)
    assert ISOLATE.bind(job, world.host).found_by == OTHER


def test_its_own_isolation_is_not_made_twice(world: World) -> None:
    job, claim = world.bind(world.of_host)
    ISOLATE.execute(job, claim, world.host)
    assert ISOLATE.execute(job, claim, world.host).outcome is Outcome.COMPLETED
    assert world.network.here.log == ["begin", "keep"]


# --- which network ---------------------------------------------------------------------------------------------------


def test_a_container_in_the_host_s_network_is_refused(world: World) -> None:
    world.space.own = True
    assert refused(world, world.of_container) == "shares_host_network"


def test_a_protected_container_is_refused(world: World) -> None:
    world.container.facts = replace(world.container.facts, labels={"douse.protected": "true"})
    assert refused(world, world.of_container) == "protected_target"
    world.container.facts = replace(world.container.facts, labels={})
    world.containers.own.add(world.container.facts.ref.id)
    assert refused(world, world.of_container) == "protected_target"


def test_an_ebpf_data_path_is_refused(world: World) -> None:
    world.network.here.bypassed_by = "an eBPF program (XDP) on eth0"
    assert refused(world, world.of_host) == "ebpf_data_path"
    world.space.bypassed_by = "an eBPF program (tc) on eth0"
    assert refused(world, world.of_container) == "ebpf_data_path"


def test_a_worker_in_a_network_of_its_own_does_not_isolate_the_host(world: World) -> None:
    world.network.in_own = True
    assert refused(world, world.of_host) == "not_host_network"


def test_a_host_without_nftables_refuses_clearly(world: World) -> None:
    world.network.broken = "libnftables.so.1 is not on this machine: install libnftables1"
    job = world.job(ISOLATE, world.of_host)
    for host in (world.host, world.bare):
        with pytest.raises(CommandRejected) as caught:
            ISOLATE.admit(job, host)
        assert caught.value.reason == "no_nftables"


@pytest.mark.parametrize(
    ("observed_at", "reason"), [(0, "identity_missing"), (1, "started_after"), (-1, "identity_unclear")]
)
def test_a_host_is_the_one_that_was_seen(world: World, observed_at: int, reason: str) -> None:
    moment = observed_at if observed_at >= 0 else world.clock.now_ns() + 31_000_000_000
    assert refused(world, NetworkTarget(moment)) == reason


def test_a_container_that_was_started_again_since_it_was_seen_is_refused(world: World) -> None:
    target = world.of_container
    world.containers.restart(world.container)
    world.settle()
    assert refused(world, target) == "started_after"


@pytest.mark.parametrize("target", [ContainerTarget("0" * 64, 1), None])
def test_another_kind_of_target_is_refused(world: World, target: Target | None) -> None:
    with pytest.raises(CommandRejected) as caught:
        ISOLATE.admit(world.job(ISOLATE, target), world.host)
    assert caught.value.reason == "invalid_target"


def test_a_container_started_again_after_the_claim_is_superseded(world: World) -> None:
    job, claim = world.bind(world.of_container)
    world.containers.restart(world.container)
    space = world.settle()
    report = ISOLATE.execute(job, claim, world.host)
    assert report.code == "isolate_network_error_superseded"
    assert space.log == []
    found = ISOLATE.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert found.report.code == report.code


def test_a_container_started_again_while_it_is_opened_is_superseded(world: World) -> None:
    job, claim = world.bind(world.of_container)
    first = world.space

    def restart() -> None:
        pid = world.container.facts.pid
        world.containers.restart(world.container)
        world.network.by_pid[pid] = world.space  # its old pid belongs to another process now

    world.network.before["of_process"] = restart
    assert code_of(ISOLATE.execute(job, claim, world.host)) == "superseded"
    assert first.log == []


def test_a_container_in_another_namespace_than_at_the_claim_is_superseded(world: World) -> None:
    job, claim = world.bind(world.of_container)
    world.space.inode += 1
    assert code_of(ISOLATE.execute(job, claim, world.host)) == "superseded"


def test_a_container_that_has_ended_has_no_network(world: World) -> None:
    job, claim = world.bind(world.of_container)
    world.containers.end(world.container)
    assert code_of(ISOLATE.execute(job, claim, world.host)) == "not_running"
    job, claim = world.bind(world.of_container)
    assert claim.namespace == 0
    assert code_of(ISOLATE.execute(job, claim, world.host)) == "not_running"
    found = ISOLATE.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert "does not run" in ISOLATE.dry_run_report(job, claim, world.host).message
    world.container.removed = True
    assert code_of(ISOLATE.execute(job, replace(claim, namespace=7), world.host)) == "target_gone"


def test_a_process_that_ends_as_it_is_opened_is_a_container_that_has_ended(world: World) -> None:
    job, claim = world.bind(world.of_container)
    world.network.by_pid.clear()
    assert code_of(ISOLATE.execute(job, claim, world.host)) == "not_running"


def test_a_silent_runtime_leaves_the_probe_pending(world: World) -> None:
    job, claim = world.bind(world.of_container)
    world.containers.down = True
    found = ISOLATE.probe(job, claim, world.host)
    assert isinstance(found, Pending)
    assert found.report.outcome is Outcome.UNKNOWN


def test_a_dry_run_reports_what_would_stay_reachable(world: World) -> None:
    job, claim = world.bind(world.of_host)
    assert "kafka tcp 10.0.0.7/32 9092" in ISOLATE.dry_run_report(job, claim, world.host).message
    world.network.here.stand(OTHER)
    job, claim = world.bind(world.of_host)
    assert "would do nothing" in ISOLATE.dry_run_report(job, claim, world.host).message
    assert world.network.effects == 0


# --- whether it still holds ------------------------------------------------------------------------------------------


def test_an_isolation_that_is_lost_is_noticed(world: World) -> None:
    held = world.isolated(world.of_host)
    assert ISOLATE.lost(held, world.host) == ""
    kept = world.network.here.standing
    assert kept is not None
    world.network.here.stand(OTHER)
    assert OTHER in ISOLATE.lost(held, world.host)
    world.network.here.standing = None
    assert "gone" in ISOLATE.lost(held, world.host)
    world.network.here.standing = kept
    assert ISOLATE.lost(held, world.host) == ""


def test_a_changed_isolation_is_reported_and_can_be_released(world: World) -> None:
    held = world.isolated(world.of_host)
    assert ISOLATE.weakened(held, world.host) == ""
    world.network.here.links = []
    assert ISOLATE.weakened(held, world.host) == "", "a host's interfaces come and go"
    world.network.here.bypassed_by = "an eBPF program (XDP) on eth0"
    assert "round it" in ISOLATE.weakened(held, world.host)
    world.network.changed(world.network.here)
    assert "changed" in ISOLATE.weakened(held, world.host)
    assert ISOLATE.lost(held, world.host) == ""
    assert world.release(held).outcome is Outcome.COMPLETED


def test_a_container_s_isolation_is_lost_with_its_run_or_its_interface(world: World) -> None:
    held = world.isolated(world.of_container)
    assert ISOLATE.lost(held, world.host) == ""
    world.space.links = ["eth9"]
    assert ISOLATE.weakened(held, world.host) == "its interface eth0 was taken out of it"
    space = world.space
    world.containers.restart(world.container)
    world.settle()
    assert "started again" in ISOLATE.lost(held, world.host)
    space.links = ["eth0"]
    world.network.by_pid[world.container.facts.pid] = space  # a pod's network outlives its containers' runs
    assert ISOLATE.lost(held, world.host) == ""
    world.containers.end(world.container)
    assert ISOLATE.lost(held, world.host) == "nothing of it runs"
    assert ISOLATE.weakened(held, world.host) == ""
    world.containers.down = True
    with pytest.raises(TransientFailure):
        ISOLATE.lost(held, world.host)


# --- release_network --------------------------------------------------------------------------------------------------


def test_a_release_takes_away_the_rules_of_its_isolation(world: World) -> None:
    for target, space in ((world.of_host, world.network.here), (world.of_container, world.space)):
        held = world.isolated(target)
        report = world.release(held)
        assert (report.outcome, code_of(report)) == (Outcome.COMPLETED, "released")
        assert space.standing is None
        assert code_of(world.release(held)) == "nothing_to_undo"
        assert space.log == ["begin", "keep", "end"]


def test_a_release_leaves_the_rules_of_another_execution(world: World) -> None:
    held = world.isolated(world.of_host)
    world.network.here.stand(OTHER)
    report = world.release(held)
    assert (report.outcome, code_of(report)) == (Outcome.NO_ACTION, "nothing_to_undo")
    assert OTHER in report.message
    assert world.network.here.standing is not None
    job, claim = world.bind_release(held)
    assert isinstance(RELEASE.probe(job, claim, world.host), Done)


def test_a_release_of_flushed_rules_is_no_failure(world: World) -> None:
    held = world.isolated(world.of_host)
    world.network.here.standing = None
    assert code_of(world.release(held)) == "nothing_to_undo"


def test_a_release_is_retried_where_the_rules_are_there_again(world: World) -> None:
    held = world.isolated(world.of_host)
    job, claim = world.bind_release(held)
    by = held.claim.isolation

    def stubborn() -> None:
        world.network.before["barrier"] = lambda: world.network.here.stand(by)

    world.network.before["end"] = stubborn
    with pytest.raises(TransientFailure):
        RELEASE.execute(job, claim, world.host)


def test_only_an_undo_of_an_isolation_is_bound(world: World) -> None:
    with pytest.raises(CommandRejected) as caught:
        world.bind_release(None)
    assert caught.value.reason == "nothing_to_revert"


def test_an_isolation_ends_with_its_container(world: World) -> None:
    held = world.isolated(world.of_container)
    world.containers.end(world.container)
    report = world.release(held)
    assert (report.outcome, code_of(report)) == (Outcome.NO_ACTION, "nothing_to_undo")
    world.container.removed = True
    assert code_of(world.release(held)) == "nothing_to_undo"


def test_a_pod_s_network_is_released_though_its_container_was_restarted(world: World) -> None:
    held = world.isolated(world.of_container)
    space = world.space
    world.containers.restart(world.container)
    world.network.by_pid[world.container.facts.pid] = space
    assert code_of(world.release(held)) == "released"
    assert space.standing is None


def test_a_release_does_not_touch_a_later_run_s_own_network(world: World) -> None:
    held = world.isolated(world.of_container)
    world.containers.restart(world.container)
    space = world.settle()
    assert code_of(world.release(held)) == "nothing_to_undo"
    assert space.log == []


def test_a_worker_that_dies_after_a_release_is_settled_by_the_probe(world: World) -> None:
    held = world.isolated(world.of_host)
    job, claim = world.bind_release(held)
    assert isinstance(RELEASE.probe(job, claim, world.host), NotDone)
    world.failpoints.arm("release_network.released")
    with pytest.raises(Crash):
        RELEASE.execute(job, claim, world.host)
    found = RELEASE.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.cause) == (Outcome.COMPLETED, "unproven")


def test_a_silent_runtime_leaves_the_probe_of_a_release_pending(world: World) -> None:
    held = world.isolated(world.of_container)
    job, claim = world.bind_release(held)
    world.containers.down = True
    assert isinstance(RELEASE.probe(job, claim, world.host), Pending)


def test_a_dry_run_of_a_release_touches_nothing(world: World) -> None:
    held = world.isolated(world.of_host)
    job, claim = world.bind_release(held)
    assert "would be released" in RELEASE.dry_run_report(job, claim, world.host).message
    assert world.network.here.standing is not None
    world.network.here.standing = None
    job, claim = world.bind_release(held)
    assert "would do nothing" in RELEASE.dry_run_report(job, claim, world.host).message
