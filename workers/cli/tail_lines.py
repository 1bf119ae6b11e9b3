"""One line a record, for ``douse tail`` on a terminal.

Pure: takes the row that ``tail`` would print as JSON.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from workers.domain.log import topics

Row: TypeAlias = dict[str, Any]


def for_people(row: Row) -> str:
    """One line: where the record stands, what it says, and whether it verified."""
    place = f"{row['topic']}/{row.get('partition', '?')}@{row.get('offset', '?')}"
    if "gap" in row:
        gap = row["gap"]
        return f"{place}  GAP  offsets {gap['expected']} to {gap['resumed_at']} are gone ({gap['reason']})"
    trust = {True: "verified", False: f"NOT VERIFIED ({row.get('reason', '')})", None: "unsigned"}[row["verified"]]
    said = _WORDS[row["topic"]](row["record"]) if row["record"] is not None else row.get("message", "")
    return f"{place}  {said}  {trust}"


def _at(at_ns: int) -> str:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
    except (ValueError, OverflowError, OSError):
        return str(at_ns)


def _result(said: Row) -> str:
    how = said["outcome"] or said["alarm"] or ""
    words = (_at(said["at_ns"]), said["execution_id"], f"{said['stage']} {how}".strip(), said["code"], said["message"])
    return "  ".join(word for word in words if word)


def _audit(said: Row) -> str:
    detail = " ".join(f"{name}={value}" for name, value in said["detail"].items())
    about = " ".join(word for word in (said["execution_id"], said["actor"], detail) if word)
    return f"{_at(said['at_ns'])}  {said['chain_id']} #{said['record_no']}  {said['kind']}  {about}"


def _event(said: Row) -> str:
    line = said["process_line"]
    process = f"{line[0]['pid']} {line[0]['name']}" if line else ""
    words = (_at(said["occurred_at_ns"]), said["event_id"], said["priority"], said["rule"], said["host"], process)
    return "  ".join(word for word in words if word)


def _node(said: Row) -> str:
    names = ",".join(said["host_names"])
    load = f"queued={said['queued']} running={said['running']}"
    return "  ".join((_at(said["at_ns"]), said["node_id"], names, said["health"], load))


_WORDS: Final[Mapping[str, Callable[[Row], str]]] = {
    topics.RESULTS: _result,
    topics.AUDIT: _audit,
    topics.FALCO_EVENTS: _event,
    topics.RUNTIME_EVENTS: _event,
    topics.NODES: _node,
}
