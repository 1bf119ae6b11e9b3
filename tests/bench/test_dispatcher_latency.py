"""How long one request takes through the dispatcher's own process: embedded broker, fetch wait 1 ms."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from tests.integration.test_dispatcher import COMMANDS, Site, requests
from workers.domain.log.record import Record
from workers.domain.request import ActorKind

ROUNDS = 200


def test_from_request_to_signed_command(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        site.config.write_text(site.config.read_text().replace("fetch_wait_ms: 5", "fetch_wait_ms: 1"))
        site.beat()
        first, *rest = [r for r in requests(site.clock, 3 * ROUNDS) if len(r.steps) == 1][: ROUNDS + 1]
        process = site.start()
        try:
            site.ask(first)
            site.wait_for([first.steps[0].execution_id])
            taken: list[float] = []
            for request in rest:
                began = time.perf_counter()
                site.ask(request)
                while not any(isinstance(r, Record) and r.position.topic == COMMANDS for r in site.reader.poll(1.0)):
                    pass
                taken.append((time.perf_counter() - began) * 1e3)
                time.sleep(0.005)
        finally:
            process.terminate()
            process.wait()
    taken.sort()
    print(
        f"\nrequest to command, {len(taken)} rounds ({ActorKind.PERSON} and {ActorKind.RULE}): "
        f"p50 {taken[len(taken) // 2]:.1f} ms, p99 {taken[len(taken) * 99 // 100]:.1f} ms"
    )
