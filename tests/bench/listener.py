"""The other process of the log's measurements: reads a topic and says how late each record came.

Started by test_log_bench.py as `python -m tests.bench.listener SERVERS FETCH_WAIT_MS TOPIC COUNT`; prints one line of
JSON.
"""

from __future__ import annotations

import json
import sys
import time

from tests.fakes.telemetry import FakeTelemetry
from workers.domain.log.record import Earliest, Record
from workers.log.readers import KafkaLogReader
from workers.settings import KafkaSecurity, KafkaSettings
from workers.system.clock import SystemClock


def main() -> None:
    servers, fetch_wait_ms, topic, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    settings = KafkaSettings(
        bootstrap_servers=servers,
        security=KafkaSecurity(protocol="PLAINTEXT"),
        insecure_dev=True,
        fetch_wait_ms=fetch_wait_ms,
        log_id="bench",
    )
    reader = KafkaLogReader(settings, telemetry=FakeTelemetry(), clock=SystemClock())
    reader.assign(dict.fromkeys(reader.partitions(topic), Earliest()))
    reader.poll(0.0)
    print("ready", flush=True)
    late: list[float] = []
    while len(late) < count:
        deliveries = reader.poll(1.0)
        now = time.monotonic_ns()
        late += [(now - int(record.value or b"0")) / 1e6 for record in deliveries if isinstance(record, Record)]
    idle_from, cpu_from = time.monotonic(), time.process_time()
    while time.monotonic() - idle_from < 2:
        reader.poll(0.5)
    idle = (time.process_time() - cpu_from) / (time.monotonic() - idle_from)
    print(json.dumps({"late_ms": late, "idle_cores": idle}), flush=True)
    reader.close()


if __name__ == "__main__":
    main()
