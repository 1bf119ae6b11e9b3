"""The actions on containers against a real containerd behind its CRI: pods, a daemon that restarts or hangs, and a real
node that dies at a step. The tests play the kubelet.

Oracle: CRI and containerd's own tool, through clients of the tests' own.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cgroups import cgroups
from tests.container_bench import effect_of
from tests.containerd.rig import ContainerdRig
from tests.engines import PATIENT, rootfs, until
from tests.guarantees.node import check_all
from tests.guarantees.observation import Effect
from tests.integration.action_runner import ActionRunner, action, order
from tests.integration.node_process import NodeSite, embedded_broker
from tests.victims import victims
from workers.actions.base import Done, Pending
from workers.domain.errors import CommandRejected, Indeterminate, TransientFailure
from workers.domain.outcome import Outcome
from workers.domain.targets.container import ContainerRef
from workers.host.containers.cri import CriSockets
from workers.host.containers.cri.container import CriContainer
from workers.host.containers.cri.runtime import CriRuntime
from workers.host.containers.docker import EngineSockets
from workers.host.containers.host_containers import HostContainers
from workers.host.containers.kernel import KernelContainers
from workers.host.containers.ports import Refusal
from workers.host.containers.runtime_sockets import CallLimits
from workers.host.processes.system import SystemProcesses
from workers.system.clock import SystemClock
from workers.system.failpoints import KILLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

KUBELETS = {"io.kubernetes.pod.uid": "u", "io.kubernetes.container.name": "web"}
"""What a kubelet labels its containers."""


@pytest.fixture
def rig(containerd: ContainerdRig) -> Iterator[ContainerdRig]:
    yield containerd
    containerd.clear()


def bundles_of(rig: ContainerdRig) -> tuple[str, ...]:
    return (f"{rig.directory}/state/io.containerd.runtime.v2.task/*/{{id}}/config.json",)


def runner_of(rig: ContainerdRig, *, timeout_s: float = 10.0) -> ActionRunner:
    """A node that has containerd and the kernel, and no Docker."""
    clock = SystemClock()
    kernel = KernelContainers(clock=clock, bundles=bundles_of(rig))
    cri = CriSockets([str(rig.socket)], clock=clock, kernel=kernel, limits=CallLimits(timeout_s, timeout_s))
    docker = EngineSockets([str(rig.directory / "docker.sock")], clock=clock)
    return ActionRunner(HostContainers(docker, cri, kernel=kernel))


# --- containers of containerd that no CRI serves ---------------------------------------------------------------------


@pytest.fixture
def unpacked(rig: ContainerdRig) -> Path:
    files = rig.directory / "rootfs"
    if not files.exists():
        with tarfile.open(fileobj=io.BytesIO(rootfs())) as archive:
            archive.extractall(files, filter="fully_trusted")
    return files


@pytest.mark.parametrize(
    ("namespace", "keeper"),
    [("default", "nerdctl"), ("moby", "docker"), ("nomad", "nomad"), ("build", "containerd")],
)
def test_a_container_in_a_namespace_that_is_not_kubernetes_is_named_killed_and_not_stopped(
    rig: ContainerdRig, unpacked: Path, namespace: str, keeper: str
) -> None:
    """Started by another client of containerd: nerdctl, dockerd, Nomad's driver, or any."""
    container_id = hashlib.sha256(namespace.encode()).hexdigest()

    def ctr(*words: str) -> str:
        command = ["ctr", "--address", str(rig.socket), "--namespace", namespace, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
        return done.stdout

    ctr("run", "--detach", "--rootfs", str(unpacked), container_id, "/bin/sleep", "1000")
    try:
        runner = runner_of(rig)
        with pytest.raises(CommandRejected) as refused:
            runner.run("stop_container", container_id)
        assert refused.value.reason == "runtime_unknown"
        assert f"containerd's namespace {namespace!r}" in refused.value.message
        assert "RUNNING" in ctr("tasks", "ls")
        assert runner.run("pause_container", container_id).outcome is Outcome.COMPLETED
        report = runner.run("kill_container", container_id)
        assert (report.outcome, report.outputs["orchestrator"]) == (Outcome.COMPLETED, keeper), report
        assert "may start it again" in report.message or "stop the job too" in report.message
        until(lambda: "STOPPED" in ctr("tasks", "ls"))
    finally:
        subprocess.run(
            ["ctr", "--address", str(rig.socket), "--namespace", namespace, "tasks", "rm", "--force", container_id],
            capture_output=True,
        )
        ctr("containers", "rm", container_id)


# --- pods ------------------------------------------------------------------------------------------------------------


def test_a_container_of_a_pod_is_ended_its_pod_stays_and_the_report_names_the_kubelet(rig: ContainerdRig) -> None:
    runner, pod = runner_of(rig), rig.pod()
    killed, stopped = (rig.join(pod, labels=KUBELETS, command=PATIENT) for _ in range(2))
    job, claim = runner.bind("kill_container", killed[:12])
    assert "kubelet" in action("kill_container").dry_run_report(job, claim, runner.host).message
    report = action("kill_container").execute(job, claim, runner.host)
    assert (report.outcome, report.outputs["orchestrator"]) == (Outcome.COMPLETED, "kubernetes")
    report = runner.run("stop_container", stopped)
    assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, False)
    assert "no undo is offered" in report.message
    assert (rig.state(killed), rig.state(stopped)) == ("exited", "exited")
    assert rig.tasks("running") == [pod]
    assert runner.run("kill_container", killed).outcome is Outcome.NO_ACTION


