"""One trace from the event to history, through Kafka's headers, as an OTLP collector receives it."""

from __future__ import annotations

import gzip
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.conftest import NewClient
from tests.e2e.fleet import COMMANDS, Fleet, embedded_zones
from tests.e2e.wire import Wire
from workers.cli.up.data_dir import DataDir
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKERS = {"douse-gateway", "douse-responder", "douse-dispatcher", "douse-node", "douse-projector"}
ON_THE_WAY = ("runtime.events", "response.requests.rules", COMMANDS, "response.results")


class Collector:
    """Takes spans in, and knows which service sent which under which trace."""

    def __init__(self) -> None:
        self.spans: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.bodies: list[bytes] = []
        """Everything that was exported, metrics too."""
        self.lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """One export of spans."""
        request = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            for resource in request.resource_spans:
                service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self.spans[span.trace_id.hex()][service].add(span.name)

    def services(self, trace_id: str) -> dict[str, set[str]]:
        """Who told of this trace, and which spans."""
        with self.lock:
            return {service: set(names) for service, names in self.spans.get(trace_id, {}).items()}


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector on a port of its own."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.bodies.append(body)
            if self.path == "/v1/traces":
                collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def trace_in(headers: object) -> str:
    """The trace id of a record's headers; empty where it carries none."""
    assert isinstance(headers, list)
    value = next((content for name, content in headers if name == "traceparent"), b"")
    return value.split(b"-")[1].decode() if value else ""


def test_one_trace_leads_from_the_event_to_history(tmp_path: Path, new_client: NewClient) -> None:
    with (
        collecting() as (collector, endpoint),
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(tmp_path / "d"), servers, log_id="t", fetch_wait_ms=2, otlp_endpoint=endpoint) as fleet,
        Wire(servers, ON_THE_WAY, fetch_wait_ms=2) as wire,
    ):
        fleet.up()
        client = new_client(fleet)
        client.detected()
        client.settled()
        wire.read_to_the_end()
        carried = {topic: [trace_in(record.headers) for record in wire.records(topic)] for topic in ON_THE_WAY}
        (trace_id,) = carried["runtime.events"]
        assert trace_id
        assert {topic: set(traces) for topic, traces in carried.items()} == {topic: {trace_id} for topic in ON_THE_WAY}
        deadline = time.monotonic() + 30
        while set(collector.services(trace_id)) != WORKERS:
            assert time.monotonic() < deadline, collector.services(trace_id)
            time.sleep(0.1)
    reported = collector.services(trace_id)
    print(
        f"\ntrace {trace_id}: "
        + "; ".join(f"{who}: {', '.join(sorted(what))}" for who, what in sorted(reported.items()))
    )
