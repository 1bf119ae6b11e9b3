"""Which processes are in a container of an id, and which of its cgroups are to be believed.

Called by ``containers``. One look over all of /proc: milliseconds for some hundred processes. Where the system has a
cgroup of that id, what users call by the same id does not count; where it has none, all that bear it are taken
together. A user cannot put anybody else's process into a cgroup of his, so whoever copies an id only adds his own.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.host.containers.hierarchies import Bearer, Hierarchies
from workers.host.processes.holding import ended as has_ended
from workers.host.processes.procfs import parse_cgroups
from workers.host.processes.texts import contents


@dataclass(frozen=True, slots=True)
class Sighting:
    """One container, as the kernel shows it at one moment."""

    id: str
    systems: bool
    bearers: tuple[Bearer, ...]
    pids: tuple[int, ...]
    """All that lives in it: what has ended, and waits to be reaped, is in no container any more."""


def sightings(hierarchies: Hierarchies, prefix: str, *, proc: Path = Path("/proc")) -> Sequence[Sighting]:
    """The containers whose id begins so, each with at least one process."""
    members: dict[Bearer, list[int]] = {}
    for pid in _pids(proc):
        for bearer in borne_by(pid, hierarchies, prefix, proc=proc):
            members.setdefault(bearer, []).append(pid)
    ended = {pid for pid in {pid for pids in members.values() for pid in pids} if not _lives(pid)}
    members = {bearer: left for bearer, pids in members.items() if (left := [pid for pid in pids if pid not in ended])}
    ids = {bearer.id for bearer in members if bearer.systems}
    if ids:
        return [_together(each, members, systems=True) for each in sorted(ids)]
    return [_together(min(bearer.id for bearer in members), members, systems=False)] if members else []


def borne_by(pid: int, hierarchies: Hierarchies, prefix: str, *, proc: Path = Path("/proc")) -> tuple[Bearer, ...]:
    """The cgroups of that id that a process is in; none when it has ended."""
    try:
        paths = parse_cgroups(contents(f"{proc}/{pid}/cgroup"))
    except OSError:
        return ()
    return tuple(hierarchies.bearers(paths, prefix))


def _lives(pid: int) -> bool:
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


def _together(container_id: str, members: dict[Bearer, list[int]], *, systems: bool) -> Sighting:
    chosen = {
        bearer: pids
        for bearer, pids in members.items()
        if bearer.systems == systems and (not systems or bearer.id == container_id)
    }
    ordered = sorted(chosen, key=lambda bearer: (bearer.hierarchy, str(bearer.directory)))
    pids = sorted({pid for each in chosen.values() for pid in each})
    return Sighting(container_id, systems, tuple(ordered), tuple(pids))
