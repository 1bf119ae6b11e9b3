"""kill_container on scripted runtimes: which run it kills, what it takes away first, what it says of what it saw."""

from __future__ import annotations

from typing import Any

import pytest

from tests.container_bench import SECOND, World, code_of
from tests.fakes.failpoints import Crash
from workers.actions.base import Begun, Done, NotDone, Pending, Probe
from workers.actions.kill_container import KillContainer
from workers.domain.errors import CommandRejected, Indeterminate, PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome, Report
from workers.domain.target import FileTarget
from workers.domain.targets.container import ContainerState, RestartPolicy
from workers.host.containers.ports import Refusal

ALWAYS = RestartPolicy("always")


@pytest.fixture
def world() -> World:
    return World(KillContainer())


def test_the_container_is_dead_and_the_report_proves_it(world: World) -> None:
    container = world.container(policy=ALWAYS)
    report = world.run(container)
    assert container.calls == ["restrain", "kill"]
    assert (report.outcome, report.code) == (Outcome.COMPLETED, "kill_container_success_killed")
    assert report.post_condition is not None
    assert report.post_condition.holds
    assert report.outputs["restart_policy"] == "always"
    assert report.outputs["restart_disabled"] is True
    assert not report.effect_holds


def test_without_a_restart_policy_nothing_is_taken_away(world: World) -> None:
    container = world.container()
    report = world.run(container)
    assert container.calls == ["kill"]
    assert report.outputs["restart_disabled"] is False


def test_one_that_no_trusted_runtime_has_is_killed_and_who_may_bring_it_back_is_reported(world: World) -> None:
    container = world.container(unserved="no trusted runtime has it", started_at_ns=0)
    report = world.run(container)
    assert (report.outcome, container.calls) == (Outcome.COMPLETED, ["kill"])
    assert "may bring it back (no trusted runtime has it)" in report.message


def test_one_that_a_users_runtime_brings_back_at_once_is_not_called_dead(world: World) -> None:
    container = world.container(unserved="no trusted runtime has it", started_at_ns=0)
    job, claim = world.bind(container)
    container.returns_at_ns = world.clock.now_ns() + SECOND
    report = world.action.execute(job, claim, world.host)
    assert (report.outcome, code_of(report)) == (Outcome.PARTIAL, "started_again")


@pytest.mark.parametrize("state", [ContainerState.PAUSED, ContainerState.RESTARTING])
def test_a_paused_or_restarting_container_is_killed_too(world: World, state: ContainerState) -> None:
    container = world.container(state=state, policy=ALWAYS)
    assert world.run(container).outcome is Outcome.COMPLETED
    assert not container.facts.alive


@pytest.mark.parametrize("state", [ContainerState.ENDED, ContainerState.CREATED])
def test_what_does_not_run_is_left_as_it_is(world: World, state: ContainerState) -> None:
    container = world.container(state=state, pid=0, policy=ALWAYS)
    report = world.run(container)
    assert (report.outcome, container.calls) == (Outcome.NO_ACTION, [])


def test_what_was_removed_meanwhile_is_gone(world: World) -> None:
    container = world.container()
    job, claim = world.bind(container)
    container.removed = True
    assert world.action.execute(job, claim, world.host).outcome is Outcome.NO_ACTION


def test_a_run_that_began_after_the_claim_is_not_touched(world: World) -> None:
    container = world.container(policy=ALWAYS)
    job, claim = world.bind(container)
    world.containers.restart(container)
    report = world.action.execute(job, claim, world.host)
    assert (report.outcome, report.code) == (Outcome.FAILED, "kill_container_error_superseded")
    assert container.calls == []


def test_a_run_that_begins_while_restarts_are_taken_away_gets_them_back_and_lives(world: World) -> None:
    container = world.container(policy=ALWAYS)
    world.containers.before["restrain"] = lambda: world.containers.restart(container)
    report = world.run(container)
    assert code_of(report) == "superseded"
    assert container.calls == ["restrain", "restrain"]
    assert container.facts.policy == ALWAYS
    assert container.facts.alive


