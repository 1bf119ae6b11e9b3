"""The root that a path begins at: the host's, or a container's through its init, while that is proven to be alive.

Called by ``vault`` and by the spool. The order is the point: the init is held by a pidfd first, its root opened second,
what proves that it is the container's init read third, and then the descriptor is asked whether it still lives. If it
does, its pid was its own all the while. What is opened below the descriptor can lead nowhere else, whatever the
container's own root does to its links.
"""

import functools
import os
from dataclasses import dataclass
from typing import Final

from workers.domain.errors import CommandRejected
from workers.domain.targets.file import Enclosure
from workers.host.files.mounts import MountTable, mount_id
from workers.host.processes import proc_files, procfs
from workers.host.processes.boot import Boot
from workers.host.processes.pidfd import ended
from workers.system.os_errors import translated

DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HOSTS: Final = ("/", "/proc/1/root")
_LATEST_NS: Final = 1_000_000_000
"""How much later than the start that its runtime reports an init may have started by this clock. The runtime takes the
time after the init runs, so this covers only ticks and small steps of the clock; a process that got the pid of an init
that has ended started later still, unless both happened within that second."""


@dataclass(slots=True)
class Root:
    """An open root, and the mounts that can be below it."""

    descriptor: int
    mounts: MountTable

    def close(self) -> None:
        """Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.mounts.close()


def open_root(inside: Enclosure | None) -> Root:
    """The caller closes it.

    Raises:
        CommandRejected: ``container_gone``: that run has ended; ``container_root_shared``: its root is the host's own.
        PermanentFailure, TransientFailure: as ``faults``.
    """
    with translated("opening the root of the path"):
        return _opened("/", "/proc/self/mountinfo") if inside is None else _container(inside)


def _container(inside: Enclosure) -> Root:
    try:
        held = os.pidfd_open(inside.pid)
    except (ProcessLookupError, ValueError, OverflowError):
        raise _gone(inside) from None
    try:
        try:
            root = _opened(f"/proc/{inside.pid}/root", f"/proc/{inside.pid}/mountinfo")
        except FileNotFoundError:
            raise _gone(inside) from None
        try:
            _check_init(inside, held)
            _check_own(root, inside)
        except BaseException:
            root.close()
            raise
        return root
    finally:
        os.close(held)


def _opened(path: str, table: str) -> Root:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # of a container: the one link to follow
    try:
        return Root(descriptor, MountTable(table))
    except BaseException:
        os.close(descriptor)
        raise


def _check_init(inside: Enclosure, held: int) -> None:
    if not _is_init(inside) or ended(held):
        raise _gone(inside)


def _is_init(inside: Enclosure) -> bool:
    """Whether the holder of the pid is in the container's cgroup, or has had its pid since the run began."""
    try:
        if inside.container_id.encode() in proc_files.contents(f"/proc/{inside.pid}/cgroup"):
            return True
        stat = procfs.parse_stat(proc_files.contents(f"/proc/{inside.pid}/stat"))
    except (OSError, ValueError):
        return False
    boot = _boot()
    return boot.time_ns() + stat.start_ticks * boot.tick_ns <= inside.started_at_ns + _LATEST_NS


def _check_own(root: Root, inside: Enclosure) -> None:
    found, on = os.fstat(root.descriptor), mount_id(root.descriptor)
    for path in _HOSTS:
        try:
            host = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:  # inside a sandbox, where neither init nor another process may be inspected
            continue
        try:
            same = (os.fstat(host).st_dev, os.fstat(host).st_ino) == (found.st_dev, found.st_ino)
            if same or mount_id(host) == on:
                raise CommandRejected(
                    f"the root of container {inside.container_id[:12]} is this machine's own or this worker's; use the "
                    "path without the container",
                    code="container_root_shared",
                )
        finally:
            os.close(host)


@functools.cache
def _boot() -> Boot:
    return Boot()


def _gone(inside: Enclosure) -> CommandRejected:
    return CommandRejected(
        f"that run of container {inside.container_id[:12]} has ended, and its files cannot be reached",
        code="container_gone",
    )
