"""The port ``Containers`` on cgroups and pidfds alone.

Made by wiring; asked by ``host.containers.host_containers`` and, for its freezer, by ``cri``. A run is a cgroup: its
number never returns, and a container that is started again has another. When it began is not told, because the oldest
process of a container may end before the others. Runs of a user's container are not told apart: he moves his processes
from cgroup to cgroup as he likes.
"""

import os
import signal
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.domain.targets.cgroup_names import ids_in
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState, RestartPolicy, Runtime
from workers.host.containers.behind_sockets import await_end
from workers.host.containers.bundles import BUNDLES, labels_of
from workers.host.containers.hierarchies import Bearer, Hierarchies
from workers.host.containers.kernel import cgroup
from workers.host.containers.kernel.naming import Name, named
from workers.host.containers.kernel.sightings import Sighting, borne_by, hold, sightings
from workers.host.containers.ports import Refusal
from workers.host.processes import texts
from workers.host.processes.boot import Boot
from workers.host.processes.holding import ended
from workers.host.processes.procfs import parse_cgroups
from workers.system.ports import Clock

_FREEZE_S: Final = 2.0
_STILL_S: Final = 0.2
"""How long a kill waits for a freezer: what hangs in a call of the kernel stops it, and is killed as it is."""
_KILL_S: Final = 5.0
_POLL_S: Final = 0.01


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
        self._clock = clock
        self._own_line = own_line
        self._hierarchies = Hierarchies.of_this_machine() if mountinfo is None else Hierarchies(mountinfo)
        self._proc = proc
        self._boot = Boot()
        self._bundles = bundles

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """As the port says. Raises nothing."""
        return [self._facts(seen, len(container_id)) for seen in self._sightings(container_id)]

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        """As the port says; None when no process of it is left. Raises nothing."""
        seen = self._seen(ref)
        return self._facts(seen, named(ref).digits, claimed=ref) if seen is not None else None

    def await_end(self, ref: ContainerRef, *, started_at_ns: int, timeout_s: float) -> ContainerFacts | None:
        """As the port says."""
        return await_end(self, self._clock, ref, started_at_ns=started_at_ns, timeout_s=timeout_s)

    def restrain(self, ref: ContainerRef, policy: RestartPolicy) -> Refusal | None:
        """The kernel restarts nothing."""
        del ref, policy
        return Refusal("no runtime answers for it, and the kernel knows no restart policy", may_pass=False)

    def stop(self, ref: ContainerRef, *, grace_s: int) -> Refusal | None:
        """The kernel does not know its stop signal."""
        del ref, grace_s
        return Refusal("no runtime answers for it, so it can only be killed or paused", may_pass=False)

    def start(self, ref: ContainerRef) -> Refusal | None:
        """The kernel does not know what to start."""
        del ref
        return Refusal("no runtime answers for it, and only its runtime can start it", may_pass=False)

    def logs(self, ref: ContainerRef, *, tail: int, since_ns: int) -> Generator[bytes]:
        """The kernel keeps none."""
        del ref, tail, since_ns
        raise PermanentFailure("no runtime answers for it, and only its runtime has its logs", code="logs_unsupported")

    def kill(self, ref: ContainerRef) -> Refusal | None:
        """SIGKILL to every member, each held by pidfd, until none is left or 5 s are over. What is frozen is thawed
        once every member has its SIGKILL: none of them runs again."""
        seen, refused = self._meant(ref)
        until_ns = self._clock.monotonic_ns() + round(_KILL_S * 1e9)
        while seen is not None and refused is None:
            self._sweep(seen, ref)
            if self._clock.monotonic_ns() >= until_ns:
                return None  # whoever asked looks whether it has ended
            self._clock.sleep(_POLL_S)
            seen, over = self._meant(ref)
            if over is not None:
                return None
        return refused

    def pause(self, ref: ContainerRef) -> Refusal | None:
        """The freezer: of version 1 where it is in one, as its runtime would, else of version 2."""
        seen, refused = self._meant(ref)
        if seen is None or refused is not None:
            return refused
        if _frozen(seen):
            return Refusal("it is frozen already", may_pass=False)
        faults = [fault for bearer in _freezable(seen) if (fault := cgroup.freeze(bearer))]
        if faults or not _freezable(seen):
            return Refusal(faults[0] if faults else "no freezer has it", may_pass=bool(faults))
        if self._still(_freezable(seen), _FREEZE_S):
            return None
        return Refusal("not all of it stands still yet: something is in a call of the kernel", may_pass=True)

    def unpause(self, ref: ContainerRef) -> Refusal | None:
        """The freezer again."""
        seen, refused = self._meant(ref)
        if seen is None or refused is not None:
            return refused
        if not _frozen(seen):
            return Refusal("it is not frozen", may_pass=False)
        faults = [fault for bearer in _freezable(seen) if (fault := cgroup.thaw(bearer))]
        return Refusal(faults[0], may_pass=True) if faults else None

    def own_ids(self) -> Collection[str]:
        """Those that this process's own cgroups name."""
        paths = parse_cgroups(_text(f"{self._proc}/self/cgroup").encode())
        return {each for path in paths.values() for each in ids_in(path)}

    def runtimes(self) -> Sequence[Runtime]:
        """None: it has no socket."""
        return ()

    def _sightings(self, prefix: str) -> Sequence[Sighting]:
        return sightings(self._hierarchies, prefix, proc=self._proc)

    def _seen(self, ref: ContainerRef) -> Sighting | None:
        """What goes by that id now: the system's where it was that, else whatever users call so."""
        name = named(ref)
        found = self._sightings(ref.id[: name.digits])
        return next(
            (seen for seen in found if seen.systems == name.systems and (seen.id == ref.id or not seen.systems)), None
        )

    def _meant(self, ref: ContainerRef) -> tuple[Sighting | None, Refusal | None]:
        """What a claim names, still the same run and not us: or what is to be said."""
        seen = self._seen(ref)
        if seen is None:
            return None, Refusal("no process of it is left", may_pass=False)
        if not _same_run(seen, ref):
            return seen, Refusal("it was started again since", may_pass=False)
        if set(seen.pids) & {1, os.getpid(), *self._own_line()}:
            return seen, Refusal("this worker, or the init of this machine, is in it", may_pass=False)
        return seen, None

    def _facts(self, seen: Sighting, digits: int, *, claimed: ContainerRef | None = None) -> ContainerFacts:
        oldest = min(seen.pids, key=lambda pid: (texts.start_ticks(pid), pid))
        ref, started_at_ns = ContainerRef(str(Name(seen.systems, digits, seen.bearers[0].inode, oldest)), seen.id), 0
        if claimed is not None and _same_run(seen, claimed):
            ref, oldest = claimed, named(claimed).pid if named(claimed).pid in seen.pids else 0
        elif claimed is not None:
            started_at_ns = self._boot.time_ns() + texts.start_ticks(oldest) * self._boot.tick_ns
        return ContainerFacts(
            ref=ref,
            state=ContainerState.PAUSED if _frozen(seen) else ContainerState.RUNNING,
            started_at_ns=started_at_ns,
            pid=oldest,
            labels=labels_of(seen.id, self._bundles) if seen.systems else {},
            owner=0 if seen.systems else _owner(seen),
            starts_again=False,
        )

    def _sweep(self, seen: Sighting, ref: ContainerRef) -> None:
        """All of it once. Version 1 cannot kill whole: it is frozen first, so that nothing is born meanwhile."""
        freezers = [bearer for bearer in seen.bearers if cgroup.can_freeze(bearer)]
        old = [bearer for bearer in freezers if bearer.hierarchy]
        for bearer in seen.bearers:
            cgroup.kill(bearer)
        for bearer in old:
            cgroup.freeze(bearer)
        if self._still(old, _STILL_S):
            seen = self._seen(ref) or seen
        for pid in seen.pids:
            self._kill(pid, ref, seen)
        for bearer in freezers:
            cgroup.thaw(bearer)

    def _still(self, freezers: Sequence[Bearer], timeout_s: float) -> bool:
        """Whether all of them stand still, at the latest after that time."""
        until_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while not all(cgroup.is_frozen(bearer) for bearer in freezers):
            if self._clock.monotonic_ns() >= until_ns:
                return False
            self._clock.sleep(_POLL_S)
        return bool(freezers)

    def _kill(self, pid: int, ref: ContainerRef, seen: Sighting) -> None:
        """One member: held first, then looked at again, so that no other holder of its pid is hit."""
        descriptor = hold(pid)
        if descriptor is None:
            return
        try:
            now = borne_by(pid, self._hierarchies, ref.id[: named(ref).digits], proc=self._proc)
            if set(now) & set(seen.bearers) and not ended(descriptor):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)


def _same_run(seen: Sighting, ref: ContainerRef) -> bool:
    return not seen.systems or named(ref).inode in {bearer.inode for bearer in seen.bearers}


def _freezable(seen: Sighting) -> list[Bearer]:
    """One freezer for each: version 1's where there is one."""
    old = [bearer for bearer in seen.bearers if bearer.hierarchy and cgroup.can_freeze(bearer)]
    return old or [bearer for bearer in seen.bearers if cgroup.can_freeze(bearer)]


def _frozen(seen: Sighting) -> bool:
    freezers = _freezable(seen)
    return bool(freezers) and all(cgroup.is_frozen(bearer) for bearer in freezers)


def _owner(seen: Sighting) -> int:
    """The user that made it, as far as that can be told; never 0, which is the system's."""
    try:
        return seen.bearers[0].directory.lstat().st_uid or 65_534
    except OSError:
        return 65_534


def _text(path: str) -> str:
    try:
        return texts.contents(path, most=1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
