"""One line per record, for the table output of ``douse tail``.

Pure: takes the row that ``tail`` would print as JSON.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from workers.domain.log import topics

Row: TypeAlias = dict[str, Any]


def text_of(row: Row) -> str:
    """One line: the record's position, its content, and whether it verified."""
    position = f"{row['topic']}/{row.get('partition', '?')}@{row.get('offset', '?')}"
    if "gap" in row:
        gap = row["gap"]
        return f"{position}  GAP  offsets {gap['expected']} to {gap['resumed_at']} are missing ({gap['reason']})"
    trust = {True: "verified", False: f"NOT VERIFIED ({row.get('reason', '')})", None: "unsigned"}[row["verified"]]
    content = _TEXT[row["topic"]](row["record"]) if row["record"] is not None else row.get("message", "")
    return f"{position}  {content}  {trust}"


def _time(at_ns: int) -> str:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
    except (ValueError, OverflowError, OSError):
        return str(at_ns)


def _result(record: Row) -> str:
    how = record["outcome"] or record["alarm"] or ""
    parts = (
        _time(record["at_ns"]),
        record["execution_id"],
        f"{record['stage']} {how}".strip(),
        record["code"],
        record["message"],
    )
    return "  ".join(part for part in parts if part)


def _audit(record: Row) -> str:
    detail = " ".join(f"{name}={value}" for name, value in record["detail"].items())
    about = " ".join(part for part in (record["execution_id"], record["actor"], detail) if part)
    return f"{_time(record['at_ns'])}  {record['chain_id']} #{record['record_no']}  {record['kind']}  {about}"


def _event(record: Row) -> str:
    line = record["process_line"]
    process = f"{line[0]['pid']} {line[0]['name']}" if line else ""
    parts = (
        _time(record["occurred_at_ns"]),
        record["event_id"],
        record["priority"],
        record["rule"],
        record["host"],
        process,
    )
    return "  ".join(part for part in parts if part)


def _node(record: Row) -> str:
    names = ",".join(record["host_names"])
    load = f"queued={record['queued']} running={record['running']}"
    return "  ".join((_time(record["at_ns"]), record["node_id"], names, record["health"], load))


_TEXT: Final[Mapping[str, Callable[[Row], str]]] = {
    topics.RESULTS: _result,
    topics.AUDIT: _audit,
    topics.FALCO_EVENTS: _event,
    topics.RUNTIME_EVENTS: _event,
    topics.NODES: _node,
}
