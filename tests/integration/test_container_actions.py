"""The actions on containers against a real dockerd: what stays contained, what is never touched, what a hung or dead
daemon makes of it, and a real node that dies at each step.

Oracle: dockerd's own event log and inspection, through a client of the test's own.
"""

from __future__ import annotations

import os
import select
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.container_bench import effect_of
from tests.engines import PATIENT, DockerRig, PodmanRig, until
from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.action_runner import SECOND, ActionRunner, DeafSocket, action, order
from tests.integration.node_process import NodeSite, Seen, Victim, embedded_broker
from tests.runtimes import engines
from workers.actions import FAILPOINTS
from workers.actions.base import Begun, Done, Pending
from workers.domain.command import ActionCommand
from workers.domain.errors import CommandRejected, Indeterminate, TransientFailure
from workers.domain.outcome import Outcome
from workers.domain.result import ActionResult
from workers.domain.target import ContainerTarget
from workers.domain.targets.container import ContainerRef
from workers.host.containers.docker import EngineSockets
from workers.host.containers.docker.container import EngineContainer
from workers.host.containers.docker.engine import Engine
from workers.host.containers.host_containers import HostContainers
from workers.host.containers.kernel import KernelContainers
from workers.host.containers.ports import Refusal
from workers.host.containers.runtime_sockets import CallLimits
from workers.system.clock import SystemClock
from workers.system.failpoints import KILLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def engine(docker_engine: DockerRig) -> Iterator[DockerRig]:
    yield docker_engine
    docker_engine.clear()


def runner_of(engine: DockerRig) -> ActionRunner:
    return ActionRunner(engines(engine.socket))


# --- what stays contained --------------------------------------------------------------------------------------------