def test_a_pods_sandbox_is_protected_by_runtime_or_kernel_and_so_are_pods_with_the_label(rig: ContainerdRig) -> None:
    runner, pod = runner_of(rig), rig.pod()
    meant = rig.run(pod_labels={"douse.protected": "true"})
    for each in (pod, pod[:12], meant):
        with pytest.raises(CommandRejected) as refused:
            runner.bind("kill_container", each)
        assert refused.value.reason == "protected_target"
    with rig.hung():
        for each in (pod, pod[:12]):  # now only the kernel knows it, and its bundle shows it
            with pytest.raises(CommandRejected) as refused:
                runner_of(rig, timeout_s=0.5).bind("kill_container", each)
            assert refused.value.reason == "protected_target"
    assert (rig.state(meant), pod in rig.tasks("running")) == ("running", True)


def test_the_init_of_a_sandbox_is_known_as_one_and_a_copy_of_its_cgroups_name_is_not(rig: ContainerdRig) -> None:
    container_id, pod = rig.run(), rig.tasks("running")
    (sandbox,) = {each for each in pod if each != container_id}
    processes = SystemProcesses(bundles=bundles_of(rig))

    def is_sandbox(pid: int) -> bool:
        handle = processes.open(pid)
        assert handle is not None
        try:
            return handle.facts.pod_sandbox
        finally:
            handle.close()

    (init,) = (int(row.split()[1]) for row in rig.ctr("tasks", "ls").splitlines() if row.startswith(sandbox))
    assert is_sandbox(init)
    assert not is_sandbox(rig.pid(container_id))
    with victims() as started, cgroups("freezer") as groups:
        alice, inside = 61_001, "a1" * 32
        for path, owners in ((f"alice/docker-{sandbox}.scope", (alice, alice)), (f"docker/{inside}/{sandbox}", ())):
            pid = started.spawn(["unshare", "--pid", "--fork", "--kill-child", "sleep", "1000"])
            children = Path(f"/proc/{pid}/task/{pid}/children")
            until(lambda children=children: children.read_text())  # type: ignore[misc]
            copy = int(children.read_text())
            groups.put(groups.make(path, *owners), copy)
            assert not is_sandbox(copy)
            started.end(pid)


