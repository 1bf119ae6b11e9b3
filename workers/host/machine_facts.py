"""Facts about this machine, out of the kernel's own files.

Called by ``douse doctor``. Reads and never changes anything; judging is ``domain.machine_check``'s.
"""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

from workers.domain.machine_check import MachineFacts, capabilities_of
from workers.domain.targets.container import Runtime


def read_facts(
    runtimes: Iterable[Runtime] = (), *, network_fault: str | None = None, root: Path = Path("/")
) -> MachineFacts:
    """What is so right now. ``runtimes`` are what the port ``Containers`` says of its sockets, ``network_fault`` what
    ``host.network`` says of the host's; ``root`` is where /proc is looked for."""
    proc = root / "proc"
    return MachineFacts(
        kernel=_text(proc / "sys/kernel/osrelease"),
        has_pidfd=_has_pidfd(),
        user_id=os.geteuid(),
        capabilities=capabilities_of(_effective(_text(proc / "self/status"))),
        hidepid=_hidepid(_text(proc / "self/mounts")),
        ptrace_scope=_number(proc / "sys/kernel/yama/ptrace_scope"),
        protected_hardlinks=_number(proc / "sys/fs/protected_hardlinks"),
        runtimes=tuple(runtimes),
        boot_id=_text(proc / "sys/kernel/random/boot_id"),
        sees_all_processes=bool(_text(proc / "1/stat")),
        network_fault=network_fault,
    )


def _has_pidfd() -> bool:
    """Whether the kernel, and whatever filters our system calls, lets us hold and probe a process: ourselves."""
    try:
        held = os.pidfd_open(os.getpid())
        try:
            signal.pidfd_send_signal(held, 0)
        finally:
            os.close(held)
    except (AttributeError, OSError):
        return False
    return True


def _effective(status: str) -> int:
    for row in status.splitlines():
        name, _, value = row.partition(":")
        if name == "CapEff":
            return int(value.strip(), 16)
    return 0


def _hidepid(mounts: str) -> str | None:
    """The option of the mount on /proc that counts: the last one."""
    found = None
    for row in mounts.splitlines():
        parts = row.split()
        if len(parts) >= 4 and parts[1] == "/proc":
            options = dict(option.partition("=")[::2] for option in parts[3].split(","))
            found = options.get("hidepid", "0")
    return found


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
