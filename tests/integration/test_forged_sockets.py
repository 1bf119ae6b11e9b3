"""Forged runtimes. A user's own socket, and one that root in a container listens on, claim to have the
victim: neither turns a kill into a refusal, a success or an ambiguity, and neither is even asked.

The forged runtimes are real servers under other uids, or in a container's cgroup.
"""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroups import Cgroups, cgroups
from tests.components import require
from tests.engines import DockerRig, until
from tests.integration.action_runner import ActionRunner
from tests.runtimes import engines
from tests.victims import Victims, victims
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Outcome
from workers.host.containers.cri import CriSockets
from workers.host.containers.docker import EngineSockets
from workers.host.containers.host_containers import HostContainers
from workers.host.containers.kernel import SCHEME, KernelContainers
from workers.host.containers.sockets import find_sockets
from workers.system.clock import SystemClock

pytestmark = [pytest.mark.slow]

ALICE = 61_001
ID = "decade" * 10 + "0001"

FORGED_RUNTIME = """
import http.server, json, socketserver, sys
path, container_id, log = sys.argv[1:]
state = {"Status": "exited", "Running": False, "Pid": 0, "StartedAt": "2020-01-01T00:00:00Z"}
container = {"Id": container_id, "State": state, "Config": {"Labels": {"douse.protected": "true"}}, "HostConfig": {}}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with open(log, "a") as asked:
            asked.write(self.path + "\\n")
        known = {"version": {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}, "containers/json": [container]}
        body = next((made for end, made in known.items() if self.path.partition("?")[0].endswith(end)), container)
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def address_string(self):
        return "client"

    def log_message(self, *_):
        pass

print("ready", flush=True)
sys.stdin.readline()
socketserver.ThreadingUnixStreamServer(path, Handler).serve_forever()
"""


@pytest.fixture
def started() -> Iterator[Victims]:
    require("root", "only root becomes another user")
    with victims() as made:
        yield made


@pytest.fixture
def groups(started: Victims) -> Iterator[Cgroups]:
    del started
    with cgroups("freezer") as made:
        yield made


