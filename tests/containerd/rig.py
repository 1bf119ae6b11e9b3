"""One containerd with root, state and socket of its own, whose only images are a static busybox.

Started by the session fixture in ``tests.conftest``, ended by the pids it was started with. Pods use the host's
network: no CNI is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from tests.containerd import kubelet_pb2
from tests.engines import DEAF, DaemonRig, rootfs

_KUBELET: Final = Path(__file__).with_name("kubelet.proto")
_SERVICE: Final = "/runtime.v1.RuntimeService/"
_PAUSE, _BUSYBOX = "localhost/pause:1", "localhost/busybox:1"
_CONFIG: Final = """
version = 2
root = "{at}/root"
state = "{at}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{at}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{at}/cni"
    conf_dir = "{at}/cni"
"""


class ContainerdRig(DaemonRig):
    """containerd and its CRI."""

    def __init__(self, directory: Path) -> None:
        self._attempts = itertools.count()
        (directory / "config.toml").write_text(_CONFIG.format(at=directory), encoding="utf-8")
        super().__init__("containerd", directory)
        for image, command in ((_PAUSE, DEAF), (_BUSYBOX, ("sh",))):
            self._import(image, command)

    def arguments(self) -> Sequence[str]:
        return ["containerd", "--config", str(self.directory / "config.toml")]

    # --- the kubelet's part ---

    @property
    def logs(self) -> Path:
        """Where every container's log is, in place of /var/log/pods."""
        return self.directory / "pods"

    def log(self, container_id: str) -> Path:
        """The log path that its runtime names."""
        answer = self._call("ContainerStatus", kubelet_pb2.ContainerStatusResponse, container_id=container_id)
        return Path(answer.status.log_path)

    def rotate(self, container_id: str, when: str) -> Path:
        """Move its log away, to the file that is answer, and have another begun."""
        log = self.log(container_id)
        rotated = log.rename(log.with_name(f"{log.name}.{when}"))
        self._call("ReopenContainerLog", kubelet_pb2.Nothing, container_id=container_id)
        return rotated

    def run(
        self,
        *,
        command: Sequence[str] = DEAF,
        labels: Mapping[str, str] | None = None,
        pod_labels: Mapping[str, str] | None = None,
        name: str = "web",
        tty: bool = False,
        logged: bool = True,
    ) -> str:
        """A container in a pod of its own; its whole id."""
        return self.join(self.pod(pod_labels), command=command, labels=labels, name=name, tty=tty, logged=logged)

    def pod(self, labels: Mapping[str, str] | None = None) -> str:
        """A pod's sandbox; its whole id."""
        return str(
            self._call("RunPodSandbox", kubelet_pb2.RunPodSandboxResponse, config=self._pod(labels)).pod_sandbox_id
        )

    def join(
        self,
        sandbox_id: str,
        *,
        command: Sequence[str] = DEAF,
        labels: Mapping[str, str] | None = None,
        name: str = "web",
        tty: bool = False,
        logged: bool = True,
    ) -> str:
        """A container in that pod; its log is below ``logs``, unless it is to have none."""
        attempt = next(self._attempts)
        log = f"{name}/{attempt}.log"
        (self.logs / log).parent.mkdir(parents=True, exist_ok=True)
        config = kubelet_pb2.ContainerConfig(
            metadata={"name": name, "attempt": attempt},
            image={"image": _BUSYBOX},
            command=list(command),
            labels=dict(labels or {}),
            log_path=log if logged else "",
            tty=tty,
            linux={"security_context": {"namespace_options": {"network": 2, "pid": 1}}},
        )
        made = self._call(
            "CreateContainer",
            kubelet_pb2.CreateContainerResponse,
            pod_sandbox_id=sandbox_id,
            config=config,
            sandbox_config=self._pod({}),
        )
        self._call("StartContainer", kubelet_pb2.Nothing, container_id=made.container_id)
        return str(made.container_id)

    def remove(self, container_id: str) -> None:
        """Without a trace of the container; its pod stays."""
        self._call("RemoveContainer", kubelet_pb2.Nothing, container_id=container_id)

    def state(self, container_id: str) -> str:
        """CRI's word for its state."""
        answer = self._call("ContainerStatus", kubelet_pb2.ContainerStatusResponse, container_id=container_id)
        return ("created", "running", "exited", "unknown")[answer.status.state]

    def pid(self, container_id: str) -> int:
        """Its init."""
        answer = self._call(
            "ContainerStatus", kubelet_pb2.ContainerStatusResponse, container_id=container_id, verbose=True
        )
        return int(json.loads(answer.info["info"])["pid"])

    def clear(self) -> None:
        """Remove every pod."""
        for each in self._call("ListPodSandbox", kubelet_pb2.ListPodSandboxResponse).items:
            for task in self.tasks("paused"):
                self.ctr("tasks", "resume", task)
            self._call("StopPodSandbox", kubelet_pb2.Nothing, pod_sandbox_id=each.id)
            self._call("RemovePodSandbox", kubelet_pb2.Nothing, pod_sandbox_id=each.id)

    def tasks(self, state: str) -> list[str]:
        """The ids of containerd's own tasks in a state: an oracle beside the code under test."""
        rows = [row.split() for row in self.ctr("tasks", "ls").splitlines()[1:]]
        return [row[0] for row in rows if row[2].lower() == state]

    def ctr(self, *arguments: str) -> str:
        """containerd's own tool."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    # --- inside ---

    def _pod(self, labels: Mapping[str, str] | None) -> Any:
        number = next(self._attempts)
        return kubelet_pb2.PodSandboxConfig(
            metadata={"name": f"pod{number}", "uid": f"u{number}", "namespace": "default"},
            log_directory=str(self.logs),
            labels=dict(labels or {}),
            linux={"security_context": {"namespace_options": {"network": 2}}},
        )

    def _answers(self) -> bool:
        try:
            self._call("ListContainers", kubelet_pb2.ListContainersResponse, timeout_s=2)
        except grpc.RpcError:
            return False
        return True

    def _call(self, method: str, reply: type[Message], *, timeout_s: float = 60, **request: Any) -> Any:
        with self._channel() as channel:
            call: grpc.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
                _SERVICE + method,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=reply.FromString,
            )
            return call(getattr(kubelet_pb2, f"{method}Request")(**request), timeout=timeout_s)

    @contextlib.contextmanager
    def _channel(self) -> Iterator[grpc.Channel]:
        options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(f"unix:{self.socket}", options=options)
        try:
            yield channel
        finally:
            channel.close()

    def _import(self, image: str, command: Sequence[str]) -> None:
        archive = self.directory / "image.tar"
        archive.write_bytes(image_archive(image, command))
        self.ctr("images", "import", str(archive))


def image_archive(name: str, command: Sequence[str]) -> bytes:
    """An image of one layer, the static busybox, as ``docker save`` would write it."""
    layer = rootfs()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for file, content in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()
