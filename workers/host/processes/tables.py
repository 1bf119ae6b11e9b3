"""/proc/<pid>'s tables as a snapshot shows them: status, stat, limits, maps, and the fdinfo of an open file.

Called by ``snapshot``. Pure parsing; every byte of it may have been chosen by the process, so that a line of another
form is left out, and none raises.
"""

from collections.abc import Iterator
from typing import Final

from workers.domain.targets.process_snapshot import Limit, Mapped
from workers.host.processes.procfs import readable

STAT_FIELDS: Final = (
    *("parent_pid", "process_group", "session", "terminal", "terminal_group", "flags", "minor_faults"),
    *("children_minor_faults", "major_faults", "children_major_faults", "user_ticks", "system_ticks"),
    *("children_user_ticks", "children_system_ticks", "priority", "nice", "threads", "interval_timer", "start_ticks"),
    *("virtual_bytes", "resident_pages", "resident_limit_bytes"),
)
"""Fields 4 to 25 of /proc/<pid>/stat (proc(5)); behind them come addresses and what is no longer kept."""


def stat(text: bytes) -> dict[str, int]:
    """The numbers behind name and state."""
    fields = text[text.rfind(b")") + 1 :].split()[1:]
    return {name: int(value) for name, value in zip(STAT_FIELDS, fields, strict=False) if _is_number(value)}


def status(text: bytes) -> dict[str, str]:
    """Every line, as the kernel writes it."""
    lines = (line.partition(b":") for line in text.split(b"\n"))
    return {readable(key): readable(b" ".join(value.split())) for key, found, value in lines if found}


def limits(text: bytes) -> tuple[Limit, ...]:
    """The columns are where the header says; the unit may be missing."""
    head, *rows = text.decode("utf-8", "replace").split("\n")
    soft, hard, unit = (head.find(title) for title in ("Soft Limit", "Hard Limit", "Units"))
    if min(soft, hard, unit) < 0:
        return ()
    return tuple(
        Limit(row[:soft].strip(), row[soft:hard].strip(), row[hard:unit].strip(), row[unit:].strip())
        for row in rows
        if row.strip()
    )


def maps(text: bytes) -> Iterator[Mapped]:
    """The kernel escapes newlines in paths."""
    for line in text.split(b"\n"):
        words = line.split(None, 5)
        start, dash, end = words[0].partition(b"-") if words else (b"", b"", b"")
        if len(words) < 5 or not dash or not _is_number(words[4]):
            continue
        permissions, offset, device = (readable(word) for word in words[1:4])
        path = readable(words[5]) if len(words) > 5 else ""
        yield Mapped(readable(start), readable(end), permissions, offset, device, int(words[4]), path)


def position_and_flags(fdinfo: bytes) -> tuple[int, str]:
    """Of an open file."""
    rows = dict(line.split(b":\t", 1) for line in fdinfo.split(b"\n") if b":\t" in line)
    position = rows.get(b"pos", b"").strip()
    return int(position) if _is_number(position) else 0, readable(rows.get(b"flags", b"").strip())


def filesystem(mountinfo: bytes, mount: int) -> str:
    """The type of a mount by its number; empty where there is none."""
    wanted = b"%d" % mount
    for line in mountinfo.split(b"\n"):
        left, found, right = line.partition(b" - ")
        if found and left.split(b" ", 1)[0] == wanted:
            return readable(right.split(b" ", 1)[0])
    return ""


def _is_number(text: bytes) -> bool:
    return text.removeprefix(b"-").isdigit()