class ForgedRuntime:
    """A runtime's socket that has whatever it is asked for, already ended, and protected."""

    def __init__(self, started: Victims, directory: Path, container_id: str, *, uid: int = 0) -> None:
        self.socket = directory / "podman.sock"
        self._log = directory / "asked"
        self._started = started
        options = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
        arguments = ["/usr/bin/python3", "-c", FORGED_RUNTIME, str(self.socket), container_id, str(self._log)]
        self.pid = started.spawn(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        started.read_line(self.pid)

    def listen(self) -> None:
        """From now on."""
        self._started.tell(self.pid)
        until(self.socket.is_socket)

    @property
    def asked(self) -> str:
        """Every question that it got."""
        return self._log.read_text() if self._log.exists() else ""


@pytest.fixture
def open_tmp(tmp_path: Path) -> Path:
    """A directory that other users can reach."""
    parents = itertools.takewhile(lambda each: each != Path(tempfile.gettempdir()), (tmp_path, *tmp_path.parents))
    for each in parents:
        each.chmod(stat.S_IMODE(each.stat().st_mode) | 0o055)
    return tmp_path


def a_users_forgery(started: Victims, open_tmp: Path, container_id: str) -> ForgedRuntime:
    directory = open_tmp / f"run/user/{ALICE}/podman"
    directory.mkdir(parents=True)
    for each in (directory, directory.parent):
        os.chown(each, ALICE, ALICE)
    forgery = ForgedRuntime(started, directory, container_id, uid=ALICE)
    forgery.listen()
    return forgery


def runner_of(open_tmp: Path, *sockets: Path) -> ActionRunner:
    clock = SystemClock()
    kernel = KernelContainers(clock=clock)
    globs = [*map(str, sockets), f"{open_tmp}/run/*/*/podman/podman.sock"]
    docker, cri = EngineSockets(globs, clock=clock), CriSockets([f"{open_tmp}/run/**/*.sock"], clock=clock)
    return ActionRunner(HostContainers(docker, cri, kernel=kernel))


def test_the_forged_runtime_would_be_trusted_where_root_listens(started: Victims, open_tmp: Path) -> None:
    """So that the tests below can fail."""
    forgery = ForgedRuntime(started, open_tmp, ID)
    forgery.listen()
    (facts,) = engines(forgery.socket).find(ID[:12])
    assert (facts.alive, facts.labels) == (False, {"douse.protected": "true"})
    assert ID in forgery.asked


def test_a_users_socket_that_claims_roots_container_changes_nothing(
    docker_engine: DockerRig, started: Victims, open_tmp: Path
) -> None:
    victim = docker_engine.run()
    try:
        forgery = a_users_forgery(started, open_tmp, victim)
        runner = runner_of(open_tmp, docker_engine.socket)
        report = runner.run("kill_container", victim[:12])
        assert (report.outcome, report.outputs["runtime"]) == (Outcome.COMPLETED, str(docker_engine.socket))
        assert docker_engine.state(victim) == "exited"
        assert forgery.asked == ""
    finally:
        docker_engine.clear()


def test_a_users_socket_that_claims_a_container_of_a_silent_runtime_changes_nothing(
    docker_engine: DockerRig, started: Victims, open_tmp: Path
) -> None:
    victim = docker_engine.run()
    try:
        forgery = a_users_forgery(started, open_tmp, victim)
        report = runner_of(open_tmp).run("kill_container", victim)  # of root's runtimes none is there
        assert (report.outcome, report.code) == (Outcome.UNKNOWN, "kill_container_error_restart_pending")
        assert str(report.outputs["runtime"]).startswith(SCHEME)
        until(lambda: docker_engine.state(victim) == "exited")
        assert forgery.asked == ""
    finally:
        docker_engine.clear()


def test_what_only_a_users_socket_claims_is_unknown(docker_engine: DockerRig, started: Victims, open_tmp: Path) -> None:
    forgery = a_users_forgery(started, open_tmp, ID)
    with pytest.raises(CommandRejected) as refused:
        runner_of(open_tmp, docker_engine.socket).bind("kill_container", ID)
    assert refused.value.reason == "container_unknown"
    assert forgery.asked == ""


def test_a_users_own_container_is_killed_by_the_kernel_whatever_the_users_socket_answers(
    docker_engine: DockerRig, started: Victims, groups: Cgroups, open_tmp: Path
) -> None:
    malware = started.spawn(user=ALICE, group=ALICE, extra_groups=[])
    groups.put(groups.make(f"alice/libpod-{ID}.scope", ALICE, ALICE), malware)
    forgery = a_users_forgery(started, open_tmp, ID)  # "it has ended already, and is protected"
    runner = runner_of(open_tmp, docker_engine.socket)
    assert runner.run("pause_container", ID[:12]).outcome is Outcome.COMPLETED
    with pytest.raises(CommandRejected) as refused:
        runner.bind("stop_container", ID)
    assert refused.value.reason == "runtime_unknown"
    assert runner.run("kill_container", ID[:12]).outcome is Outcome.COMPLETED
    assert started.dead_within(malware, 10)
    assert forgery.asked == ""


def test_a_socket_that_root_in_a_container_listens_on_is_not_trusted(
    started: Victims, groups: Cgroups, open_tmp: Path
) -> None:
    directory = open_tmp / "run/containers/secrets"
    directory.mkdir(parents=True)
    forgery = ForgedRuntime(started, directory, ID)
    groups.put(groups.make(f"docker/{ID}"), forgery.pid)
    forgery.listen()
    (found,) = find_sockets([f"{open_tmp}/run/**/podman.sock"])
    assert not found.trusted
    assert "container decadedecade listens" in found.why
    code = "from workers.host.containers.sockets import find_sockets; import sys; print(find_sockets(sys.argv[1:]))"
    own = subprocess.run(
        [sys.executable, "-c", code, str(forgery.socket)],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: groups.put(groups.make(f"docker/{ID}"), os.getpid()),
    )
    assert "trusted=True" in own.stdout, "who shares its container believes it"
    assert forgery.asked == ""


def test_sockets_are_not_looked_for_in_the_file_systems_of_containers(started: Victims, open_tmp: Path) -> None:
    mounted, of_alice = open_tmp / "run/io/c/rootfs", open_tmp / f"run/user/{ALICE}"
    for each in (mounted, of_alice):
        each.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(mounted)], check=True)
    try:
        os.chown(of_alice, ALICE, ALICE)
        allowed, *others = [ForgedRuntime(started, directory, ID) for directory in (mounted.parent, mounted, of_alice)]
        for forgery in (allowed, *others):
            forgery.listen()
        found = find_sockets([f"{open_tmp}/run/**/podman.sock"])
        assert [each.path for each in found] == [str(allowed.socket)]
    finally:
        started.close()
        subprocess.run(["umount", "-l", str(mounted)], check=True)
