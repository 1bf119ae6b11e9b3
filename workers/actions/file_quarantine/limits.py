"""Parameters and settings of a quarantine, and which files are refused.

Called by ``take`` before a claim, and once more before its first step; knows the domain and ports only. Touches
nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.actions.base import parameter
from workers.actions.base.files import FileSettings
from workers.domain.errors import CommandRejected
from workers.domain.target import FileTarget, ReviewedFile
from workers.domain.targets.file import FileFacts, FileKind
from workers.domain.targets.protected_files import is_remote, kernels_own, protection
from workers.host.files.ports import Vault
from workers.settings import setting

_IMMUTABLE: Final = 0x10
_APPEND_ONLY: Final = 0x20
_LARGEST_ATTRIBUTES: Final = 512 * 1024
"""A signed manifest has at most 1 MB (``domain.trust.envelope``)."""


class QuarantineSettings(FileSettings):
    """A switch, a limit, and the vault."""

    quarantine_path: Path = Path("/var/lib/douse/quarantine")
    """The vault, a directory that only the worker may enter. It must survive restarts."""
    quota_mb: int = setting(1024, minimum=1, maximum=1_073_741_824)
    """Of all objects together."""
    reserve_mb: int = setting(256, minimum=0, maximum=1_073_741_824)
    """What must stay free on the vault's filesystem beside a file that comes in."""


@dataclass(frozen=True, slots=True)
class QuarantineParameters:
    """Its parameters."""

    force_hardlinked: bool = parameter(
        "Take this name of a file that has others too; execute permission is taken from all of them", default=False
    )
    allow_immutable: bool = parameter("Lift the immutable or append-only flag to do it", default=False)
    allow_remote: bool = parameter("Also on network and FUSE filesystems, which may never answer", default=False)


def is_fixed(flags: int) -> bool:
    """Whether inode flags keep a file from being moved: immutable, or append-only."""
    return bool(flags & (_IMMUTABLE | _APPEND_ONLY))


def refuse(facts: FileFacts, target: FileTarget, chosen: QuarantineParameters, vault: Vault) -> None:
    """What must not or cannot be taken.

    Raises:
        CommandRejected: with the reason, and with what would allow it.
    """
    reason = protection(facts, vault.protected_paths()) or (kernels_own(target.path) if target.container_id else None)
    if reason is not None:
        raise CommandRejected(f"the file is protected on this node: {reason}", code="protected_target")
    if facts.kind is not FileKind.REGULAR:
        raise CommandRejected(f"it is a {facts.kind}; only regular files are taken", code="not_regular")
    if facts.read_only:
        raise CommandRejected("it is on a read-only mount, which is never remounted", code="refused_readonly")
    if is_remote(facts.filesystem) and not chosen.allow_remote:
        raise CommandRejected(
            f"it is on {facts.filesystem}, which may never answer; allow_remote takes it all the same",
            code="remote_filesystem",
        )
    if facts.links > 1 and not chosen.force_hardlinked:
        raise CommandRejected(
            f"it has {facts.links} names (hard links), and only this one would go; force_hardlinked takes it, and "
            "execute permission from the others",
            code="hardlinked",
        )
    if is_fixed(facts.flags) and not chosen.allow_immutable:
        raise CommandRejected("it is immutable or append-only; allow_immutable lifts that", code="immutable")
    if is_fixed(facts.parent_flags):
        raise CommandRejected("its directory is immutable or append-only", code="directory_immutable")
    _refuse_unfit(facts, vault)


def _refuse_unfit(facts: FileFacts, vault: Vault) -> None:
    if sum(len(a.name) + len(a.value) for a in facts.attributes) > _LARGEST_ATTRIBUTES:
        raise CommandRejected("its extended attributes do not fit a manifest", code="too_many_attributes")
    if facts.size > vault.limits.max_file:
        raise CommandRejected(
            f"it has {facts.size} bytes; this node takes at most {vault.limits.max_file} "
            "(file_quarantine.max_file_size_mb)",
            code="too_large",
        )


def differs(facts: FileFacts, reviewed: ReviewedFile) -> str:
    """The first thing that is not as it was reviewed; empty when all is. The content is compared when it is read."""
    pairs: tuple[tuple[str, int, int], ...] = (
        ("device", facts.identity.device, reviewed.device),
        ("inode", facts.identity.inode, reviewed.inode),
        ("size", facts.size, reviewed.size),
        ("modification time", facts.mtime_ns, reviewed.mtime_ns),
        ("change time", facts.ctime_ns, reviewed.ctime_ns),
        ("number of links", facts.links, reviewed.links),
    )
    return next((name for name, now, then in pairs if now != then), "")
