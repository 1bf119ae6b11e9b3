"""Which processes must never be killed here: judged by what a process is, never by what it claims to be.

Called by actions on the node, with facts read under a held pidfd. Pure. A name, an argument vector or a title protects
nothing: malware called ``sshd`` dies, and the real sshd that renamed itself lives.

A program of the host is recognised by its executable (the host's own file, root's, writable by nobody else) *and* by
something that running that executable does not give: real uid 0 outside of any container, or being the oldest process
of the system unit that the service owns. So a user who executes the real sshd is killed, a web server's account that
executes the real dbus-daemon is killed, and so is what a database started inside its own unit. Root on the host could
imitate any of them, and has full control already.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from workers.domain.targets.process import ProcessFacts


@dataclass(frozen=True, slots=True)
class _Entry:
    """One program of the host."""

    reason: str
    programs: re.Pattern[str]
    """The whole path of its executable."""
    units: re.Pattern[str] | None = None
    """System units whose oldest process it is, under any account."""
    as_root: bool = True
    """Whether running it with real uid 0, outside of containers, is enough."""
    master_only: bool = False
    """Its children serve single sessions, may be an intruder's, and stay killable."""
    files: bool = True
    """Whether its executables are protected as files, too: not where their names are too many to be known."""
    monitor: bool = False
    """Runtimes put it into a cgroup of its own, which names the container that it watches."""


def _programs(names: str) -> re.Pattern[str]:
    return re.compile(rf"/(?:usr/(?:local/)?)?(?:s?bin|libexec|lib(?:64)?)/(?:[\w.+-]+/)*(?:{names})")


def _units(names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{names})(?:@[^/]*)?\.service")


_JAVA: Final = re.compile(r"/(?:usr|opt)/(?:[\w.+-]+/)*java")

TABLE: Final[tuple[_Entry, ...]] = (
    _Entry("runs this host's containers", _programs(r"dockerd|docker-containerd|containerd|docker-proxy|balenad")),
    _Entry("serves this host's containers", _programs(r"podman(?:-remote)?")),
    _Entry("holds up a running container", _programs(r"containerd-shim(?:-[\w.-]+)?|conmon(?:rs)?"), monitor=True),
    _Entry("starts this host's containers", _programs(r"runc|crun|youki|runsc|docker-init")),
    _Entry("runs this node's pods", _programs(r"kubelet|crio|cri-o|k3s(?:-server|-agent)?|kube-proxy")),
    _Entry("lets administrators in", _programs(r"sshd"), units=_units(r"sshd?"), as_root=False, master_only=True),
    _Entry("is part of systemd", _programs(r"systemd|systemd-[\w-]+"), units=_units(r"systemd-[\w-]+"), files=False),
    _Entry("keeps the audit log", _programs(r"auditd|audisp-\w+"), units=_units(r"auditd")),
    _Entry(
        "carries the system's messages",
        _programs(r"dbus-daemon|dbus-broker(?:-launch)?"),
        units=_units(r"dbus|dbus-broker"),
    ),
    _Entry(
        "is this host's broker",
        _JAVA,
        files=False,
        units=_units(r"(?:[\w-]+-)?kafka(?:-[\w-]+)?|redpanda|zookeeper"),
        as_root=False,
    ),
    _Entry("is this host's broker", _programs(r"redpanda"), units=_units(r"redpanda"), as_root=False),
    _Entry(
        "is this host's database",
        _programs(r"postgres|mysqld|mariadbd|etcd|mongod|redis-server"),
        units=_units(r"postgresql(?:-[\w.]+)?|mysqld?|mariadb|etcd|mongod|redis(?:-server)?"),
        as_root=False,
    ),
)
"""What is protected, and why. Session children (``sshd-session``, a database's backends) are not on it."""

PROGRAM_DIRECTORIES: Final = (
    *(f"{prefix}{name}" for prefix in ("/", "/usr/", "/usr/local/") for name in ("bin", "sbin", "libexec", "lib")),
    *(f"{prefix}{name}/*" for prefix in ("/usr/", "/usr/local/") for name in ("libexec", "lib")),
    "/usr/lib/*/bin",
    "/usr/lib/*/sbin",
    "/usr/lib64",
    "/usr/lib/postgresql/*/bin",
)
"""Globs of the directories that hold the programs of the table, for those who protect the files themselves."""

_MONITORS: Final = re.compile(
    r"(?:/(?![^/]*[0-9a-f]{64})[^/]+)*/(?:libpod|crio)-conmon-[0-9a-f]{64}\.scope|(?:/libpod_parent)?/conmon"
)
"""Cgroups of container monitors (under systemd, and without it); no container is in one."""

_SYSTEM_UNIT: Final = re.compile(r"/system\.slice/(?:[\w:.\\-]+\.slice/)*(?P<unit>[^/]+\.service)")
_CONTAINER: Final = re.compile(r"[0-9a-f]{64}|/kubepods|/docker/|/machine\.slice/|/libpod|/lxc")
_DELETED: Final = " (deleted)"


def protection(facts: ProcessFacts, *, own_line: Collection[int], own_cgroup: str) -> str | None:
    """Why this process must not be killed, as a sentence that begins with "it"; None where it may be.

    ``own_line`` are the pids of this worker, its ancestors and its siblings; ``own_cgroup`` is empty where the worker
    shares its cgroup with others.
    """
    if facts.pid == 1:
        return "it is pid 1, the init of this machine"
    if facts.kernel_thread:
        return "it is a kernel thread"
    if facts.pid in own_line:
        return "it is this worker, one of its ancestors, or a worker beside it"
    if own_cgroup and _within(facts.cgroup, own_cgroup):
        return f"it belongs to this worker's own unit ({own_cgroup})"
    if facts.pod_sandbox:
        return "it is the sandbox that holds a pod together"
    if not facts.exe_trusted or facts.namespace_pid != facts.pid:
        return None
    exe = facts.exe.removesuffix(_DELETED)
    for entry in TABLE:
        if entry.programs.fullmatch(exe) and _is_the_service(facts, entry):
            return f"it is {exe}, which {entry.reason}"
    return None


def program_reason(path: str) -> str | None:
    """Why the file that the host has under this path must stay, as the rest of a sentence that begins with "it"; the
    caller has checked that it is root's alone. What runs Java is the broker only in its unit, and is not known here."""
    for entry in TABLE:
        if entry.files and entry.programs.fullmatch(path):
            return f"is {path}, which {entry.reason}"
    return None


def _is_the_service(facts: ProcessFacts, entry: _Entry) -> bool:
    """Whether, besides its executable, it has what only the host's own service has."""
    if _CONTAINER.search(facts.cgroup) and not (entry.monitor and _MONITORS.fullmatch(facts.cgroup)):
        return False
    unit = _SYSTEM_UNIT.fullmatch(facts.cgroup)
    if unit is not None and entry.units is not None and entry.units.fullmatch(unit["unit"]) and facts.oldest_in_cgroup:
        return True
    if entry.master_only:  # without a unit, the master is what init started; a session never is
        return facts.uid == 0 and facts.parent_pid == 1 and unit is None and not facts.cgroup.startswith("/user.slice/")
    return entry.as_root and facts.uid == 0


def _within(cgroup: str, own: str) -> bool:
    if own == "/":  # a container's own root: what lies outside of it is shown as /../…
        return not cgroup.startswith("/..")
    return cgroup == own or cgroup.startswith(own + "/")
