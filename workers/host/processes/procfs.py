"""Reads /proc/<pid>'s text safely: every byte of it may have been chosen by the process.

Called by ``facts_reader`` and others. Pure parsing; the caller makes sure that the process was held while the text was
read.
"""

import os
import re
import signal
from dataclasses import dataclass
from typing import Final

from workers.domain.targets.halting import ThreadFacts

_KERNEL_THREAD: Final = 0x0020_0000  # PF_KTHREAD in include/linux/sched.h
_SIGKILL_BIT: Final = 1 << 8
_SIGSTOP_BIT: Final = 1 << (signal.SIGSTOP - 1)
_STATUS_LINES: Final = re.compile(rb"^(State|Pid|Uid|NSpid|SigPnd|ShdPnd):[ \t]*(.*)$", re.MULTILINE)
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stat:
    """/proc/<pid>/stat."""

    name: str
    state: str
    parent_pid: int
    kernel_thread: bool
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Status:
    """/proc/<pid>/status."""

    uid: int
    namespace_pid: int
    kill_pending: bool


def parse_stat(text: bytes) -> Stat:
    """The name may hold spaces, parentheses and newlines: it ends at the *last* parenthesis of the line.

    Raises:
        ValueError: not a stat line.
    """
    opening, closing = text.find(b"("), text.rfind(b")")
    if not 0 < opening < closing:
        raise ValueError("no name in parentheses")
    fields = text[closing + 1 :].split()
    if len(fields) < 20:
        raise ValueError(f"only {len(fields)} fields behind the name")
    return Stat(
        name=readable(text[opening + 1 : closing]),
        state=fields[0].decode("ascii", "replace"),
        parent_pid=int(fields[1]),
        kernel_thread=bool(int(fields[6]) & _KERNEL_THREAD),
        start_ticks=int(fields[19]),
    )


def parse_status(text: bytes) -> Status:
    """The kernel escapes newlines in the name here, so that no line can be forged.

    Raises:
        ValueError: a line is missing.
    """
    lines: dict[bytes, bytes] = dict(_STATUS_LINES.findall(text))
    try:
        pending = _pending(lines)
        return Status(
            uid=int(lines[b"Uid"].split()[0]),
            namespace_pid=int(lines.get(b"NSpid", lines[b"Pid"]).split()[-1]),
            kill_pending=bool(pending & _SIGKILL_BIT),
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"no {error} line") from error


def parse_thread(text: bytes) -> ThreadFacts:
    """One thread's own status.

    Raises:
        ValueError: a line is missing.
    """
    lines: dict[bytes, bytes] = dict(_STATUS_LINES.findall(text))
    try:
        state = lines[b"State"][:1].decode("ascii", "replace")
        return ThreadFacts(int(lines[b"Pid"]), state, stop_pending=bool(_pending(lines) & _SIGSTOP_BIT))
    except KeyError as error:
        raise ValueError(f"no {error} line") from error


def _pending(lines: dict[bytes, bytes]) -> int:
    """Signals that wait for the thread or for its process, as bits."""
    return int(lines[b"SigPnd"], 16) | int(lines[b"ShdPnd"], 16)


def parse_cgroups(text: bytes) -> dict[str, str]:
    """Controller to path, as the file system spells it; the unified hierarchy (v2) has the empty name."""
    found: dict[str, str] = {}
    for line in os.fsdecode(text).split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number and path:
            for controller in controllers.split(","):
                found[controller] = path
    return found


def one_cgroup(paths: dict[str, str]) -> str:
    """The path that identifies most: v2's, else systemd's, else one that names a container, else any but the root."""
    for name in ("", "name=systemd"):
        if paths.get(name, "/") != "/":
            return paths[name]
    rest = sorted(paths.items())
    for _, path in rest:
        if _CONTAINER_ID.search(path):
            return path
    return next((path for name, path in rest if name in {"pids", "freezer", "devices"} and path != "/"), "/")


def parse_command_line(text: bytes) -> list[str]:
    """Arguments; a process that wrote over them may have left one long string, or nothing."""
    return [readable(argument) for argument in text.rstrip(b"\0").split(b"\0")] if text.strip(b"\0") else []


def readable(text: bytes) -> str:
    """Printable text on one line: control characters and broken UTF-8 are shown as escapes."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in decoded)
