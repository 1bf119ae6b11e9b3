"""Telemetry that records instead of sending; traces travel in headers as the real one's do.

A metric or label that workers/domain/metrics.py does not have is an error here: production would silently not count it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from workers.domain.log.record import Headers
from workers.domain.metrics import METRICS, Kind
from workers.domain.outcome import NOTHING, Values

NO_LABELS: Mapping[str, str] = {}


@dataclass
class FakeSpan:
    """One recorded span."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    notes: dict[str, str | int | bool] = field(default_factory=dict)
    error: str = ""

    def headers(self) -> Headers:
        return (("traceparent", f"00-{self.trace_id:032x}-{self.span_id:016x}-01".encode()),)

    def note(self, name: str, value: str | int | bool) -> None:
        self.notes[name] = value


class FakeTelemetry:
    """Keeps spans, counts, observations and log lines, in order."""

    def __init__(self) -> None:
        self.spans: list[FakeSpan] = []
        self.counts: Counter[str] = Counter()
        self.labelled: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.observed: list[tuple[str, float]] = []
        self.gauges: dict[str, int] = {}
        self.lines: list[tuple[str, str, dict[str, object]]] = []
        """(level, event, fields)."""

    @contextmanager
    def span(self, name: str, *, parent: Headers = (), attributes: Values = NOTHING) -> Iterator[FakeSpan]:
        trace_id, parent_id = self._context(parent)
        span = FakeSpan(name, trace_id, len(self.spans) + 1, parent_id, dict(attributes))
        self.spans.append(span)
        try:
            yield span
        except BaseException as error:
            span.error = type(error).__name__
            raise

    def count(self, metric: str, by: int = 1, *, labels: Mapping[str, str] = NO_LABELS) -> None:
        _known(metric, labels, Kind.COUNTER)
        self.counts[metric] += by
        self.labelled[metric, tuple(sorted(labels.items()))] += by

    def observe(self, metric: str, seconds: float, *, labels: Mapping[str, str] = NO_LABELS) -> None:
        _known(metric, labels, Kind.HISTOGRAM)
        self.observed.append((metric, seconds))

    def gauge(self, metric: str, value: int) -> None:
        _known(metric, NO_LABELS, Kind.GAUGE)
        self.gauges[metric] = value

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        self.lines.append((level, event, fields))

    def events(self, level: str = "") -> list[str]:
        """The names of the lines logged, of one level or of all."""
        return [event for line_level, event, _ in self.lines if level in ("", line_level)]

    def _context(self, parent: Headers) -> tuple[int, int]:
        for name, value in parent:
            if name == "traceparent":
                _, trace_id, span_id, _ = value.decode().split("-")
                return int(trace_id, 16), int(span_id, 16)
        return len(self.spans) + 1, 0


def _known(metric: str, labels: Mapping[str, str], kind: Kind) -> None:
    named = METRICS.get(metric)
    assert named is not None, f"{metric}: add it to workers/domain/metrics.py, as room.noun"
    assert named.kind is kind, f"{metric} is a {named.kind}"
    assert set(labels) <= set(named.labels), f"{metric} has no label {sorted(set(labels) - set(named.labels))}"
