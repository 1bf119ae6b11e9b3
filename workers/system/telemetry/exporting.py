"""Telemetry with an endpoint: OpenTelemetry's SDK, spans and metrics over OTLP/HTTP, in the background.

Made by this package. What is not in ``domain.metrics`` is neither counted nor put on a span, so that a command line, a
path or a token cannot slip out; an exception marks its span by its class alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.metrics import _Gauge as Gauge
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from workers import __version__
from workers.domain.errors import ConfigError, reason_of
from workers.domain.log.record import Headers
from workers.domain.log.trace_context import TraceContext, context_of
from workers.domain.metrics import ATTRIBUTES, METRICS, Kind
from workers.domain.outcome import NOTHING, Values
from workers.system.logs import StructuredLog

EXPORT_TIMEOUT_S: Final = 3.0
"""A collector that does not answer delays a worker's exit by this, twice: well inside a drain of 10 s."""

LONGEST_ATTRIBUTE: Final = 256

NO_LABELS: Mapping[str, str] = {}


Instrument: TypeAlias = Counter | Histogram | Gauge


class ExportedSpan:
    """One span of the SDK."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def headers(self) -> Headers:
        """The trace context to put on records."""
        at = self._span.get_span_context()
        return TraceContext(at.trace_id, at.span_id, at.trace_flags.sampled).headers()

    def note(self, name: str, value: str | int | bool) -> None:
        """Add an attribute from the allow-list; anything else is dropped."""
        exported = ATTRIBUTES.get(name)
        if exported is not None:
            self._span.set_attribute(exported, value[:LONGEST_ATTRIBUTE] if isinstance(value, str) else value)


class ExportingTelemetry:
    """Spans and metrics into whatever the two providers were made with."""

    def __init__(
        self, tracers: TracerProvider, meters: MeterProvider, log: StructuredLog, *, strict: bool = False
    ) -> None:
        """``strict`` is for tests: a metric or label that the catalogue does not have raises ``KeyError``."""
        self._tracer = tracers.get_tracer("douse", __version__)
        self._log = log
        self._strict = strict
        self._instruments = _instruments(meters.get_meter("douse", __version__))

    @contextmanager
    def span(self, name: str, *, parent: Headers = (), attributes: Values = NOTHING) -> Iterator[ExportedSpan]:
        """A span of the parent's trace, else of the one around it, else of a new one."""
        kind = SpanKind.CONSUMER if parent else SpanKind.INTERNAL
        with self._tracer.start_as_current_span(
            name, _remote(parent), kind, record_exception=False, set_status_on_exception=False
        ) as inner:
            span = ExportedSpan(inner)
            for attribute, value in attributes.items():
                span.note(attribute, value)
            try:
                yield span
            except BaseException as error:
                # The message may quote what must not leave the machine; class and code never do.
                inner.set_attribute("error.type", type(error).__name__)
                inner.set_status(Status(StatusCode.ERROR, reason_of(error)))
                raise

    def count(self, metric: str, by: int = 1, *, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Add to a counter of the catalogue; one that it does not have is not counted."""
        instrument = self._instrument(metric, labels)
        if isinstance(instrument, Counter):
            instrument.add(by, labels)

    def observe(self, metric: str, seconds: float, *, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Record a duration of the catalogue; one that it does not have is not recorded."""
        instrument = self._instrument(metric, labels)
        if isinstance(instrument, Histogram):
            instrument.record(seconds, labels)

    def gauge(self, metric: str, value: int) -> None:
        """Set a gauge of the catalogue; one that it does not have is not set."""
        instrument = self._instrument(metric, NO_LABELS)
        if isinstance(instrument, Gauge):
            instrument.set(value)

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        """One line, with the trace it belongs to."""
        at = trace.get_current_span().get_span_context()
        within = {"trace_id": f"{at.trace_id:032x}"} if at.is_valid else {}
        self._log.write(event, level, {**fields, **within})

    def _instrument(self, metric: str, labels: Mapping[str, str]) -> Instrument | None:
        known = METRICS.get(metric)
        if known is None or not set(labels) <= set(known.labels):
            if self._strict:
                raise KeyError(f"domain.metrics does not have {metric} with labels {sorted(labels)}")
            return None
        return self._instruments[metric]


def exporting_telemetry(endpoint: str, log: StructuredLog, *, worker: str, instance_id: str) -> ExportingTelemetry:
    """Telemetry that sends to ``endpoint`` (``http://collector:4318``), in batches, from threads of the SDK's own.

    Raises:
        ConfigError: the endpoint is no HTTP address.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError("telemetry.otlp_endpoint must be an address like http://collector:4318")
    # Costs 0.14 s to import.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    log.adopt("opentelemetry", "urllib3")
    base = endpoint.rstrip("/")
    about = {"service.name": f"douse-{worker}", "service.version": __version__}
    resource = Resource.create(about | ({"service.instance.id": instance_id} if instance_id else {}))
    tracers = TracerProvider(resource=resource)
    spans = OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    metrics = OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=EXPORT_TIMEOUT_S)
    meters = MeterProvider([PeriodicExportingMetricReader(metrics)], resource)
    return ExportingTelemetry(tracers, meters, log)


def _instruments(meter: Meter) -> Mapping[str, Instrument]:
    makers: Mapping[Kind, Callable[[str, str, str], Instrument]] = {
        Kind.COUNTER: meter.create_counter,
        Kind.HISTOGRAM: meter.create_histogram,
        Kind.GAUGE: meter.create_gauge,
    }
    return {
        metric.name: makers[metric.kind](f"douse.{metric.name}", metric.unit, metric.meaning)
        for metric in METRICS.values()
    }


def _remote(parent: Headers) -> Context | None:
    """None leaves it to the span around."""
    found = context_of(parent)
    if found is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if found.sampled else TraceFlags.DEFAULT)
    context = SpanContext(found.trace_id, found.span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
