"""Files that must not be taken away on this node, whatever their name: judged by identity.

Called by ``actions.file_quarantine``, with facts read through a held descriptor and the identities that the paths
below have at this moment. Pure. A hard link to ``/etc/shadow`` under another name is protected, a file that is merely
called ``shadow`` is not; a bind mount of a protected tree is that tree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from workers.domain.targets.file import FileFacts, FileIdentity

PROTECTED_FILES: Final[Mapping[str, str]] = {
    "/etc/passwd": "names this machine's users",
    "/etc/shadow": "holds this machine's passwords",
    "/etc/group": "names this machine's groups",
    "/etc/gshadow": "holds this machine's group passwords",
    "/etc/sudoers": "decides which users may become root",
    "/etc/ld.so.*": "decides which libraries every program loads",
    "/lib/ld-*.so*": "starts every program",
    "/lib/*/ld-*.so*": "starts every program",
    "/lib64/ld-*.so*": "starts every program",
    "/lib/libc.so.6": "is the C library of every program",
    "/lib/*/libc.so.6": "is the C library of every program",
    "/lib64/libc.so.6": "is the C library of every program",
    "/lib/systemd/systemd": "is the init of this machine",
    "/var/run/docker.sock": "is the container engine's socket",
    "/run/containerd/containerd.sock": "is the container engine's socket",
}
"""Globs of single files; links at their end are followed, and the file they lead to is what is protected."""

PROTECTED_TREES: Final[Mapping[str, str]] = {
    "/etc/douse": "holds Douse's settings",
    "/var/lib/douse": "holds Douse's data",
    "/proc": "is the kernel's, not a file of a disk",
    "/sys": "is the kernel's, not a file of a disk",
    "/dev": "is a device's name",
    "/boot": "starts this machine",
    "/etc/sudoers.d": "decides which users may become root",
}

OPEN_TREES: Final = ("/dev/shm",)
"""Inside a protected tree, yet writable by every user: files here are like any other. Malware uses it."""

KERNEL_FILESYSTEMS: Final = frozenset(
    {
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup",
        "cgroup2",
        "debugfs",
        "tracefs",
        "securityfs",
        "bpf",
        "configfs",
        "efivarfs",
        "pstore",
        "mqueue",
        "hugetlbfs",
        "binfmt_misc",
        "selinuxfs",
        "nsfs",
        "autofs",
    }
)

_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "lustre", "glusterfs", "ocfs2", "gfs2"})


@dataclass(frozen=True, slots=True)
class ProtectedPaths:
    """The identities of the protected paths at this moment, each with the rest of a sentence that begins with "it"."""

    files: Mapping[FileIdentity, str] = field(default_factory=dict)
    trees: Mapping[FileIdentity, str] = field(default_factory=dict)
    open_trees: frozenset[FileIdentity] = frozenset()


def protection(facts: FileFacts, protected: ProtectedPaths) -> str | None:
    """Why this file must stay, as a sentence that begins with "it"; None where it may be taken."""
    if facts.filesystem in KERNEL_FILESYSTEMS:
        return f"it is the kernel's ({facts.filesystem}), not a file of a disk"
    if facts.mount_point:
        return "it is a mount point"
    if facts.identity in protected.files:
        return f"it {protected.files[facts.identity]}"
    if facts.identity in protected.trees:
        return f"it {protected.trees[facts.identity]}"
    for directory in facts.ancestors:
        if directory in protected.open_trees:
            return None
        if directory in protected.trees:
            return f"it lies in a directory that {protected.trees[directory]}"
    return None


def kernels_own(path: bytes) -> str | None:
    """Why a path inside a container must stay: there, too, /proc and /sys are the kernel's, and runtimes hide parts of
    them behind files and directories of other filesystems. Its /dev is not protected: nothing that is a device can be
    taken anyway, and only malware puts ordinary files there."""
    first = next((part for part in path.split(b"/") if part not in (b"", b".")), b"")
    return "it is the kernel's, not a file of a disk" if first in (b"proc", b"sys") else None


def is_remote(filesystem: str) -> bool:
    """Whether reading it may wait for another machine, or for a process that need not answer."""
    return filesystem in _REMOTE or filesystem.split(".")[0] in {"fuse", "fuseblk"}
