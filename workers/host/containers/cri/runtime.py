"""One CRI runtime behind one socket: its answers about containers and pod sandboxes, and the calls that change them.

Made by ``container``; speaks through ``endpoint``. A sandbox is shown as the container that it is, with its mark, so
that it is protected and not merely unknown.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from workers.domain.targets.container import WHOLE_ID, ContainerFacts
from workers.host.containers.cri import facts
from workers.host.containers.cri.endpoint import Endpoint, Service
from workers.host.containers.ports import Containers, Refusal
from workers.host.containers.runtime_sockets import FAULT_S, CallLimits
from workers.system.ports import Clock

if TYPE_CHECKING:
    from workers.host.containers.cri.stubs import cri_pb2, tasks_pb2

_NO_CRI: Final = "it speaks no CRI v1 (containerd's CRI plugin may be switched off)"


class CriRuntime:
    """Any thread."""

    def __init__(self, socket: str, name: str, *, clock: Clock, kernel: Containers | None, limits: CallLimits) -> None:
        """``socket`` is a path, ``name`` the runtime's in refs; ``kernel`` shows what is frozen where there is no task
        service."""
        self.name = name
        self._endpoint = Endpoint(socket, clock)
        self._kernel = kernel
        self._limits = limits

    # --- questions: they raise ``TransientFailure`` ---

    def matching(self, container_id: str) -> Iterator[ContainerFacts]:
        """Every container and sandbox whose id begins so; none where no CRI is spoken."""
        whole = len(container_id) == WHOLE_ID
        for each in [container_id] if whole else self._ids(container_id):
            found = self.facts(each)
            if found is not None:
                yield found

    def facts(self, container_id: str) -> ContainerFacts | None:
        """The container or sandbox with exactly this id."""
        unsettled = self._endpoint.unsettled  # read first: a call before this one may still be waiting
        answer = self.container_status(container_id, verbose=True)
        if answer is None:
            return self.sandbox(container_id)
        info = facts.info_of(answer.info)
        pod_labels = self._pod_labels(str(info.get("sandboxID") or ""))
        may_run = answer.status.state in (facts.RUNNING, facts.UNKNOWN)
        task = self._task(container_id) if may_run else None
        known = self.in_kernel(container_id) if may_run and task is None else None
        found = facts.facts_of(answer.status, self.name, info=info, pod_labels=pod_labels, task=task, known=known)
        return facts.unsettled(found) if unsettled or self._endpoint.unsettled else found

    def fault(self) -> str:
        """Why it cannot be used; empty where it can."""
        from workers.host.containers.cri.stubs import cri_pb2

        answer = self._endpoint.ask(Service.CRI, "Version", cri_pb2.VersionRequest(version="v1"), FAULT_S)
        return "" if answer is not None else _NO_CRI

    def container_status(self, container_id: str, *, verbose: bool = False) -> "cri_pb2.ContainerStatusResponse | None":
        """CRI's own answer; None where it has no container with exactly this id."""
        from workers.host.containers.cri.stubs import cri_pb2

        request = cri_pb2.ContainerStatusRequest(container_id=container_id, verbose=verbose)
        answer: cri_pb2.ContainerStatusResponse | None = self._endpoint.ask(
            Service.CRI, "ContainerStatus", request, self._limits.call_s
        )
        # CRI accepts a prefix of an id too.
        return answer if answer is not None and answer.status.id == container_id else None

    def sandbox(self, sandbox_id: str) -> ContainerFacts | None:
        """The pod sandbox with exactly this id."""
        answer = self._sandbox_status(sandbox_id, verbose=True)
        if answer is None or answer.status.id != sandbox_id:
            return None
        return facts.sandbox_of(answer.status, self.name, info=facts.info_of(answer.info))

    def in_kernel(self, container_id: str) -> ContainerFacts | None:
        """The system's own cgroups of that id."""
        found = self._kernel.find(container_id) if self._kernel is not None else ()
        return next((each for each in found if each.owner == 0), None)

    # --- effects: they raise as ``Endpoint.act`` ---

    def stop(self, container_id: str, *, grace_s: int) -> Refusal | None:
        """Stop signal, then SIGKILL."""
        return self._stop(container_id, grace_s, self._limits.stop_s + grace_s)

    def kill(self, container_id: str) -> Refusal | None:
        """SIGKILL: a stop without any grace."""
        return self._stop(container_id, 0, self._limits.call_s)

    def pause_task(self, container_id: str) -> Refusal | None:
        """Freeze, by containerd's task service."""
        return self._act_on_task("Pause", container_id)

    def resume_task(self, container_id: str) -> Refusal | None:
        """Thaw, by containerd's task service."""
        return self._act_on_task("Resume", container_id)

    def _stop(self, container_id: str, grace_s: int, timeout_s: float) -> Refusal | None:
        from workers.host.containers.cri.stubs import cri_pb2

        request = cri_pb2.StopContainerRequest(container_id=container_id, timeout=grace_s)
        return self._endpoint.act(Service.CRI, "StopContainer", request, timeout_s)

    def _act_on_task(self, method: str, container_id: str) -> Refusal | None:
        from workers.host.containers.cri.stubs import tasks_pb2

        request = tasks_pb2.TaskRequest(container_id=container_id)
        return self._endpoint.act(Service.TASKS, method, request, self._limits.call_s)

    def _ids(self, prefix: str) -> list[str]:
        from workers.host.containers.cri.stubs import cri_pb2

        limit_s = self._limits.call_s
        containers: cri_pb2.ListContainersResponse | None = self._endpoint.ask(
            Service.CRI, "ListContainers", cri_pb2.ListContainersRequest(), limit_s
        )
        sandboxes: cri_pb2.ListPodSandboxResponse | None = self._endpoint.ask(
            Service.CRI, "ListPodSandbox", cri_pb2.ListPodSandboxRequest(), limit_s
        )
        listed = [*(containers.containers if containers else ()), *(sandboxes.items if sandboxes else ())]
        return [each.id for each in listed if each.id.startswith(prefix)]

    def _pod_labels(self, sandbox_id: str) -> dict[str, str]:
        """The labels of the pod itself: the kubelet gives a container only the pod's names."""
        answer = self._sandbox_status(sandbox_id) if sandbox_id else None
        return dict(answer.status.labels) if answer is not None else {}

    def _sandbox_status(self, sandbox_id: str, *, verbose: bool = False) -> "cri_pb2.PodSandboxStatusResponse | None":
        from workers.host.containers.cri.stubs import cri_pb2

        request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=verbose)
        answer: cri_pb2.PodSandboxStatusResponse | None = self._endpoint.ask(
            Service.CRI, "PodSandboxStatus", request, self._limits.call_s
        )
        return answer

    def _task(self, container_id: str) -> "tasks_pb2.Process | None":
        """containerd's task of a container; None where there is no such service, or no task."""
        from workers.host.containers.cri.stubs import tasks_pb2

        request = tasks_pb2.GetRequest(container_id=container_id)
        answer: tasks_pb2.GetResponse | None = self._endpoint.ask(Service.TASKS, "Get", request, self._limits.call_s)
        return answer.process if answer is not None else None
