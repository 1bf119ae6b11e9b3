"""Every metric Douse counts, named once: kind, unit, labels and meaning; and the attributes a span may carry.

``system.telemetry`` counts nothing that is not in here; ``docs/metrics.md`` is made from it. Names are
``<worker>.<noun>``, exported as ``douse.<worker>.<noun>``. Labels are of few values each: never an id, a path or a pid.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    kind: Kind
    unit: str
    """As UCUM writes it: ``s``, or the thing counted in braces."""
    meaning: str
    labels: tuple[str, ...] = ()


def _counter(name: str, unit: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, f"{{{unit}}}", meaning, labels)


def _duration(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, "s", meaning, labels)


_METRICS: Final[Sequence[Metric]] = (
    # every worker
    Metric("keys.days_left", Kind.GAUGE, "d", "Whole days until the keyset expires, when every worker waits."),
    Metric("keys.version", Kind.GAUGE, "{version}", "The version of the keyset in force."),
    _counter("keys.refused", "record", "Records on `response.policy` that are no keyset to follow.", "reason"),
    # responder
    _counter("responder.events", "event", "Events read."),
    _counter("responder.malformed", "record", "Records that were no event."),
    _counter("responder.loop_suppressed", "event", "Events that Douse's own actions caused, dropped before matching."),
    _counter("responder.requests", "request", "Requests made by rules."),
    _counter("responder.refused", "match", "Matches that made no request, by reason.", "reason"),
    # dispatcher
    _counter("dispatcher.requests", "request", "Requests taken in.", "verb"),
    _counter("dispatcher.duplicates", "request", "Requests taken in before."),
    _counter("dispatcher.dead_letters", "record", "Records that were no request.", "reason"),
    _counter("dispatcher.unverified", "record", "Results and heartbeats that do not verify.", "reason"),
    _counter("dispatcher.dispatched", "command", "Commands signed and put into the outbox.", "action"),
    _counter("dispatcher.ended", "execution", "Executions that the dispatcher ended itself.", "outcome", "reason"),
    _counter("dispatcher.alarms", "alarm", "Alarms about nodes and clocks, by name.", "alarm"),
    _counter("dispatcher.foreign_results", "result", "Results about executions that it did not dispatch."),
    # node
    _counter("node.commands", "command", "Commands taken in."),
    _counter("node.duplicates", "command", "Commands taken in before."),
    _counter("node.clock_alarms", "command", "Commands refused because they were issued ahead of the node's clock."),
    _counter("node.dead_letters", "record", "Records that were dead-lettered.", "reason"),
    _counter("node.outcomes", "execution", "Executions that came to an outcome here.", "outcome"),
    _counter("node.bugs", "failure", "Failures that are bugs.", "error"),
    # projector and its store
    _counter("history.folded", "record", "Records folded into history."),
    _counter(
        "history.unverified",
        "record",
        "Records kept apart: their signature or signatory does not hold.",
        "topic",
        "reason",
    ),
    _counter("history.unreadable", "record", "Records that could not be read at all.", "topic", "reason"),
    _counter("history.gaps", "gap", "Stretches of a log that were gone before they were read.", "topic"),
    _counter("history.clones", "sender", "Senders that signed two different records under one number."),
    _counter("history.missing_records", "record", "Signed record numbers that never arrived."),
    _counter("history.disputes", "execution", "Executions that a node spoke for without having been given them."),
    _counter("history.forgotten", "row", "Rows that retention removed, by kind.", "kind"),
    _duration("history.batch.duration", "One batch folded, its commit included."),
    # gateway
    _counter("gateway.answers", "answer", "HTTP answers.", "status"),
    _counter("gateway.refused", "request", "HTTP requests refused before they did anything.", "reason"),
    _counter("gateway.connections_closed", "connection", "Connections closed by the gateway, by cause.", "cause"),
    _counter("gateway.events", "event", "Events submitted over HTTP."),
    _counter("gateway.requests_written", "request", "Requests written for people.", "verb"),
    _duration("gateway.answer.duration", "One HTTP answer."),
)

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _METRICS}
"""By name."""

ATTRIBUTES: Final[Mapping[str, str]] = {
    "topic": "messaging.destination.name",
    "partition": "messaging.destination.partition.id",
    "offset": "messaging.kafka.offset",
    **{
        name: f"douse.{name}"
        for name in (
            "action",
            "attempt",
            "code",
            "event_id",
            "execution_id",
            "host",
            "node_id",
            "outcome",
            "reason",
            "records",
            "rule",
            "stage",
            "steps",
            "verb",
        )
    },
}
"""What a span may carry, and its exported name; anything else is dropped, so that no command line or path slips out."""


def document() -> str:
    """``docs/metrics.md``."""
    rows = [
        f"| `douse.{each.name}` | {each.kind} | {each.unit} | {_quoted(each.labels) or '-'} | {each.meaning} |"
        for each in METRICS.values()
    ]
    return "\n".join(
        [
            "# Metrics and traces",
            "",
            "Generated from `workers/domain/metrics.py` by `make docs`; do not edit. Exported over OTLP/HTTP if",
            "`telemetry.otlp_endpoint` is set, and not at all otherwise.",
            "",
            "| metric | kind | unit | labels | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "One trace covers the way from event to history: each record has its `traceparent` in a Kafka header.",
            f"A span has no attributes but {_quoted(sorted(ATTRIBUTES.values()))}, and `error.type`.",
            "",
        ]
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