@pytest.mark.fault("F18")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.faults)])
def test_kills_and_stops_outlast_a_restart_of_the_daemon_and_a_lost_pause_is_reported(
    engine: DockerRig, number: int
) -> None:
    runner = runner_of(engine)
    bare = engine.run(policy="always")
    killed, stopped = engine.run(policy="always"), engine.run(policy="unless-stopped", command=PATIENT)
    paused = engine.run()
    reports = {name: runner.run(f"{name}_container", each) for name, each in [("kill", killed), ("stop", stopped)]}
    held = runner.run("pause_container", paused)
    with engine.client() as client:
        client.kill(bare)  # the baseline without Douse
    assert {report.outcome for report in (*reports.values(), held)} == {Outcome.COMPLETED}
    assert action("pause_container").lost(effect_of(held), runner.host) == ""

    engine.end(number)
    with pytest.raises(TransientFailure):
        action("pause_container").lost(effect_of(held), runner.host)
    engine.start()

    until(lambda: engine.state(bare) == "running")
    assert (engine.state(killed), engine.state(stopped)) == ("exited", "exited")
    assert action("pause_container").lost(effect_of(held), runner.host) != ""
    undone = runner.run("start_container", stopped, undoes=effect_of(reports["stop"]))
    assert undone.outcome is Outcome.COMPLETED
    inspected = engine.see(stopped)
    assert inspected is not None
    assert inspected["State"]["Running"]
    assert inspected["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_a_container_that_crashes_and_restarts_all_the_time_is_dead_after_a_kill(engine: DockerRig) -> None:
    looping = engine.run(policy="always", command=("true",))
    until(lambda: engine.state(looping) == "restarting")
    runner = runner_of(engine)

    def is_dead() -> bool:
        try:
            report = runner.run("kill_container", looping)
        except CommandRejected as refused:  # a run that began between order and claim is another one, and left alone …
            return refused.reason != "started_after"
        if report.outcome is Outcome.FAILED:  # … and so is one that began between claim and act
            assert report.code.endswith("superseded")
            return False
        # A run that ended just while its restarts were away, and got them back too late, has ended for good by itself.
        assert report.outcome in (Outcome.COMPLETED, Outcome.NO_ACTION), report
        return True

    until(is_dead)
    inspected = engine.see(looping)
    assert inspected is not None
    assert not inspected["State"]["Running"]
    time.sleep(1.5)  # longer than any pause that the daemon makes between two of its first runs
    assert engine.state(looping) == "exited"


def test_a_paused_container_is_stopped_at_once_and_a_deaf_one_after_its_grace(engine: DockerRig) -> None:
    runner = runner_of(engine)
    frozen, deaf = engine.run(), engine.run()
    engine.pause(frozen)
    assert runner.run("stop_container", frozen, grace_s=3600).outcome is Outcome.COMPLETED
    assert runner.run("stop_container", deaf, grace_s=1).outcome is Outcome.COMPLETED
    assert (engine.state(frozen), engine.state(deaf)) == ("exited", "exited")


def test_pause_and_unpause_keep_the_run(engine: DockerRig) -> None:
    runner = runner_of(engine)
    container_id = engine.run()
    pid = engine.pid(container_id)
    held = runner.run("pause_container", container_id[:12])
    assert engine.state(container_id) == "paused"
    assert runner.run("pause_container", container_id).outcome is Outcome.NO_ACTION
    undone = runner.run("unpause_container", container_id, undoes=effect_of(held))
    assert (undone.outcome, engine.state(container_id), engine.pid(container_id)) == (Outcome.COMPLETED, "running", pid)
    again = runner.run("unpause_container", container_id, undoes=effect_of(held))
    assert again.outcome is Outcome.NO_ACTION


# --- what is never touched -------------------------------------------------------------------------------------------


@pytest.mark.fault("F19")
@pytest.mark.parametrize("name", ["kill_container", "stop_container", "pause_container"])
def test_a_container_restarted_under_us_is_not_touched(engine: DockerRig, name: str) -> None:
    container_id = engine.run(policy="always")
    runner = runner_of(engine)
    job, claim = runner.bind(name, container_id)
    first = engine.pid(container_id)
    os.kill(first, signal.SIGKILL)
    until(lambda: engine.state(container_id) == "running" and engine.pid(container_id) not in (0, first))
    second = engine.pid(container_id)
    report = action(name).execute(job, claim, runner.host)
    assert report.code == f"{name}_error_superseded"
    inspected = engine.see(container_id)
    assert inspected is not None
    assert (inspected["State"]["Status"], inspected["State"]["Pid"]) == ("running", second)
    assert inspected["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert engine.count_events(container_id, "kill") == 0
    with pytest.raises(CommandRejected) as refused:  # observed before the restart: the old run is meant
        runner.bind(name, container_id, seen_ns=int(claim.started_at))
    assert refused.value.reason == "started_after"


def test_a_container_named_like_the_id_of_another_is_never_acted_on(engine: DockerRig) -> None:
    victim = engine.run()
    decoy, stray = engine.run(name=victim[:12]), engine.run(name="deadbeef0123")
    runner = runner_of(engine)
    assert runner.run("kill_container", victim[:12]).outputs["container_id"] == victim
    for named in ("deadbeef0123", "f" * 64):
        with pytest.raises(CommandRejected) as refused:
            runner.bind("kill_container", named)
        assert refused.value.reason == "container_unknown"
    assert (engine.state(victim), engine.state(decoy), engine.state(stray)) == ("exited", "running", "running")
    engine.remove(victim)
    with pytest.raises(CommandRejected):  # now only the decoy answers to it
        runner.bind("kill_container", victim[:12])
    assert engine.state(decoy) == "running"


def test_a_label_protects_where_the_creator_set_it_and_not_where_the_image_brought_it(engine: DockerRig) -> None:
    runner = runner_of(engine)
    labels = {"douse.protected": "true"}
    meant, sly = engine.run(labels=labels), engine.run(image=engine.labelled_image(labels))
    with pytest.raises(CommandRejected) as refused:
        runner.bind("kill_container", meant)
    assert refused.value.reason == "protected_target"
    assert runner.run("kill_container", sly).outcome is Outcome.COMPLETED
    assert (engine.state(meant), engine.state(sly)) == ("running", "exited")


# --- a daemon that hangs, or is not there ----------------------------------------------------------------------------


class HangsAt(EngineSockets):
    """The real adapter, whose daemon hangs just before it would receive one call."""

    def __init__(self, engine: DockerRig, call: str) -> None:
        super().__init__([str(engine.socket)], clock=SystemClock(), limits=CallLimits(1.0, 1.0))
        self._engine_rig = engine
        self._call = call

    def _handle(self, ref: ContainerRef, daemon: Callable[[], Engine]) -> EngineContainer:
        return HangingContainer(ref.id, daemon, self._hang)

    def _hang(self, call: str) -> None:
        if call == self._call:
            self._engine_rig.hang()


@dataclass(frozen=True, slots=True)
class HangingContainer(EngineContainer):
    hang: Callable[[str], None]

    def kill(self) -> Refusal | None:
        self.hang("kill")
        return EngineContainer.kill(self)

    def stop(self, *, grace_s: int) -> Refusal | None:
        self.hang("stop")
        return EngineContainer.stop(self, grace_s=grace_s)

    def pause(self) -> Refusal | None:
        self.hang("pause")
        return EngineContainer.pause(self)


@pytest.mark.fault("F17")
@pytest.mark.parametrize(
    ("call", "hung_s"),
    [
        ("kill", 5),
        pytest.param("kill", 30, marks=pytest.mark.faults),
        pytest.param("stop", 30, marks=pytest.mark.faults),
        pytest.param("pause", 30, marks=pytest.mark.faults),
    ],
)
def test_a_hung_daemon_is_asked_once_and_what_it_did_is_never_reported_wrong(
    engine: DockerRig, call: str, hung_s: float
) -> None:
    name = f"{call}_container"
    runner = ActionRunner(HostContainers(HangsAt(engine, call), kernel=None))
    container_id = engine.run()
    job, claim = runner.bind(name, container_id, **({"grace_s": 0} if call == "stop" else {}))
    with pytest.raises(Indeterminate) as silent:
        action(name).execute(job, claim, runner.host)
    assert silent.value.reason == "runtime_silent"
    waking = threading.Timer(hung_s, engine.wake)
    waking.start()
    try:
        outcomes, wait_s = [], 0.2
        while isinstance(found := action(name).probe(job, claim, runner.host), Pending):
            outcomes.append(found.report.outcome)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 2.0)
    finally:
        waking.cancel()
        engine.wake()
        waking.join()
    assert isinstance(found, Done), "it would have been asked twice"
    assert found.report.outcome is Outcome.COMPLETED
    assert set(outcomes) == {Outcome.UNKNOWN}
    event = {"kill": "kill", "stop": "stop", "pause": "pause"}[call]
    assert engine.count_events(container_id, event) == 1
    print(f"\n{call} while dockerd hung for {hung_s} s: asked once, UNKNOWN at {len(outcomes)} looks, then COMPLETED")


def test_one_daemon_that_hangs_does_not_hide_the_containers_of_another(engine: DockerRig, tmp_path: Path) -> None:
    container_id = engine.run()
    with DeafSocket(tmp_path / "deaf.sock") as deaf:
        containers = engines(deaf, engine.socket, call_s=0.5)
        assert [facts.ref.id for facts in containers.find(container_id[:12])] == [container_id]
        with pytest.raises(TransientFailure, match=r"deaf\.sock"):
            containers.find("0" * 12)


# --- a real node -----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        made.actions["docker"] = {"socket_path": [str(tmp_path / "docker.sock")]}
        made.configure()
        yield made


@pytest.mark.fault("F16")
def test_without_a_daemon_a_stop_waits_and_a_kill_of_a_container_or_a_process_does_not(
    engine: DockerRig, site: NodeSite, tmp_path: Path
) -> None:
    killed, stopped = engine.run(policy="always"), engine.run(command=PATIENT)
    (victim,) = Victim.several(1)
    try:
        site.start()
        site.heartbeat()
        waits = order(site, "stop_container", stopped[:12])
        expires = order(site, "stop_container", stopped, expires_at_ns=site.clock.now_ns() + 2 * SECOND)
        at_once = order(site, "kill_container", killed[:12])
        for command in (expires, waits, at_once, site.kill(victim.pid)):
            site.send(command)
        victim.wait(60)
        unsettled = site.until(partial(_unknown, at_once), timeout_s=60)
        assert unsettled.code == "kill_container_error_restart_pending"
        failed = site.ended(expires.command_id, timeout_s=60)
        assert (failed.outcome, failed.code) == (Outcome.FAILED, "stop_container_error_unavailable")
        assert not [r for r in site.seen.results if r.execution_id == waits.command_id and r.outcome is not None]
        (tmp_path / "docker.sock").symlink_to(engine.socket)  # the runtime comes back
        assert site.ended(waits.command_id, timeout_s=60).outcome is Outcome.COMPLETED
        assert engine.state(stopped) == "exited"
        _assert_stays_dead(engine, site, at_once)
    finally:
        victim.bury()


@pytest.mark.fault("F17")
def test_a_kill_while_the_daemon_hangs_is_not_called_done_before_nothing_can_bring_it_back(
    engine: DockerRig, site: NodeSite, tmp_path: Path
) -> None:
    (tmp_path / "docker.sock").symlink_to(engine.socket)
    hung, unaware = engine.run(policy="always"), engine.run()
    site.start()
    site.heartbeat()
    inits = [os.pidfd_open(engine.pid(each)) for each in (hung, unaware)]
    with engine.hung():
        kills = [order(site, "kill_container", each) for each in (hung, unaware)]
        for kill in kills:
            site.send(kill)
        for kill in kills:
            unsettled = site.until(partial(_unknown, kill), timeout_s=60)
            assert unsettled.code == "kill_container_error_restart_pending"
        assert all(select.select([init], [], [], 0)[0] for init in inits), "it lives as long as its daemon hangs"
        time.sleep(2)
        assert not [r for r in site.read().results if r.outcome is not None and r.outcome.is_final]
    for init in inits:
        os.close(init)
    _assert_stays_dead(engine, site, kills[0])
    assert site.ended(kills[1].command_id, timeout_s=60).outcome is Outcome.COMPLETED
    assert engine.state(unaware) == "exited"


def _unknown(command: ActionCommand, seen: Seen) -> ActionResult | None:
    mine = (result for result in seen.results if result.execution_id == command.command_id)
    return next((result for result in mine if result.outcome is not None), None)


def _assert_stays_dead(engine: DockerRig, site: NodeSite, kill: ActionCommand) -> None:
    """COMPLETED, without a restart policy, and dead for longer than its daemon waits before a restart."""
    assert isinstance(kill.target, ContainerTarget)
    ended = site.ended(kill.command_id, timeout_s=60)
    assert ended.outcome is Outcome.COMPLETED, ended
    found = engine.see(kill.target.container_id)
    assert found is not None
    assert not found["State"]["Running"]
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert ended.outputs["restart_disabled"] is True
    time.sleep(1.5)
    assert engine.state(kill.target.container_id) == "exited"


_FAILPOINTS = [failpoint for failpoint in FAILPOINTS if "_container." in failpoint]
_SOON = ("kill_container.restrained", "start_container.started", "pause_container.asked")


@pytest.mark.fault("F1")
@pytest.mark.parametrize(
    "failpoints",
    [_SOON, *(pytest.param((failpoint,), marks=pytest.mark.faults, id=failpoint) for failpoint in _FAILPOINTS)],
)
def test_a_node_killed_at_a_step_acts_once_and_reports_it(
    engine: DockerRig, site: NodeSite, tmp_path: Path, failpoints: tuple[str, ...]
) -> None:
    (tmp_path / "docker.sock").symlink_to(engine.socket)
    site.start()
    site.heartbeat()
    assert site.stop() == 0
    effects, settled_s = [], []
    for failpoint in failpoints:
        undo = failpoint.partition(".")[0]
        forward = {"start_container": "stop_container", "unpause_container": "pause_container"}.get(undo, undo)
        container_id = engine.run(policy="always", command=PATIENT)
        first = order(site, forward, container_id[:12])
        commands = (
            [first] if undo == forward else [first, site.kill(0, action=undo, target=None, undo_of=first.command_id)]
        )
        for command in commands:
            if failpoint.startswith(f"{command.action}."):
                dying = site.start(f"{failpoint}=kill:1")
                site.send(command)
                assert dying.wait(60) == KILLED, f"{failpoint} was never reached"
                began = time.monotonic()
                site.start()
                ended = site.ended(command.command_id, timeout_s=60)
                settled_s.append(time.monotonic() - began)
            else:
                site.start()
                site.send(command)
                ended = site.ended(command.command_id, timeout_s=60)
            assert ended.outcome is Outcome.COMPLETED, f"{failpoint}: {ended}"
            site.up()
            assert site.stop() == 0
            event = command.action.removesuffix("_container")
            times = engine.count_events(container_id, event) - (event == "start")  # we started it once ourselves
            assert times == 1, f"{failpoint}: {event} {times} times"
            effects.append(Effect(command.command_id, f"{container_id}/{event}"))
        inspected = engine.see(container_id)
        assert inspected is not None
        wanted = {"kill_container": "exited", "stop_container": "exited", "pause_container": "paused"}
        assert inspected["State"]["Status"] == wanted.get(undo, "running"), failpoint
        restarts = inspected["HostConfig"]["RestartPolicy"]["Name"]
        assert restarts == ("no" if undo in ("kill_container", "stop_container") else "always"), failpoint
    check_all(site.observation(effects))
    print(
        f"\nnode killed at {len(failpoints)} step(s) of actions on containers: done twice 0, reported wrong 0; "
        f"start to settled: median {statistics.median(settled_s):.2f} s, slowest {max(settled_s):.2f} s"
    )


@pytest.mark.fault("F17")
def test_podman_starts_a_killed_container_again_by_itself_and_that_is_not_called_dead(
    podman_engine: PodmanRig,
) -> None:
    """Podman's restarts need no daemon: the process that watches a container starts it again, while its service hangs
    too. This Podman cannot take a policy away; a kill by its own service keeps the container dead."""
    podman_engine.clear()
    kernel = KernelContainers(clock=SystemClock())
    sockets = EngineSockets([str(podman_engine.socket)], clock=SystemClock(), limits=CallLimits(1.0, 1.0))
    runner = ActionRunner(HostContainers(sockets, kernel=kernel))
    container_id = podman_engine.run(policy="always")
    with podman_engine.hung():
        job, claim = runner.bind("kill_container", container_id)
        report = action("kill_container").execute(job, claim, runner.host)
        assert (report.outcome, report.code) == (Outcome.UNKNOWN, "kill_container_error_restart_pending")
        time.sleep(2)
        found = action("kill_container").probe(job, claim, runner.host)
        assert isinstance(found, Pending)
        assert "it was started again" in found.report.message
    until(lambda: isinstance(action("kill_container").probe(job, claim, runner.host), Begun))
    report = action("kill_container").execute(job, claim, runner.host)
    assert report.outcome is Outcome.COMPLETED
    assert "its restart policy 'always' stays" in report.message
    time.sleep(2)
    assert podman_engine.state(container_id) == "exited"