def test_pause_and_unpause_keep_the_run_and_a_frozen_one_dies(rig: ContainerdRig) -> None:
    runner, container_id = runner_of(rig), rig.run()
    pid = rig.pid(container_id)
    held = runner.run("pause_container", container_id[:12])
    assert (held.outcome, rig.tasks("paused")) == (Outcome.COMPLETED, [container_id])
    assert action("pause_container").lost(effect_of(held), runner.host) == ""
    assert runner.run("pause_container", container_id).outcome is Outcome.NO_ACTION
    undone = runner.run("unpause_container", container_id, undoes=effect_of(held))
    assert (undone.outcome, rig.tasks("paused"), rig.pid(container_id)) == (Outcome.COMPLETED, [], pid)
    assert runner.run("pause_container", container_id).outcome is Outcome.COMPLETED
    assert runner.run("kill_container", container_id).outcome is Outcome.COMPLETED
    assert rig.state(container_id) == "exited"


def test_one_that_the_kubelet_starts_in_its_place_is_not_touched(rig: ContainerdRig) -> None:
    """F19: its init is killed between claim and act, and another container takes its place."""
    runner, pod = runner_of(rig), rig.pod()
    first = rig.join(pod, labels=KUBELETS)
    jobs = {name: runner.bind(f"{name}_container", first) for name in ("kill", "stop", "pause")}
    os.kill(rig.pid(first), signal.SIGKILL)
    until(lambda: rig.state(first) == "exited")
    second = rig.join(pod, labels=KUBELETS)
    for name, (job, claim) in jobs.items():
        report = action(f"{name}_container").execute(job, claim, runner.host)
        assert report.outcome is Outcome.NO_ACTION, report
    assert (rig.state(second), rig.tasks("paused")) == ("running", [])


# --- a daemon that restarts, hangs, or is not there ------------------------------------------------------------------


@pytest.mark.fault("F18")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.faults)])
def test_what_was_contained_is_so_after_a_restart_of_the_daemon(rig: ContainerdRig, number: int) -> None:
    runner = runner_of(rig)
    killed, stopped, paused = rig.run(), rig.run(command=PATIENT), rig.run()
    assert runner.run("kill_container", killed).outcome is Outcome.COMPLETED
    assert runner.run("stop_container", stopped).outcome is Outcome.COMPLETED
    held = runner.run("pause_container", paused)
    rig.end(number)
    with pytest.raises(TransientFailure):
        action("pause_container").lost(effect_of(held), runner.host)
    rig.start()
    assert (rig.state(killed), rig.state(stopped)) == ("exited", "exited")
    assert rig.state(paused) in ("running", "unknown"), "CRI cannot say it"
    assert rig.tasks("paused") == [paused], "containerd's shims go on without it"
    assert action("pause_container").lost(effect_of(held), runner.host) == ""
    assert runner.run("unpause_container", paused, undoes=effect_of(held)).outcome is Outcome.COMPLETED
    assert rig.tasks("running").count(paused) == 1
    assert runner.run("kill_container", paused).outcome is Outcome.COMPLETED
    assert rig.state(paused) == "exited"


@pytest.mark.fault("F17")
@pytest.mark.parametrize("hung_s", [3, pytest.param(30, marks=pytest.mark.faults)])
def test_while_the_daemon_hangs_a_kill_goes_by_the_kernel_and_a_stop_waits(rig: ContainerdRig, hung_s: float) -> None:
    runner, killed, stopped = runner_of(rig, timeout_s=1), rig.run(labels=KUBELETS), rig.run(command=PATIENT)
    began = time.monotonic()
    with rig.hung():
        report = runner.run("kill_container", killed)
        assert (report.outcome, str(report.outputs["runtime"]).split(":")[0]) == (Outcome.COMPLETED, "kernel")
        assert "kubelet" in report.message
        with pytest.raises(TransientFailure, match="does not answer"):
            runner.bind("stop_container", stopped)
        time.sleep(max(0.0, began + hung_s - time.monotonic()))
    until(lambda: rig.state(killed) == "exited")
    assert runner.run("stop_container", stopped).outcome is Outcome.COMPLETED


class HangsAt(CriSockets):
    """The real adapter, whose daemon hangs just before it would be called, or when it has just received the call."""

    def __init__(self, rig: ContainerdRig, received_s: float) -> None:
        super().__init__([str(rig.socket)], clock=SystemClock(), limits=CallLimits(call_s=1.0, stop_s=-0.5))
        self.rig = rig
        self.received_s = received_s

    def _handle(self, ref: ContainerRef, daemon: Callable[[], CriRuntime]) -> CriContainer:
        return HangingContainer(ref.id, daemon, None, self)


