"""The bounds of an event: every text, number and list of it is cut or refused here.

Called by ``domain.falco.alert`` on the way in and by the event reader for events of other detectors. Pure. Event
content is untrusted: after ``bounded`` no later code can be hurt by a huge, ill-typed or unencodable value.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from workers.domain.errors import MalformedMessage
from workers.domain.event import MAX_ANCESTORS, ContainerRef, ProcessRef, RuntimeEvent
from workers.domain.ids import EventId
from workers.domain.outcome import Scalar, Values
from workers.domain.targets.redaction import mask_arguments

LONGEST_TEXT: Final = 4096
"""Characters of a message or a field; PATH_MAX on Linux, so that no path is ever cut."""
LONGEST_NAME: Final = 256
"""Characters of a rule, tag, host (253 by RFC 1035), user or field name."""
LONGEST_EVIDENCE: Final = 1024
"""Characters of one process's command line or executable: with 32 of each in each of 8 steps, a request still fits a
record of 1 MB."""
MOST_FIELDS: Final = 256
MOST_TAGS: Final = 64
DEEPEST: Final = 4
"""Levels of nesting that are spelled out when a field is no plain value."""

LARGEST_PID: Final = 1 << 22
"""Linux's PID_MAX_LIMIT on 64-bit machines; a pid is always below it."""
LARGEST_LONG: Final = (1 << 63) - 1


def text(value: object, limit: int = LONGEST_TEXT) -> str:
    """``value`` as text that every store and encoding can hold: no lone surrogate, no NUL, at most ``limit`` long."""
    if not isinstance(value, str):
        return ""
    return value[:limit].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def masked(value: str) -> str:
    """``value`` without the secrets that command lines carry; a detector gives them as one text, not as arguments."""
    return mask_arguments(value.split(" ")) if value else value


def is_pid(value: object) -> bool:
    """Whether a kernel could have given out ``value`` as a pid."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < LARGEST_PID


def is_time_ns(value: object) -> bool:
    """Whether ``value`` can be a moment: after 1970, and a 64-bit number."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_LONG


def is_container_id(value: str) -> bool:
    """Whether ``value`` is 12 to 64 lower-case hex digits: names are never taken for ids."""
    return 12 <= len(value) <= 64 and not value.strip("0123456789abcdef")


def is_path(value: str) -> bool:
    """Whether ``value`` surely is a whole absolute path: a cut or mangled one would name another file."""
    return value.startswith("/") and len(value) < LONGEST_TEXT and not {"\0", "\ufffd"} & set(value)


def scalar(value: object) -> Scalar | None:
    """A field's value flat: text, whole number or truth value; None where it is empty."""
    match value:
        case None:
            return None
        case bool():
            return value
        case int() if -LARGEST_LONG <= value <= LARGEST_LONG:
            return value
        case int():
            return "a number too large to keep"
        case float() if value.is_integer() and abs(value) < 1 << 53:
            return int(value)
        case str():
            return text(value)
        case _:
            return text(_spelled(value, DEEPEST))


def values(fields: Mapping[Any, object]) -> Values:
    """Output fields flat and bounded, in the order of their names; command-line secrets are masked."""
    kept: dict[str, Scalar] = {}
    for name in sorted((name for name in fields if isinstance(name, str)), key=text):
        flat = scalar(fields[name])
        if flat is not None and len(kept) < MOST_FIELDS:
            kept[text(name, LONGEST_NAME)] = masked(flat) if isinstance(flat, str) else flat
    return kept


def names(items: object) -> tuple[str, ...]:
    """A list of tags: texts only, each once, in their order."""
    if not isinstance(items, list | tuple):
        return ()
    kept = dict.fromkeys(text(item, LONGEST_NAME) for item in items[:MOST_TAGS] if isinstance(item, str) and item)
    return tuple(kept)


def bounded(event: RuntimeEvent) -> RuntimeEvent:
    """The event within its bounds, whatever its source.

    Raises:
        MalformedMessage: it has no id, no rule or no possible time (``no_id``, ``no_rule``, ``no_time``).
    """
    if not event.event_id:
        raise MalformedMessage("the event has no id", code="no_id")
    if not event.rule:
        raise MalformedMessage("the event names no rule", code="no_rule")
    if not is_time_ns(event.occurred_at_ns):
        raise MalformedMessage(f"the event's time {event.occurred_at_ns} is not possible", code="no_time")
    return dataclasses.replace(
        event,
        detector=text(event.detector, LONGEST_NAME),
        source=text(event.source, LONGEST_NAME),
        rule=text(event.rule, LONGEST_NAME),
        priority=text(event.priority, LONGEST_NAME),
        host=text(event.host, LONGEST_NAME),
        cluster=text(event.cluster, LONGEST_NAME),
        namespace=text(event.namespace, LONGEST_NAME),
        workload=text(event.workload, LONGEST_NAME),
        caused_by=text(event.caused_by, LONGEST_NAME),
        event_id=EventId(text(event.event_id, LONGEST_NAME)),
        message=masked(text(event.message)),
        tags=names(event.tags),
        process_line=line(event.process_line),
        container=_container(event.container),
        file_path=event.file_path if is_path(event.file_path) else "",
        fields=values(event.fields),
        labels={text(key, LONGEST_NAME): text(value, LONGEST_NAME) for key, value in _first(event.labels)},
    )


def line(processes: Iterable[ProcessRef]) -> tuple[ProcessRef, ...]:
    """A process line up to the first member that cannot be a process: a gap would shift the generations."""
    kept: list[ProcessRef] = []
    for process in processes:
        if not is_pid(process.pid) or len(kept) == MAX_ANCESTORS:
            break
        kept.append(
            ProcessRef(
                process.pid,
                process.started_at_ns if is_time_ns(process.started_at_ns) else None,
                text(process.exe, LONGEST_EVIDENCE),
                text(process.name, LONGEST_NAME),
                masked(text(process.command_line, LONGEST_EVIDENCE)),
            )
        )
    return tuple(kept)


def _container(container: ContainerRef | None) -> ContainerRef | None:
    """A container without a usable id stays one: without it the event would pass for one of the host."""
    if container is None:
        return None
    kept = container.id if is_container_id(container.id) else ""
    return ContainerRef(kept, text(container.name, LONGEST_NAME), text(container.image, 2 * LONGEST_NAME))


def _first(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(labels.items())[:MOST_TAGS]


def _spelled(value: object, depth: int) -> str:
    """Odd values as text, never deeper than ``depth`` and never longer than one field needs."""
    match value:
        case float():
            return repr(value) if math.isfinite(value) else "no number"
        case str():
            return value[:LONGEST_TEXT]
        case bool() | int() | None:
            return str(scalar(value))
        case list() | tuple() if depth:
            return "[" + ", ".join(_spelled(item, depth - 1) for item in value[:MOST_TAGS]) + "]"
        case dict() if depth:
            some = list(value.items())[:MOST_TAGS]
            return "{" + ", ".join(f"{_spelled(key, 0)}: {_spelled(item, depth - 1)}" for key, item in some) + "}"
        case _:
            return f"<{type(value).__name__}>"
