"""What a node worker can do on this machine, and what to do where it cannot.

Facts are read by ``host.machine_facts``; judged here, pure; printed by ``douse doctor``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from workers.domain.targets.container import Runtime


class Level(StrEnum):
    """How serious it is: ``fail`` means that an essential function of Douse cannot work here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``douse doctor``."""

    level: Level
    about: str
    message: str
    remedy: str = ""
    """What to do; empty where nothing needs doing."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the kernel and the file system report; None where they do not."""

    kernel: str
    has_pidfd: bool
    user_id: int
    capabilities: frozenset[str]
    """Effective ones, without ``CAP_``."""
    hidepid: str | None
    """Mount option of /proc; ``0`` or ``off`` hides nothing."""
    ptrace_scope: int | None
    protected_hardlinks: int | None
    runtimes: tuple[Runtime, ...]
    """Sockets of container runtimes that match the settings' patterns."""
    boot_id: str
    sees_all_processes: bool
    """Whether this process can look at processes of other users: pid 1 at least."""
    network_fault: str | None = None
    """Why the host's network cannot be isolated from here; empty if it can, None where no action would do that."""


CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
"""By bit number, as in linux/capability.h."""


def capabilities_of(mask: int) -> frozenset[str]:
    """The names of the bits of a mask, as /proc/self/status writes it."""
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def examine(facts: MachineFacts, privileges: Mapping[str, tuple[str, ...]]) -> tuple[Finding, ...]:
    """Every finding, in the order in which one would mend them; ``privileges`` are each action's, by its name."""
    return tuple(
        finding for check in (_kernel, _boot, _proc, _hardlinks, _runtimes, _network) for finding in check(facts)
    ) + tuple(_privileges(facts, privileges))


def _kernel(facts: MachineFacts) -> Iterator[Finding]:
    if facts.has_pidfd:
        yield Finding(Level.OK, "pidfd", f"Linux {facts.kernel} holds processes by descriptor")
    else:
        yield Finding(
            Level.FAIL,
            "pidfd",
            f"Linux {facts.kernel} cannot hold a process by descriptor, so nothing is killed here",
            "use Linux 5.3 or newer, and allow pidfd_open and pidfd_send_signal in the seccomp profile",
        )


def _boot(facts: MachineFacts) -> Iterator[Finding]:
    if facts.boot_id:
        yield Finding(Level.OK, "boot id", facts.boot_id)
    else:
        yield Finding(Level.FAIL, "boot id", "/proc/sys/kernel/random/boot_id can't be read", "mount /proc")


def _proc(facts: MachineFacts) -> Iterator[Finding]:
    if facts.sees_all_processes:
        yield Finding(Level.OK, "/proc", "processes of other users can be seen")
    elif facts.hidepid not in (None, "0", "off"):
        yield Finding(
            Level.WARN,
            "/proc",
            f"mounted with hidepid={facts.hidepid}: processes of other users are invisible, and seem to have ended",
            "run the node worker as root, or mount /proc with hidepid=0 or gid= of its group",
        )
    else:
        yield Finding(
            Level.WARN, "/proc", "pid 1 can't be looked at", "run the node worker in the host's pid namespace (hostPID)"
        )
    if facts.ptrace_scope and "SYS_PTRACE" not in facts.capabilities:
        yield Finding(
            Level.WARN,
            "ptrace scope",
            f"kernel.yama.ptrace_scope is {facts.ptrace_scope}: executables of other users' processes can't be read",
            "grant CAP_SYS_PTRACE; without it a protected program may not be recognised, and is left alone",
        )


def _hardlinks(facts: MachineFacts) -> Iterator[Finding]:
    if facts.protected_hardlinks == 0:
        yield Finding(
            Level.WARN,
            "hard links",
            "fs.protected_hardlinks is 0: anyone may link to a file before it is quarantined",
            "set fs.protected_hardlinks=1",
        )


def _runtimes(facts: MachineFacts) -> Iterator[Finding]:
    for runtime in facts.runtimes:
        if runtime.usable:
            yield Finding(
                Level.OK, "container runtimes", f"{runtime.socket} answers, and only root could have put it there"
            )
        else:
            yield Finding(
                Level.WARN,
                "container runtimes",
                f"{runtime.socket} is not used: {runtime.why}",
                "root must listen on it, and must own it and every directory above it, writable by no other user",
            )
    if not facts.runtimes:
        yield Finding(
            Level.WARN,
            "container runtimes",
            "no socket found: actions on containers can't run here",
            "start a runtime, or set the path of its socket: features.respond.response_actions.docker/cri.socket_path",
        )


def _network(facts: MachineFacts) -> Iterator[Finding]:
    if facts.network_fault:
        message, _, remedy = facts.network_fault.partition(": ")
        yield Finding(Level.WARN, "host network", f"it cannot be isolated: {message}", remedy)
    elif facts.network_fault is not None:
        yield Finding(Level.OK, "host network", "this is the host's own, and can be isolated")


def _privileges(facts: MachineFacts, privileges: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    for action, needed in sorted(privileges.items()):
        lacking = [name for name in needed if name not in facts.capabilities]
        if not lacking:
            yield Finding(Level.OK, action, "has every capability it needs" if needed else "needs no capability")
        else:
            yield Finding(
                Level.WARN,
                action,
                f"acts on this user's own targets only: lacks {', '.join(f'CAP_{name}' for name in lacking)}",
                "run the node worker as root, or grant these capabilities",
            )
