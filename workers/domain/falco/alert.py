"""One Falco alert, as falcosidekick writes it to Kafka, made into a ``RuntimeEvent``.

Called by ``wire.event_reader`` for both readers (responder and projector) and for HTTP ingestion. Pure: the same alert
always gives the same event, its id included. Trusts nothing: odd values are dropped, an alert without rule or time is
malformed, no content crashes it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from workers.domain.errors import MalformedMessage
from workers.domain.event import MAX_ANCESTORS, PRIORITIES, ProcessRef, RuntimeEvent
from workers.domain.event_bounds import (
    LONGEST_EVIDENCE,
    LONGEST_NAME,
    is_path,
    is_pid,
    is_time_ns,
    line,
    masked,
    names,
    text,
    values,
)
from workers.domain.falco.container import ABSENT, container_in
from workers.domain.falco.time import occurred_at_ns
from workers.domain.ids import EventId, id_from_cause, is_execution_id
from workers.domain.outcome import Values

DETECTOR: Final = "falco"
CAUSED_BY: Final = "douse.execution_id"
"""Output field that names the execution which caused an event, where Douse's own audit is fed back as events."""

_UUID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,127}", re.ASCII)
_PRIORITIES: Final[Mapping[str, str]] = {"info": "informational", "err": "error", "crit": "critical", "warn": "warning"}
PRINTED_ANCESTORS: Final = 8
"""Generations that ``deploy/falco`` asks Falco for: deeper process lines are rare, and each costs three fields."""

FILE_FIELDS: Final = ("fs.path.name", "fd.name", "evt.arg.path", "evt.arg.pathname", "evt.arg.name")
"""Where an alert may name a file, best first."""


def event_from(alert: object) -> RuntimeEvent:
    """The event of one decoded alert.

    Raises:
        MalformedMessage: no JSON object, no rule, or no time that can be believed.
    """
    if not isinstance(alert, Mapping):
        raise MalformedMessage(f"a Falco alert is a JSON object, not {type(alert).__name__}", code="not_an_object")
    raw = alert.get("output_fields")
    fields: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    rule = text(alert.get("rule"), LONGEST_NAME).strip()
    if not rule:
        raise MalformedMessage("the Falco alert names no rule", code="no_rule")
    at_ns = occurred_at_ns(alert, fields)
    if at_ns is None:
        raise MalformedMessage("the Falco alert has no time that can be read", code="no_time")
    flat = values(fields)
    host = _known(alert.get("hostname")) or _known(fields.get("evt.hostname"))
    message = masked(text(alert.get("output")))
    return RuntimeEvent(
        event_id=_event_id(alert.get("uuid"), at_ns, host, rule, message, flat),
        detector=DETECTOR,
        source=_source(rule, alert.get("source")),
        rule=rule,
        priority=_priority(alert.get("priority")),
        occurred_at_ns=at_ns,
        host=host,
        message=message,
        tags=names(alert.get("tags")),
        process_line=_process_line(fields),
        container=container_in(fields),
        file_path=_file_path(fields),
        cluster=_known(fields.get("k8s.cluster.name")),
        namespace=_known(fields.get("k8s.ns.name")),
        workload=_known(fields.get("k8s.pod.name")),
        caused_by=_caused_by(fields),
        fields=flat,
    )


def _event_id(uuid: object, at_ns: int, host: str, rule: str, message: str, flat: Values) -> EventId:
    """Falcosidekick's uuid; without one, an id that the same content always has and no other content shares."""
    if isinstance(uuid, str) and _UUID.fullmatch(uuid):
        return EventId(uuid)
    content = [part for name in sorted(flat) for part in (name, type(flat[name]).__name__, str(flat[name]))]
    return EventId(id_from_cause(at_ns, DETECTOR, str(at_ns), host, rule, message, *content))


def _source(rule: str, source: object) -> str:
    """Older Falcos mark their own alerts (drops, metrics) by the rule's name only; newer ones by the source."""
    return "internal" if rule.lower().startswith("falco internal") else _known(source)


def _priority(priority: object) -> str:
    given = _known(priority).lower()
    return given if given in PRIORITIES else _PRIORITIES.get(given, given)


def _process_line(fields: Mapping[str, Any]) -> tuple[ProcessRef, ...]:
    """The event's process and its ancestors, up to the first whose pid the event lacks."""
    found: list[ProcessRef] = []
    for generation in range(MAX_ANCESTORS):
        pid = _number(_of(fields, generation, "apid", own="pid", parent="ppid"))
        if not is_pid(pid):
            break
        started = _number(_of(fields, generation, "", own="pid.ts", parent="ppid.ts"))
        found.append(
            ProcessRef(
                pid or 0,
                started if is_time_ns(started) else None,
                _known(_of(fields, generation, "aexepath", own="exepath", parent="pexepath"), LONGEST_EVIDENCE),
                _known(_of(fields, generation, "aname", own="name", parent="pname")),
                text(_of(fields, generation, "acmdline", own="cmdline", parent="pcmdline"), LONGEST_EVIDENCE),
            )
        )
    return line(found)


def _of(fields: Mapping[str, Any], generation: int, indexed: str, *, own: str, parent: str) -> Any:
    """A process field of one generation: 0 is the event's process, 1 its parent.

    Falcosidekick's ``bracketreplacer`` turns ``proc.aname[2]`` into ``proc.aname_2``: both are read.
    """
    spelled = [f"proc.{own}"] if generation == 0 else [f"proc.{parent}"] if generation == 1 else []
    if indexed:
        spelled += [f"proc.{indexed}{left}{generation}{right}" for left, right in ("[]", "__", ("_", ""))]
    return next((fields[name] for name in spelled if fields.get(name) not in (None, "<NA>")), None)


def _file_path(fields: Mapping[str, Any]) -> str:
    """The file that the event is about; a socket's or pipe's ``fd.name`` is none."""
    kind = _known(fields.get("fd.type"))
    for name in FILE_FIELDS:
        path = fields.get(name)
        if isinstance(path, str) and is_path(path) and not (name == "fd.name" and kind not in ("", "file")):
            return text(path)
    return ""


def _caused_by(fields: Mapping[str, Any]) -> str:
    named = fields.get(CAUSED_BY)
    return named if isinstance(named, str) and is_execution_id(named) else ""


def _known(value: object, limit: int = LONGEST_NAME) -> str:
    """A text field; empty where Falco marks it as unknown in one of its ways."""
    given = text(value, limit).strip()
    return "" if given in ABSENT else given


def _number(value: object) -> int | None:
    """A whole number, also where it travelled as digits or as a float."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 63:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        return int(value)
    return None