def test_where_restarts_cannot_be_taken_away_it_is_killed_and_that_is_reported(world: World) -> None:
    world.containers.has_update = False
    container = world.container(policy=ALWAYS)
    report = world.run(container)
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["restart_disabled"] is False
    assert "always" in report.message


def test_one_that_comes_back_at_once_is_not_called_dead(world: World) -> None:
    container = world.container(labels={"PODMAN_SYSTEMD_UNIT": "web.service"})
    container.comes_back = True
    report = world.run(container)
    assert (report.outcome, code_of(report)) == (Outcome.PARTIAL, "started_again")


def test_an_answer_decides_nothing_the_state_does(world: World) -> None:
    container = world.container()
    world.containers.before["kill"] = lambda: world.containers.end(container)
    world.containers.refusals["kill"] = [Refusal("Cannot kill: is not running", may_pass=False)]
    assert world.run(container).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(("may_pass", "kind"), [(True, TransientFailure), (False, PermanentFailure)])
def test_a_refusal_of_one_that_runs_on_is_a_failure(
    world: World, may_pass: bool, kind: type[TransientFailure | PermanentFailure]
) -> None:
    container = world.container()
    world.containers.refusals["kill"] = [Refusal("permission denied", may_pass=may_pass)]
    with pytest.raises(kind, match="permission denied"):
        world.run(container)


def test_one_that_does_not_die_is_unknown(world: World) -> None:
    container = world.container()
    container.immortal = True
    report = world.run(container)
    assert (report.outcome, code_of(report)) == (Outcome.UNKNOWN, "kill_pending")


def test_a_sigkill_that_waits_in_the_kernel_is_pending_and_not_repeated(world: World) -> None:
    init = world.processes.spawn(pid=7000)
    container = world.container(pid=7000)
    job, claim = world.bind(container)
    assert isinstance(world.action.probe(job, claim, world.host), NotDone)
    init.freeze()
    init.take(9)
    found = world.action.probe(job, claim, world.host)
    assert isinstance(found, Pending)
    assert "frozen" in found.report.message
    assert container.calls == []


# --- daemons that are away -------------------------------------------------------------------------------------------


def test_a_daemon_that_is_down_is_no_answer(world: World) -> None:
    container = world.container()
    world.containers.down = True
    with pytest.raises(TransientFailure):
        world.run(container)


def test_a_kill_without_an_answer_is_looked_for_and_never_repeated_before_it_is_sure(world: World) -> None:
    container = world.container()
    job, claim = world.bind(container)
    world.containers.before["kill"] = lambda: setattr(world.containers, "hung", True)
    with pytest.raises(Indeterminate) as silent:
        world.action.execute(job, claim, world.host)
    assert silent.value.reason == "runtime_silent"
    assert isinstance(world.action.probe(job, claim, world.host), Pending)
    world.containers.hung, world.containers.unsettled = False, True
    assert isinstance(world.action.probe(job, claim, world.host), Pending)
    world.containers.wake()
    found = world.action.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.COMPLETED
    assert container.calls == ["kill"]


def test_a_kill_that_was_never_carried_out_may_be_asked_for_again(world: World) -> None:
    container = world.container()
    job, claim = world.bind(container)
    assert isinstance(world.action.probe(job, claim, world.host), NotDone)
    assert container.calls == []


# --- a runtime that does not answer, while the kernel kills ----------------------------------------------------------


class Silent:
    """A container that the kernel shows; its runtime, which may restart it, hangs until ``answers``."""

    def __init__(self, *, policy: RestartPolicy = ALWAYS, **facts: Any) -> None:
        self.world = World(KillContainer())
        self.in_kernel = self.world.container(
            container_id="ab" * 32,
            socket="kernel:system/64/7/7000",
            unserved="docker.sock does not answer",
            unheard=True,
            started_at_ns=0,
            **facts,
        )
        self.world.containers.silent = "docker.sock does not answer"
        self.job, self.claim = self.world.bind(self.in_kernel)
        self.served = self.world.containers.spawn("ab" * 32, policy=policy)

    def execute(self) -> Report:
        return self.world.action.execute(self.job, self.claim, self.world.host)

    def probe(self) -> Probe:
        return self.world.action.probe(self.job, self.claim, self.world.host)

    def answers(self, *, restarted: bool) -> None:
        """It goes on; where it restarted the container the kernel shows that too."""
        self.world.containers.silent = ""
        if restarted:
            self.world.containers.restart(self.served)
            self.world.containers.restart(self.in_kernel)
        else:
            self.world.containers.end(self.served)