@dataclass(frozen=True, slots=True)
class HangingContainer(CriContainer):
    sockets: HangsAt

    def stop(self, *, grace_s: int) -> Refusal | None:
        hanging = threading.Timer(self.sockets.received_s, self.sockets.rig.hang)
        hanging.start()
        if not self.sockets.received_s:
            hanging.join()
        try:
            return CriContainer.stop(self, grace_s=grace_s)
        finally:
            hanging.join()


@pytest.mark.fault("F17")
@pytest.mark.parametrize("received_s", [0, 1.0])
@pytest.mark.parametrize("hung_s", [4, pytest.param(30, marks=pytest.mark.faults)])
def test_what_a_hung_daemon_did_is_never_reported_wrong(rig: ContainerdRig, received_s: float, hung_s: float) -> None:
    """F17. A call that it never received is surely not carried out; one that it did is unknown until it wakes."""
    sockets = HangsAt(rig, received_s)
    runner, container_id = ActionRunner(HostContainers(sockets, kernel=None)), rig.run()
    job, claim = runner.bind("stop_container", container_id, grace_s=2)
    try:
        with pytest.raises(Indeterminate if received_s else TransientFailure):
            action("stop_container").execute(job, claim, runner.host)
        waking = threading.Timer(hung_s, rig.wake)
        waking.start()
        outcomes = []
        while isinstance(found := action("stop_container").probe(job, claim, runner.host), Pending):
            outcomes.append(found.report.outcome)
            time.sleep(0.3)
        waking.join()
    finally:
        rig.wake()
    assert set(outcomes) == {Outcome.UNKNOWN}
    if isinstance(found, Done):
        assert (found.report.outcome, rig.state(container_id)) == (Outcome.COMPLETED, "exited")
    else:  # it gave the call up, as its deadline demands: then it may be asked again
        assert rig.state(container_id) == "running"
        sockets.received_s = 0
        with pytest.raises(TransientFailure):
            action("stop_container").execute(job, claim, runner.host)
        rig.wake()
    print(f"\ncontainerd hung {hung_s} s {received_s} s into a stop: UNKNOWN at {len(outcomes)} looks, then {found}")


# --- a real node -----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(rig: ContainerdRig, tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        made.actions["docker"] = {"socket_path": [str(tmp_path / "none.sock")]}
        made.actions["cri"] = {"socket_path": [str(rig.directory / "**/containerd.sock")]}
        made.configure()
        yield made


_FAILPOINTS = (
    "kill_container.asked",
    pytest.param("stop_container.asked", marks=pytest.mark.faults),
    "pause_container.asked",
    pytest.param("unpause_container.asked", marks=pytest.mark.faults),
)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("failpoint", _FAILPOINTS)
def test_a_node_killed_at_a_step_acts_once_and_reports_it(rig: ContainerdRig, site: NodeSite, failpoint: str) -> None:
    container_id, name = rig.run(command=PATIENT), failpoint.partition(".")[0]
    forward = "pause_container" if name == "unpause_container" else name
    site.start()
    site.heartbeat()
    first = order(site, forward, container_id[:12])
    dying = first if name == forward else site.kill(0, action=name, target=None, undo_of=first.command_id)
    if dying is not first:
        site.send(first)
        assert site.ended(first.command_id, timeout_s=60).outcome is Outcome.COMPLETED
    site.up()
    assert site.stop() == 0
    node = site.start(f"{failpoint}=kill:1")
    site.send(dying)
    assert node.wait(60) == KILLED, f"{failpoint} was never reached"
    site.start()
    ended = site.ended(dying.command_id, timeout_s=60)
    assert ended.outcome is Outcome.COMPLETED, ended
    state = "exited" if name in ("kill_container", "stop_container") else "running"
    assert rig.state(container_id) == state
    assert rig.tasks("paused") == ([container_id] if name == "pause_container" else [])
    effects = {each.command_id: Effect(each.command_id, f"{container_id}/{each.action}") for each in (first, dying)}
    check_all(site.observation(list(effects.values())))
