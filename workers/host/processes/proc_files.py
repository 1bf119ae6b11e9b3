"""The single files of /proc that several modules read. One that cannot be read counts as empty, but where stated.

Called by ``facts_reader``, ``system`` and others.
"""

import os
from pathlib import Path
from typing import Final

from workers.domain.targets.redaction import mask_arguments
from workers.host.processes import procfs

_MOST_BYTES: Final = 65_536
"""Of one /proc file: a command line may be megabytes long, and masking is not free."""


def contents(path: str, *, most: int = _MOST_BYTES) -> bytes:
    """Raises ``OSError``. By descriptor: a path object would take longer than the reading."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        whole = b""
        while len(whole) < most and (part := os.read(descriptor, most - len(whole))):
            whole += part  # the kernel returns a page at a time
        return whole
    finally:
        os.close(descriptor)


def link(path: str) -> str:
    """Where a symbolic link leads; empty where that cannot be read."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def parent(pid: int) -> int:
    """The parent's pid; 0 where there is none, or no such process."""
    try:
        return procfs.parse_stat(contents(f"/proc/{pid}/stat")).parent_pid
    except (OSError, ValueError):
        return 0


def start_ticks(pid: int) -> int:
    """Start in ticks since boot; a process that has ended counts as younger than all."""
    try:
        return procfs.parse_stat(contents(f"/proc/{pid}/stat")).start_ticks
    except (OSError, ValueError):
        return 1 << 63


def cgroup(pid: int) -> str:
    """The cgroup, empty where it cannot be read."""
    try:
        return procfs.one_cgroup(procfs.parse_cgroups(contents(f"/proc/{pid}/cgroup")))
    except OSError:
        return ""


def command_line(pid: int) -> str:
    """Masked; empty where it cannot be read: it is evidence, and the process itself may have erased it."""
    try:
        return mask_arguments(procfs.parse_command_line(contents(f"/proc/{pid}/cmdline")))
    except OSError:
        return ""