@pytest.fixture
def silent() -> Silent:
    return Silent()


def gone_from_kernel(silent: Silent) -> None:
    """A cgroup without processes is no container."""
    silent.in_kernel.removed = True


def test_one_whose_runtime_hangs_is_killed_at_once_and_not_called_dead(silent: Silent) -> None:
    report = silent.execute()
    assert silent.in_kernel.calls == ["kill"]
    assert (report.outcome, code_of(report)) == (Outcome.UNKNOWN, "restart_pending")
    found = silent.probe()
    assert isinstance(found, Pending)
    assert code_of(found.report) == "restart_pending"
    assert found.within_s <= 5, "what is restarted meanwhile would live for long"


@pytest.mark.parametrize("restarted", [True, False])
def test_once_its_runtime_answers_it_is_ended_and_its_restarts_are_taken_away(silent: Silent, restarted: bool) -> None:
    silent.execute()
    gone_from_kernel(silent)
    silent.answers(restarted=restarted)
    assert isinstance(silent.probe(), Begun)
    report = silent.execute()
    assert (report.outcome, code_of(report)) == (Outcome.COMPLETED, "killed")
    assert report.outputs["restart_policy"] == "always"
    assert report.outputs["restart_disabled"] is True
    assert silent.served.calls == (["kill", "restrain"] if restarted else ["restrain"])
    assert not silent.served.facts.alive
    assert silent.served.facts.policy == RestartPolicy()
    assert isinstance(silent.probe(), Done)


def test_without_a_restart_policy_it_is_dead_once_its_runtime_says_so() -> None:
    silent = Silent(policy=RestartPolicy())
    silent.execute()
    gone_from_kernel(silent)
    silent.world.containers.silent = ""
    assert isinstance(silent.probe(), Pending), "its runtime has not noticed its end yet"
    silent.answers(restarted=False)
    found = silent.probe()
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.COMPLETED
    assert silent.served.calls == []


def test_a_run_that_no_policy_began_is_reported_and_lives() -> None:
    silent = Silent(policy=RestartPolicy())
    silent.execute()
    silent.answers(restarted=True)
    found = silent.probe()
    assert isinstance(found, Done)
    assert (found.report.outcome, code_of(found.report)) == (Outcome.PARTIAL, "started_again")
    assert silent.served.calls == []


def test_one_that_its_runtime_removed_is_dead(silent: Silent) -> None:
    silent.execute()
    gone_from_kernel(silent)
    silent.answers(restarted=False)
    silent.served.removed = True
    found = silent.probe()
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.COMPLETED


def test_where_no_runtime_ever_comes_the_outcome_says_that_it_may_be_back(silent: Silent) -> None:
    silent.world.containers.silent_code = "no_runtime"
    silent.execute()
    assert isinstance(silent.probe(), Pending)
    silent.world.clock.advance(300 + 60 + 1)
    found = silent.probe()
    assert isinstance(found, Done)
    assert (found.report.outcome, code_of(found.report)) == (Outcome.PARTIAL, "restart_unknown")


def test_a_runtime_that_hangs_for_an_hour_is_waited_for(silent: Silent) -> None:
    silent.execute()
    silent.world.clock.advance(3600)
    assert isinstance(silent.probe(), Pending)


def test_a_kubelet_never_starts_the_same_container_again() -> None:
    silent = Silent(labels={"io.kubernetes.pod.name": "web"})
    report = silent.execute()
    assert report.outcome is Outcome.COMPLETED
    assert "kubelet" in report.message


