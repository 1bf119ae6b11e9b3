"""The port ``Containers`` on cgroups and pidfds alone.

Made by wiring; asked by ``host_containers`` and, for its freezer, by ``cri``. A run is a cgroup: its number is never
reused, and a container that is started again has another. When a run began is unknown, because the oldest process of a
container may end before the others. Runs of a user's container are not told apart: users move their processes from
cgroup to cgroup as they like.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from workers.domain.errors import TransientFailure
from workers.domain.targets.cgroup_names import ids_in
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState, Runtime
from workers.host.containers.bundles import BUNDLES, labels_of
from workers.host.containers.cgroup_hierarchies import Hierarchies
from workers.host.containers.kernel.container import KernelContainer, is_frozen, same_run
from workers.host.containers.kernel.members import KernelView, cgroups_of, views
from workers.host.containers.kernel.run_name import RunName, run_name
from workers.host.processes import proc_files
from workers.host.processes.boot import Boot
from workers.host.processes.procfs import parse_cgroups
from workers.system.ports import Clock

_NO_USER: Final = 65_534


class KernelContainers:
    """Any thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        own_line: Callable[[], Collection[int]] = tuple,
        mountinfo: str | None = None,
        proc: Path = Path("/proc"),
        bundles: tuple[str, ...] = BUNDLES,
    ) -> None:
        """``own_line`` are processes that nothing here may touch; ``mountinfo`` is this process's own unless given;
        ``bundles`` are where runtimes keep what they know of a container."""
        self.clock = clock
        self.own_line = own_line
        self._hierarchies = Hierarchies(mountinfo)
        self._proc = proc
        self._boot = Boot()
        self._bundles = bundles

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """Raises nothing."""
        return [self.facts(view, len(container_id)) for view in views(self._hierarchies, container_id, proc=self._proc)]

    def served(self, container_id: str) -> ContainerFacts | None:
        """Not by this: it asks no runtime."""
        raise TransientFailure(f"only the kernel is asked for {container_id[:12]}", code="no_runtime")

    def open(self, ref: ContainerRef) -> KernelContainer:
        return KernelContainer(ref, self)

    def own_ids(self) -> Collection[str]:
        """Those that this process's own cgroups name."""
        paths = parse_cgroups(_text(f"{self._proc}/self/cgroup").encode())
        return {each for path in paths.values() for each in ids_in(path)}

    def runtimes(self) -> Sequence[Runtime]:
        """None: it has no socket."""
        return ()

    def view(self, ref: ContainerRef) -> KernelView | None:
        """What has that id now: the system's container where it was that, else whatever users named so."""
        name = run_name(ref)
        found = views(self._hierarchies, ref.id[: name.digits], proc=self._proc)
        return next(
            (view for view in found if view.by_system == name.by_system and (view.id == ref.id or not view.by_system)),
            None,
        )

    def is_member(self, pid: int, view: KernelView, ref: ContainerRef) -> bool:
        """Whether a process is in one of the cgroups of ``view`` now."""
        now = cgroups_of(pid, self._hierarchies, ref.id[: run_name(ref).digits], proc=self._proc)
        return bool(set(now) & set(view.cgroups))

    def facts(self, view: KernelView, digits: int, *, claimed: ContainerRef | None = None) -> ContainerFacts:
        """What the kernel shows of it; as the run of ``claimed`` where it still is that."""
        oldest = min(view.pids, key=lambda pid: (proc_files.start_ticks(pid), pid))
        name = RunName(view.by_system, digits, view.cgroups[0].inode, oldest)
        ref, started_at_ns = ContainerRef(str(name), view.id), 0
        if claimed is not None and same_run(view, claimed):
            ref, oldest = claimed, run_name(claimed).pid if run_name(claimed).pid in view.pids else 0
        elif claimed is not None:
            started_at_ns = self._boot.time_ns() + proc_files.start_ticks(oldest) * self._boot.tick_ns
        return ContainerFacts(
            ref=ref,
            state=ContainerState.PAUSED if is_frozen(view) else ContainerState.RUNNING,
            started_at_ns=started_at_ns,
            pid=oldest,
            labels=labels_of(view.id, self._bundles) if view.by_system else {},
            owner=0 if view.by_system else _owner(view),
            starts_again=False,
        )


def _owner(view: KernelView) -> int:
    """The user that created it, as far as that is known; never 0, which is the system's."""
    try:
        return view.cgroups[0].directory.lstat().st_uid or _NO_USER
    except OSError:
        return _NO_USER


def _text(path: str) -> str:
    try:
        return proc_files.contents(path, most=1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
