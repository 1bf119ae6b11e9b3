"""Which processes still have a file open or mapped: removing its name does not close it.

Called by ``quarantine_handle`` before the parked file is unlinked. Reads /proc only, and touches no other filesystem
before the inode number in /proc has matched, so that a stuck mount cannot block the worker.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from workers.domain.targets.file import FileIdentity, Holders

MOST_PIDS: Final = 32


def holders(identity: FileIdentity, in_time: Callable[[], bool]) -> Holders:
    """Counted over all processes that may be inspected, until ``in_time`` returns False."""
    handles = mappings = 0
    pids: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names alone are wanted
        if not name.isdecimal() or name == str(os.getpid()):
            continue
        if not in_time():
            break
        process = Path("/proc", name)
        opened, mapped = _handles(process, identity), _mappings(process, identity)
        handles, mappings = handles + opened, mappings + mapped
        if opened or mapped:
            pids.append(int(name))
    return Holders(handles, mappings, tuple(sorted(pids)[:MOST_PIDS]))


def _handles(process: Path, identity: FileIdentity) -> int:
    try:
        names = os.listdir(process / "fdinfo")  # noqa: PTH208 - names alone are wanted
    except OSError:
        return 0
    return sum(_is_open(process, name, identity) for name in names)


def _is_open(process: Path, name: str, identity: FileIdentity) -> bool:
    if not _has_inode(process / "fdinfo" / name, identity.inode):
        return False
    try:
        there = os.stat(process / "fd" / name)  # noqa: PTH116 - a link of the kernel's, not of a disk
    except OSError:  # closed meanwhile
        return False
    return (there.st_dev, there.st_ino) == (identity.device, identity.inode)


def _has_inode(fdinfo: Path, inode: int) -> bool:
    """Also True where the kernel (before 5.14) does not show it."""
    try:
        text = fdinfo.read_text("ascii", "replace")
    except OSError:
        return False
    shown = [line for line in text.splitlines() if line.startswith("ino:")]
    return not shown or shown[0].split()[1] == str(inode)


def _mappings(process: Path, identity: FileIdentity) -> int:
    device = f"{os.major(identity.device):02x}:{os.minor(identity.device):02x}"
    try:
        return sum((device, str(identity.inode)) == found for found in _mapped(process))
    except OSError:
        return 0


def _mapped(process: Path) -> Iterator[tuple[str, str]]:
    with (process / "maps").open("rb") as lines:
        for line in lines:
            words = line.decode("ascii", "replace").split(None, 5)
            yield words[3], words[4]
