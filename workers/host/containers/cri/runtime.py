"""One CRI runtime behind one socket: what it says of containers and pod sandboxes, and what can be done to them.

Made by ``containers``; speaks through ``endpoint``. A sandbox is shown as the container that it is, marked as what it
is, so that it is protected and not merely unknown.
"""

import os
from collections.abc import Generator, Iterator
from typing import Any, Final

from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.targets.container import WHOLE_ID, ContainerFacts, RestartPolicy
from workers.host.containers.cri import reading
from workers.host.containers.cri.endpoint import CRI, TASKS, Endpoint
from workers.host.containers.cri.log_files import read_log
from workers.host.containers.ports import Containers, Refusal

_FAULT_S: Final = 1.0
_NO_CRI: Final = "it speaks no CRI v1 (containerd's CRI plugin may be switched off)"


class CriRuntime:
    """Any thread."""

    def __init__(
        self, endpoint: Endpoint, name: str, *, kernel: Containers | None, timeout_s: float, stop_timeout_s: float
    ) -> None:
        """``name`` is its own in refs; ``kernel`` freezes where there is no task service; time limits are of one call,
        ``stop_timeout_s`` beyond the grace."""
        self._endpoint = endpoint
        self._name = name
        self._kernel = kernel
        self._timeout_s = timeout_s
        self._stop_timeout_s = stop_timeout_s

    def matching(self, container_id: str) -> Iterator[ContainerFacts]:
        """Every container and sandbox whose id begins so; none where no CRI is spoken."""
        whole = len(container_id) == WHOLE_ID
        for each in [container_id] if whole else self._ids(container_id):
            facts = self.facts(each)
            if facts is not None:
                yield facts

    def facts(self, container_id: str) -> ContainerFacts | None:
        """The container or sandbox with exactly this id."""
        unsettled = self._endpoint.unsettled  # asked first: a call before this one may still be waiting
        told = self._look("ContainerStatus", "ContainerStatusResponse", container_id=container_id, verbose=True)
        if told is None or told.status.id != container_id:  # a prefix is answered too
            return self._sandbox(container_id)
        inside = reading.info_of(told.info)
        pod = self._pod_labels(str(inside.get("sandboxID") or ""))
        runs = told.status.state in (reading.RUNNING, reading.UNKNOWN)
        task = self._task(container_id) if runs else None
        known = self._in_kernel(container_id) if runs and task is None else None
        facts = reading.facts_of(told.status, self._name, inside=inside, pod=pod, task=task, known=known)
        return reading.unsettled(facts) if unsettled or self._endpoint.unsettled else facts

    def fault(self) -> str:
        """Why it is of no use; empty where it is."""
        told = self._endpoint.look(CRI, "Version", "VersionResponse", _FAULT_S, version="v1")
        return "" if told is not None else _NO_CRI

    def restrain(self, container_id: str, policy: RestartPolicy) -> Refusal | None:
        """CRI knows none: the kubelet restarts containers."""
        del container_id, policy
        return Refusal("CRI has no restart policy: its kubelet starts another container instead", may_pass=False)

    def kill(self, container_id: str) -> Refusal | None:
        """SIGKILL: a stop without any grace."""
        return self._stop(container_id, 0, self._timeout_s)

    def stop(self, container_id: str, grace_s: int) -> Refusal | None:
        """Stop signal, then SIGKILL."""
        return self._stop(container_id, grace_s, self._stop_timeout_s + grace_s)

    def start(self, container_id: str) -> Refusal | None:
        """Nothing to one that runs; one that has ended cannot run again."""
        facts = self.facts(container_id)
        if facts is not None and facts.alive:
            return None
        return Refusal("CRI cannot start a container again that has ended: its kubelet makes another", may_pass=False)

    def pause(self, container_id: str) -> Refusal | None:
        """Freeze."""
        refused = self._act_on_task("Pause", container_id)
        known = self._in_kernel(container_id) if refused is not None and not refused.may_pass else None
        return self._kernel.pause(known.ref) if self._kernel is not None and known is not None else refused

    def unpause(self, container_id: str) -> Refusal | None:
        """Thaw."""
        refused = self._act_on_task("Resume", container_id)
        known = self._in_kernel(container_id) if refused is not None and not refused.may_pass else None
        return self._kernel.unpause(known.ref) if self._kernel is not None and known is not None else refused

    def logs(self, container_id: str, *, tail: int, since_ns: int) -> Generator[bytes]:
        """CRI has no call for them: they are files that its runtime writes and its kubelet keeps."""
        told = self._look("ContainerStatus", "ContainerStatusResponse", container_id=container_id)
        if told is None or told.status.id != container_id:
            if self._sandbox(container_id) is not None:
                why = f"{container_id[:12]} is a pod's sandbox, which has no log; name one of its containers"
                raise PermanentFailure(why, code="logs_unavailable")
            raise TransientFailure(f"{self._name} has no container {container_id[:12]} any more")
        if not told.status.log_path:
            why = f"its runtime was told to keep no log of container {container_id[:12]}"
            raise PermanentFailure(why, code="logs_unavailable")
        yield from read_log(os.fsencode(told.status.log_path), tail=tail, since_ns=since_ns)

    def _in_kernel(self, container_id: str) -> ContainerFacts | None:
        """The system's own cgroups of that id."""
        found = self._kernel.find(container_id) if self._kernel is not None else ()
        return next((facts for facts in found if facts.owner == 0), None)

    def _stop(self, container_id: str, grace_s: int, timeout_s: float) -> Refusal | None:
        return self._endpoint.act(
            CRI, "StopContainer", "StopContainerResponse", timeout_s, container_id=container_id, timeout=grace_s
        )

    def _act_on_task(self, method: str, container_id: str) -> Refusal | None:
        return self._endpoint.act(TASKS, method, "Empty", self._timeout_s, container_id=container_id)

    def _ids(self, prefix: str) -> list[str]:
        containers = self._look("ListContainers", "ListContainersResponse")
        sandboxes = self._look("ListPodSandbox", "ListPodSandboxResponse")
        listed = [*(containers.containers if containers else ()), *(sandboxes.items if sandboxes else ())]
        return [each.id for each in listed if each.id.startswith(prefix)]

    def _sandbox(self, sandbox_id: str) -> ContainerFacts | None:
        told = self._look("PodSandboxStatus", "PodSandboxStatusResponse", pod_sandbox_id=sandbox_id, verbose=True)
        if told is None or told.status.id != sandbox_id:
            return None
        return reading.sandbox_of(told.status, self._name, inside=reading.info_of(told.info))

    def _pod_labels(self, sandbox_id: str) -> dict[str, str]:
        """What the pod itself is labelled: the kubelet gives a container only its names."""
        if not sandbox_id:
            return {}
        told = self._look("PodSandboxStatus", "PodSandboxStatusResponse", pod_sandbox_id=sandbox_id)
        return dict(told.status.labels) if told is not None else {}

    def _task(self, container_id: str) -> Any:
        """What containerd says of its task; None where there is no such service, or no task."""
        told = self._endpoint.look(TASKS, "Get", "GetResponse", self._timeout_s, container_id=container_id)
        return told.process if told is not None else None

    def _look(self, method: str, reply: str, **request: Any) -> Any:
        return self._endpoint.look(CRI, method, reply, self._timeout_s, **request)
