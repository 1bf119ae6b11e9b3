"""Telemetry: one trace through Kafka's headers, nothing outside the catalogue, nothing loaded without an endpoint."""

from __future__ import annotations

import ast
import io
import itertools
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import workers
from tests.unit.source_rules import sources_under
from workers.domain.errors import ConfigError, PermanentFailure
from workers.domain.log.record import Headers
from workers.domain.log.trace_context import HEADER, TraceContext, context_of
from workers.domain.metrics import METRICS
from workers.settings import TelemetrySettings
from workers.system.logs import LINES_A_MINUTE, LONGEST_FIELD, RepeatLimit, StructuredLog
from workers.system.ports import Telemetry
from workers.system.telemetry import telemetry
from workers.system.telemetry.exporting import ExportingTelemetry
from workers.system.telemetry.quiet import QuietTelemetry


class Exported:
    """The SDK with exporters in memory, one instance a worker."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.lines = io.StringIO()

    def worker(self, *, strict: bool = True) -> ExportingTelemetry:
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        return ExportingTelemetry(tracers, meters, StructuredLog("json", stream=self.lines), strict=strict)

    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self._spans.get_finished_spans()}

    def metrics(self) -> dict[str, Any]:
        data = self._metrics.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}


@pytest.fixture
def exported() -> Exported:
    return Exported()


def _quiet(stream: io.StringIO | None = None) -> QuietTelemetry:
    return QuietTelemetry(StructuredLog("json", stream=stream if stream is not None else io.StringIO()))


# Traces


def test_one_trace_leads_through_headers_from_event_to_history() -> None:
    packages = [Exported() for _ in range(4)]
    headers: Headers = ()
    for package, name in zip(packages, ("responder", "dispatcher", "node", "projector"), strict=True):
        with package.worker().span(name, parent=headers) as span:
            headers = (("other", b"x"), *span.headers())
    spans = [next(iter(package.spans().values())) for package in packages]
    assert len({span.context.trace_id for span in spans}) == 1
    assert spans[0].parent is None
    for earlier, later in itertools.pairwise(spans):
        assert later.parent.span_id == earlier.context.span_id


def test_a_worker_without_an_endpoint_passes_the_trace_on(exported: Exported) -> None:
    worker = exported.worker()
    with worker.span("first") as first, _quiet().span("middle", parent=first.headers()) as middle:
        headers = middle.headers()
    assert headers != first.headers()
    with worker.span("last", parent=headers):
        pass
    assert exported.spans()["last"].context.trace_id == exported.spans()["first"].context.trace_id


@pytest.mark.parametrize("make", [lambda exported: exported.worker(), lambda _: _quiet()], ids=["exporting", "quiet"])
def test_a_span_without_a_parent_belongs_to_the_one_around_it(make: Any, exported: Exported) -> None:
    telemetry_: Telemetry = make(exported)
    with telemetry_.span("outer") as outer:
        with telemetry_.span("inner") as inner:
            pass
        with telemetry_.span("second") as second:
            pass
    with telemetry_.span("later") as later:
        pass
    contexts = [context_of(span.headers()) for span in (outer, inner, second, later)]
    traces = [context.trace_id for context in contexts if context is not None]
    assert traces[0] == traces[1] == traces[2] != traces[3]
    assert len({context.span_id for context in contexts if context is not None}) == 4


def test_an_unsampled_trace_stays_unsampled(exported: Exported) -> None:
    parent = TraceContext(1, 2, sampled=False).headers()
    for telemetry_ in (exported.worker(), _quiet()):
        with telemetry_.span("x", parent=parent) as span:
            found = context_of(span.headers())
        assert found is not None
        assert (found.trace_id, found.sampled) == (1, False)
    assert exported.spans() == {}


def test_an_exception_marks_its_span_by_class_and_code_alone(exported: Exported) -> None:
    with pytest.raises(PermanentFailure), exported.worker().span("x"):
        raise PermanentFailure("password=hunter2", code="permission")
    span = exported.spans()["x"]
    assert span.attributes == {"error.type": "PermanentFailure"}
    assert (span.status.is_ok, span.status.description) == (False, "permission")
    assert "hunter2" not in span.to_json()


def test_only_attributes_of_the_allow_list_leave(exported: Exported) -> None:
    with exported.worker().span("x", attributes={"node_id": "n", "command_line": "curl -u a:b"}) as span:
        span.note("topic", "response.results")
        span.note("offset", 7)
        span.note("path", "/etc/shadow")
        span.note("reason", "r" * 5000)
    attributes = dict(exported.spans()["x"].attributes)
    assert len(attributes.pop("douse.reason")) == 256
    assert attributes == {
        "douse.node_id": "n",
        "messaging.destination.name": "response.results",
        "messaging.kafka.offset": 7,
    }


@given(st.builds(TraceContext, st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1), st.booleans()))
def test_a_trace_context_survives_its_header(context: TraceContext) -> None:
    assert context_of(context.headers()) == context


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00-" + b"0" * 32 + b"-" + b"b" * 16 + b"-01",
        b"00-" + b"a" * 32 + b"-" + b"0" * 16 + b"-01",
        b"00-" + b"A" * 32 + b"-" + b"b" * 16 + b"-01",
        b"ff-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01-more",
        b"00-" + b"a" * 32 + b"-" + b"b" * 16,
        b"\xff" * 55,
    ],
)
def test_what_is_no_trace_context_starts_a_new_trace(value: bytes) -> None:
    assert context_of(((HEADER, value),)) is None
    with _quiet().span("x", parent=((HEADER, value),)) as span:
        assert context_of(span.headers()) is not None


def test_a_later_version_s_context_is_read_as_far_as_it_is_known() -> None:
    value = b"01-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01-more"
    assert context_of(((HEADER, value),)) == TraceContext(int("a" * 32, 16), int("b" * 16, 16))


# Metrics


def test_what_is_counted_and_measured_comes_out_under_its_name(exported: Exported) -> None:
    worker = exported.worker()
    worker.count("node.outcomes", labels={"outcome": "COMPLETED"})
    worker.count("node.outcomes", 2, labels={"outcome": "COMPLETED"})
    worker.observe("history.batch.duration", 0.25)
    metrics = exported.metrics()
    (point,) = metrics["douse.node.outcomes"].data.data_points
    assert (point.value, point.attributes) == (3, {"outcome": "COMPLETED"})
    assert metrics["douse.node.outcomes"].unit == "{execution}"
    assert metrics["douse.history.batch.duration"].data.data_points[0].sum == 0.25


def test_a_metric_that_the_catalogue_does_not_have_raises_in_tests(exported: Exported) -> None:
    worker = exported.worker()
    with pytest.raises(KeyError, match=r"node\.typo"):
        worker.count("node.typo")
    with pytest.raises(KeyError, match="pid"):
        worker.count("node.commands", labels={"pid": "4711"})


def test_in_production_it_is_not_counted_and_nothing_breaks(exported: Exported) -> None:
    worker = exported.worker(strict=False)
    worker.count("node.typo")
    worker.observe("node.commands", 1.0)
    worker.count("node.commands", labels={"pid": "4711"})
    assert exported.metrics() == {}


def test_every_metric_says_what_it_means_under_a_name_of_its_package() -> None:
    for name, metric in METRICS.items():
        assert name.partition(".")[0] in {"keys", "responder", "dispatcher", "node", "history", "gateway"}
        assert name == name.lower()
        assert metric.meaning.endswith(".")


def test_the_sources_count_only_what_the_catalogue_has() -> None:
    named = {
        (source.module, call.args[0].value)
        for source in sources_under(Path(workers.__file__).parent)
        for call in ast.walk(ast.parse(source.text))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("count", "observe")
        and "telemetry" in ast.unparse(call.func.value)
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert named
    assert sorted((module, name) for module, name in named if name not in METRICS) == []


# Lines


def _line(text: str) -> dict[str, Any]:
    (line,) = text.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("make", [lambda e: e.worker(), lambda e: _quiet(e.lines)], ids=["exporting", "quiet"])
def test_a_line_is_one_json_object_with_its_trace(make: Any, exported: Exported) -> None:
    telemetry_: Telemetry = make(exported)
    with telemetry_.span("x") as span:
        telemetry_.log("claimed", level="warning", execution_id="e", attempt=2, text="a\nb")
    line = _line(exported.lines.getvalue())
    context = context_of(span.headers())
    assert context is not None
    assert line.pop("trace_id") == f"{context.trace_id:032x}"
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "claimed", "level": "warning", "execution_id": "e", "attempt": 2, "text": "a\nb"}


def test_a_line_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    log = StructuredLog("json", "warning", stream=stream)
    log.write("quiet", "info", {})
    log.write("loud", "error", {})
    assert _line(stream.getvalue())["event"] == "loud"


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.text() | st.integers() | st.binary() | st.none()))
def test_any_fields_make_one_line(fields: dict[str, Any]) -> None:
    stream = io.StringIO()
    StructuredLog("json", stream=stream).write("e", "info", fields)
    assert set(_line(stream.getvalue())) == {"event", "level", "timestamp", *fields}


def test_secrets_and_endless_text_do_not_reach_a_line() -> None:
    stream = io.StringIO()
    fields = {"command": "mysql --password=hunter2", "text": "x" * 100_000, "error": ValueError("token=abc123")}
    StructuredLog("json", stream=stream).write("e", "info", fields)
    line = _line(stream.getvalue())
    assert "hunter2" not in stream.getvalue()
    assert "abc123" not in stream.getvalue()
    assert len(line["text"]) == LONGEST_FIELD


def test_a_console_line_is_for_people() -> None:
    stream = io.StringIO()
    StructuredLog("console", stream=stream, bound={"worker": "node"}).write("claimed", "info", {"attempt": 1})
    assert "claimed" in stream.getvalue()
    assert "worker=node" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_broken_standard_error_stops_nobody() -> None:
    stream = io.StringIO()
    log = StructuredLog("json", stream=stream)
    stream.close()
    log.write("e", "error", {})


def test_a_library_s_warning_becomes_a_line_of_ours() -> None:
    stream = io.StringIO()
    StructuredLog("json", stream=stream).adopt("douse_test_library")
    logging.getLogger("douse_test_library.part").warning("lost %s", "it")
    logging.getLogger("douse_test_library.part").info("fine")
    line = _line(stream.getvalue())
    assert (line["library"], line["text"], line["level"]) == ("douse_test_library.part", "lost it", "warning")


# Without an endpoint


def test_without_an_endpoint_opentelemetry_is_not_even_imported() -> None:
    program = (
        "import sys\n"
        "from workers.system.telemetry import telemetry\n"
        "from workers.settings import TelemetrySettings\n"
        "made = telemetry(TelemetrySettings(), worker='node', instance_id='i')\n"
        "with made.span('x') as span: made.log('said', answer=span.headers()[0][0])\n"
        "made.count('node.commands')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
    line = _line(ended.stderr)
    assert (line["worker"], line["instance"], line["answer"]) == ("node", "i", HEADER)


def test_an_endpoint_that_is_no_address_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="otlp_endpoint"):
        telemetry(TelemetrySettings(otlp_endpoint="collector:4317"), worker="node")


def test_a_warning_that_repeats_does_not_fill_the_disk_and_states_how_many_were_left_out() -> None:
    now_ns = 0
    limit = RepeatLimit(2, now_ns=lambda: now_ns)
    assert [limit.take("a") for _ in range(5)] == [0, 0, None, None, None]
    assert limit.take("b") == 0
    now_ns = 60_000_000_000
    assert limit.take("a") == 3
    for number in range(10_000):
        limit.take(f"cause {number}")
    assert len(limit._causes) <= 257


def test_a_flood_of_one_warning_is_30_lines_and_information_is_not_limited() -> None:
    stream = io.StringIO()
    log = StructuredLog("json", stream=stream)
    for _ in range(1000):
        log.write("refused", "warning", {"reason": "forbidden"})
        log.write("claimed", "info", {})
    log.write("refused", "warning", {"reason": "another"})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len([line for line in lines if line["event"] == "refused"]) == LINES_A_MINUTE + 1
    assert len([line for line in lines if line["event"] == "claimed"]) == 1000


def test_a_librarys_line_is_written_once_a_minute_without_its_traceback() -> None:
    stream = io.StringIO()
    StructuredLog("json", stream=stream).adopt("douse_test_flood")
    library = logging.getLogger("douse_test_flood")
    for number in range(100):
        library.error("accept failed", exc_info=OSError(f"out of files {number}"))
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["text"] == "accept failed (OSError)"
