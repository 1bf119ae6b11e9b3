"""Which processes are in a container of an id, and which of its cgroups can be trusted.

Called by ``containers`` and ``container``. One pass over all of /proc: milliseconds for some hundred processes. Where
the system has a cgroup of that id, cgroups that users named so do not count; where it has none, all with that id are
taken together. A user cannot move another user's process into an own cgroup, so copying an id only adds own processes.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.host.containers.cgroup_hierarchies import ContainerCgroup, Hierarchies
from workers.host.processes.pidfd import ended as has_ended
from workers.host.processes.proc_files import contents
from workers.host.processes.procfs import parse_cgroups


@dataclass(frozen=True, slots=True)
class KernelView:
    """One container, as the kernel shows it at one moment."""

    id: str
    by_system: bool
    cgroups: tuple[ContainerCgroup, ...]
    pids: tuple[int, ...]
    """All that are alive in it: what has ended, and waits to be reaped, is in no container any more."""


def views(hierarchies: Hierarchies, prefix: str, *, proc: Path = Path("/proc")) -> Sequence[KernelView]:
    """The containers whose id begins so, each with at least one process."""
    members: dict[ContainerCgroup, list[int]] = {}
    for pid in _pids(proc):
        for cgroup in cgroups_of(pid, hierarchies, prefix, proc=proc):
            members.setdefault(cgroup, []).append(pid)
    ended = {pid for pid in {pid for pids in members.values() for pid in pids} if not _is_alive(pid)}
    members = {cgroup: left for cgroup, pids in members.items() if (left := [pid for pid in pids if pid not in ended])}
    ids = {cgroup.id for cgroup in members if cgroup.by_system}
    if ids:
        return [_joined(each, members, by_system=True) for each in sorted(ids)]
    return [_joined(min(cgroup.id for cgroup in members), members, by_system=False)] if members else []


def cgroups_of(
    pid: int, hierarchies: Hierarchies, prefix: str, *, proc: Path = Path("/proc")
) -> tuple[ContainerCgroup, ...]:
    """The cgroups of that id that a process is in; none when it has ended."""
    try:
        paths = parse_cgroups(contents(f"{proc}/{pid}/cgroup"))
    except OSError:
        return ()
    return tuple(hierarchies.cgroups(paths, prefix))


def _is_alive(pid: int) -> bool:
    descriptor = hold(pid)
    if descriptor is None:
        return False
    try:
        return not has_ended(descriptor)
    finally:
        os.close(descriptor)


def hold(pid: int) -> int | None:
    """A pidfd; None when there is no such process."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _pids(proc: Path) -> Iterator[int]:
    return (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def _joined(container_id: str, members: dict[ContainerCgroup, list[int]], *, by_system: bool) -> KernelView:
    chosen = {
        cgroup: pids
        for cgroup, pids in members.items()
        if cgroup.by_system == by_system and (not by_system or cgroup.id == container_id)
    }
    ordered = sorted(chosen, key=lambda cgroup: (cgroup.hierarchy, str(cgroup.directory)))
    pids = sorted({pid for each in chosen.values() for pid in each})
    return KernelView(container_id, by_system, tuple(ordered), tuple(pids))