@pytest.mark.parametrize("failpoint", KillContainer.failpoints)
def test_a_crash_while_the_restarts_are_taken_away_leaves_it_dead_and_without_them(
    silent: Silent, failpoint: str
) -> None:
    silent.execute()
    gone_from_kernel(silent)
    silent.answers(restarted=True)
    silent.world.failpoints.arm(failpoint)
    with pytest.raises(Crash):
        silent.execute()
    while not isinstance(found := silent.probe(), Done):
        silent.execute()
    assert found.report.outcome is Outcome.COMPLETED
    assert silent.served.calls.count("kill") == 1
    assert not silent.served.facts.alive
    assert not silent.served.facts.policy.restarts


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", KillContainer.failpoints)
def test_a_crash_at_any_step_ends_in_one_kill_and_the_first_policy_is_remembered(world: World, place: str) -> None:
    container = world.container(policy=ALWAYS)
    world.failpoints.arm(place)
    job, claim = world.bind(container)
    with pytest.raises(Crash):
        world.action.execute(job, claim, world.host)
    found = world.action.probe(job, claim, world.host)
    report = found.report if isinstance(found, Done) else world.action.execute(job, claim, world.host)
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["restart_policy"] == "always"
    assert report.outputs["restart_disabled"] is True
    assert container.calls.count("kill") == 1


def test_restarts_that_were_taken_away_are_finished_with_even_after_the_expiry(world: World) -> None:
    container = world.container(policy=ALWAYS)
    world.failpoints.arm("kill_container.restrained")
    job, claim = world.bind(container)
    with pytest.raises(Crash):
        world.action.execute(job, claim, world.host)
    assert isinstance(world.action.probe(job, claim, world.host), Begun)


def test_a_run_that_began_after_the_crash_gets_its_restarts_back_and_lives(world: World) -> None:
    container = world.container(policy=ALWAYS)
    world.failpoints.arm("kill_container.restrained")
    job, claim = world.bind(container)
    with pytest.raises(Crash):
        world.action.execute(job, claim, world.host)
    world.containers.restart(container)
    assert isinstance(world.action.probe(job, claim, world.host), Begun)
    report = world.action.execute(job, claim, world.host)
    assert code_of(report) == "superseded"
    assert container.facts.policy == ALWAYS
    assert "kill" not in container.calls
    assert isinstance(world.action.probe(job, claim, world.host), Done)


def test_one_that_was_removed_after_the_claim_is_done_with(world: World) -> None:
    container = world.container()
    job, claim = world.bind(container)
    container.removed = True
    found = world.action.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.cause) == (Outcome.COMPLETED, "unproven")


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [{"douse.protected": "true"}, {"io.cri-containerd.kind": "sandbox"}])
def test_a_protected_container_is_refused(world: World, labels: dict[str, str]) -> None:
    container = world.container(labels=labels)
    with pytest.raises(CommandRejected) as refused:
        world.run(container)
    assert refused.value.reason == "protected_target"
    assert container.calls == []


def test_our_own_container_is_refused(world: World) -> None:
    container = world.container()
    world.containers.own.add(container.facts.ref.id)
    with pytest.raises(CommandRejected) as refused:
        world.run(container)
    assert refused.value.reason == "protected_target"


def test_another_kind_of_target_and_a_node_without_runtimes_are_refused(world: World) -> None:
    container = world.container()
    with pytest.raises(CommandRejected):
        world.action.admit(world.job(FileTarget(b"/x", 1)), world.host)
    with pytest.raises(CommandRejected) as refused:
        world.action.admit(world.job(world.target(container)), world.bare)
    assert refused.value.reason == "no_runtime"


# --- what is said before ---------------------------------------------------------------------------------------------


def test_a_dry_run_says_who_would_bring_it_back(world: World) -> None:
    container = world.container(policy=ALWAYS, labels={"io.kubernetes.pod.uid": "u"})
    job, claim = world.bind(container)
    report = world.action.dry_run_report(job, claim, world.host)
    assert "kubelet" in report.message
    assert "always" in report.message
    assert report.outputs["orchestrator"] == "kubernetes"
    assert container.calls == []
