"""release_network: takes away what its forward action made, and nothing that anybody else made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containing import code_of
from tests.fakes.failpoints import Crash
from tests.isolating import OTHER, RELEASE, World
from workers.actions.base import Done, NotDone, Pending
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    assert made.network.held == 0, "a namespace was not let go of"


def test_it_takes_away_what_was_made(world: World) -> None:
    for target, space in ((world.of_host, world.network.here), (world.of_container, world.space)):
        held = world.isolated(target)
        report = world.release(held)
        assert (report.outcome, code_of(report)) == (Outcome.COMPLETED, "released")
        assert space.standing is None
        assert code_of(world.release(held)) == "nothing_to_undo"
        assert space.log == ["begin", "keep", "end"]


def test_what_somebody_else_made_since_stays(world: World) -> None:
    held = world.isolated(world.of_host)
    world.network.here.stand(OTHER)
    report = world.release(held)
    assert (report.outcome, code_of(report)) == (Outcome.NO_ACTION, "nothing_to_undo")
    assert OTHER in report.message
    assert world.network.here.standing is not None
    job, claim = world.bind_release(held)
    assert isinstance(RELEASE.probe(job, claim, world.host), Done)


def test_what_was_flushed_is_no_failure(world: World) -> None:
    held = world.isolated(world.of_host)
    world.network.here.standing = None
    assert code_of(world.release(held)) == "nothing_to_undo"


def test_what_is_there_again_is_tried_again(world: World) -> None:
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


def test_a_container_that_ended_took_its_isolation_along(world: World) -> None:
    held = world.isolated(world.of_container)
    world.containers.end(world.container)
    report = world.release(held)
    assert (report.outcome, code_of(report)) == (Outcome.NO_ACTION, "nothing_to_undo")
    world.container.removed = True
    assert code_of(world.release(held)) == "nothing_to_undo"


def test_a_pod_s_network_is_released_though_its_container_was_started_again(world: World) -> None:
    held = world.isolated(world.of_container)
    space = world.space
    world.containers.restart(world.container)
    world.network.by_pid[world.container.facts.pid] = space
    assert code_of(world.release(held)) == "released"
    assert space.standing is None


def test_a_later_run_s_own_network_is_not_touched(world: World) -> None:
    held = world.isolated(world.of_container)
    world.containers.restart(world.container)
    space = world.settle()
    assert code_of(world.release(held)) == "nothing_to_undo"
    assert space.log == []


def test_a_worker_that_dies_after_it_is_settled_by_the_probe(world: World) -> None:
    held = world.isolated(world.of_host)
    job, claim = world.bind_release(held)
    assert isinstance(RELEASE.probe(job, claim, world.host), NotDone)
    world.failpoints.arm("release_network.released")
    with pytest.raises(Crash):
        RELEASE.execute(job, claim, world.host)
    found = RELEASE.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.cause) == (Outcome.COMPLETED, "unproven")


def test_a_silent_runtime_leaves_the_probe_pending(world: World) -> None:
    held = world.isolated(world.of_container)
    job, claim = world.bind_release(held)
    world.containers.down = True
    assert isinstance(RELEASE.probe(job, claim, world.host), Pending)


def test_a_dry_run_touches_nothing(world: World) -> None:
    held = world.isolated(world.of_host)
    job, claim = world.bind_release(held)
    assert "would be released" in RELEASE.dry_run_report(job, claim, world.host).message
    assert world.network.here.standing is not None
    world.network.here.standing = None
    job, claim = world.bind_release(held)
    assert "would do nothing" in RELEASE.dry_run_report(job, claim, world.host).message
