"""Real container engines for tests: a dockerd and a Podman service of our own, each in a directory of its own.
containerd is ``tests.containerd``'s.

Started by the session fixtures in ``tests.conftest``, ended by the pids they were started with. The one image is a
static busybox. Network, bridge and iptables of the machine are left alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import docker
import requests

from tests.components import require

PATIENT: Final = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
"""Ends at once when it is asked to."""
DEAF: Final = ("sleep", "1000")
"""As init of its namespace it ignores every signal but SIGKILL."""


class DaemonRig:
    """One daemon."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.socket = directory / f"{name}.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def clear(self) -> None:
        """Remove every container."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def arguments(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def start(self) -> None:
        """The daemon, until it answers. After a SIGKILL dockerd may give up on its containerd, which looks for shims
        that are gone, before that is ready: then once more."""
        for _ in range(3):
            with (self.directory / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment()
                )
            until(lambda: self.process is not None and (self.process.poll() is not None or self._answers()))
            if self._answers():
                return
        raise AssertionError((self.directory / "log").read_text()[-2000:])

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the daemon."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """While the block runs, the daemon takes connections and does nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.wake()

    def hang(self) -> None:
        """From now on it does nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Remove every container, then end the daemon."""
        if self._answers():
            self.wake()
            self.clear()
            self.end()
        for pid in _processes_of(self.directory):  # what a daemon that was killed left behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for mount in _mounts_under(self.directory):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


class EngineRig(DaemonRig):
    """One engine that speaks Docker's API."""

    has_update = True
    """Whether it can change a restart policy."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory)
        self._image = self._import_image()

    def run(
        self,
        *,
        command: Sequence[str] = DEAF,
        policy: str = "",
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        auto_remove: bool = False,
        start: bool = True,
        image: str = "",
        network: str = "none",
    ) -> str:
        """A container of this engine; its whole id."""
        with self.client() as client:
            host = client.create_host_config(
                network_mode=network,
                restart_policy={"Name": policy, "MaximumRetryCount": 0} if policy else None,
                auto_remove=auto_remove,
            )
            made = client.create_container(
                image or self._image,
                list(command),
                host_config=host,
                name=name,
                labels=dict(labels or {}),
                stop_timeout=1,  # what a daemon that ends grants it
            )
            if start:
                client.start(made["Id"])
            return str(made["Id"])

    def see(self, container_id: str) -> Mapping[str, Any] | None:
        """The engine's own JSON: an oracle beside the code under test."""
        with self.client() as client:
            try:
                found: Mapping[str, Any] = client.inspect_container(container_id)
            except docker.errors.NotFound:
                return None
            return found

    def state(self, container_id: str) -> str:
        """In the engine's word."""
        found = self.see(container_id)
        return str(found["State"]["Status"]) if found is not None else "gone"

    def pid(self, container_id: str) -> int:
        """Its init."""
        found = self.see(container_id)
        assert found is not None
        return int(found["State"]["Pid"])

    def begin(self, container_id: str) -> None:
        """Start it (again)."""
        with self.client() as client:
            client.start(container_id)

    def pause(self, container_id: str) -> None:
        """Freeze it."""
        with self.client() as client:
            client.pause(container_id)

    def remove(self, container_id: str) -> None:
        """Without a trace."""
        with self.client() as client, contextlib.suppress(docker.errors.NotFound):
            client.remove_container(container_id, force=True)

    def labelled_image(self, labels: Mapping[str, str]) -> str:
        """An image that gives its containers labels."""
        changes = [f'LABEL {key}="{value}"' for key, value in labels.items()]
        return self._import_image(changes)

    def clear(self) -> None:
        """Remove every container."""
        with self.client() as client:
            for each in client.containers(all=True):
                with contextlib.suppress(docker.errors.APIError):
                    client.remove_container(each["Id"], force=True)

    @contextlib.contextmanager
    def client(self) -> Iterator[docker.APIClient]:
        """A client of the test's own."""
        client = docker.APIClient(base_url=f"unix://{self.socket}", version="auto", timeout=60)
        try:
            yield client
        finally:
            client.close()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asked:  # the client leaks its socket where no process listens
            try:
                asked.connect(str(self.socket))
            except OSError:
                return False
        try:
            with self.client() as client:
                return bool(client.ping())
        except (OSError, requests.RequestException, docker.errors.DockerException):
            return False

    def _import_image(self, changes: Sequence[str] = ()) -> str:
        with self.client() as client:
            answer = client.import_image_from_data(rootfs(), changes=list(changes) or None)
            return str(json.loads(answer.splitlines()[-1])["status"])


class DockerRig(EngineRig):
    """Docker."""

    driver = "vfs"
    """How it lays the layers of an image over one another."""

    def __init__(self, directory: Path) -> None:
        super().__init__("docker", directory)

    def arguments(self) -> Sequence[str]:
        at = self.directory
        return [
            "dockerd",
            *("--iptables=false", "--bridge=none", f"--storage-driver={self.driver}"),
            *("--data-root", str(at / "data"), "--exec-root", str(at / "exec"), "--pidfile", str(at / "pid")),
            *("-H", f"unix://{self.socket}"),
        ]

    def count_events(self, container_id: str, event: str) -> int:
        """How often it logged an event (``kill``, ``stop``, ``start`` …) of a container: what really happened to it."""
        with self.client() as client:
            since, until = 1, int(time.time()) + 1
            found = client.events(since=since, until=until, decode=True, filters={"container": container_id})
            return sum(each["Action"] == event for each in found)


class PodmanRig(EngineRig):
    """Podman's service. It keeps no daemon: containers go on without it."""

    has_update = False

    def __init__(self, directory: Path) -> None:
        (directory / "containers.conf").write_text(
            # Limits above our own hard ones are refused; crun cannot do hybrid control groups.
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\nnetns = "none"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "runc"\n'
        )
        super().__init__("podman", directory)

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.directory / "containers.conf")}

    def arguments(self) -> Sequence[str]:
        at = self.directory
        return [
            *("podman", "--root", str(at / "root"), "--runroot", str(at / "run"), "--tmpdir", str(at / "tmp")),
            *("--storage-driver", "vfs", "system", "service", "--time", "0", f"unix://{self.socket}"),
        ]


def require_engine(name: str) -> None:
    """Stop the test where a real engine cannot run."""
    require("root", "a container engine of our own needs it")
    for program in ({"docker": "dockerd"}.get(name, name), "runc", "busybox"):
        require(program, f"the tests start {name} themselves")


def until(ready: Callable[[], object], *, timeout_s: float = 60) -> None:
    """Wait for a condition."""
    end = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def rootfs() -> bytes:
    """A root file system that has a static busybox and nothing else."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        busybox = shutil.which("busybox")
        assert busybox is not None
        archive.add(Path(busybox).resolve(), "bin/busybox")
        for name in ("sh", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return made.getvalue()


def _processes_of(directory: Path) -> list[int]:
    """Whose command line names something in this directory: ours, or started by ours."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{directory}/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def _mounts_under(directory: Path) -> list[str]:
    rows = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [at for at in (row.split()[1] for row in rows) if at.startswith(f"{directory}/")][::-1]
