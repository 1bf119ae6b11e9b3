"""A detected process chooses its own command line and those above it: none of them gets it out of a rule's reach.

From outside: alerts by HTTP to a whole fleet, about real victims. Before, a request of more than 64 kB was written and
never taken in, so that long command lines above a process evaded every rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.e2e.fleet import Fleet, embedded_zones
from tests.e2e.victim_processes import VictimProcesses, facts_of
from tests.victims import wait_until
from workers.cli.demo.detection import falco_event
from workers.cli.up.data_dir import DataDir
from workers.domain.event import MAX_ANCESTORS
from workers.system import yaml_files
from workers.wiring import one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WIDE: Final = "\U0001f480" * 1024
"""4 kB of text, which is as long as a command line of an event may be."""
ABOVE: Final = 16
RULES: Final = {
    "rules": [
        {
            "name": "kill-what-started-it",
            "match": {"rules": ["Something far below"]},
            "steps": [{"action": "kill_process", "parameters": {"ancestor": ABOVE}}],
        }
    ]
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = tmp_path_factory.mktemp("oversized")
    with (
        one_machine.embedded_broker(embedded_zones()) as servers,
        Fleet(DataDir(root / "data"), servers, log_id="this-run", fetch_wait_ms=2) as made,
    ):
        yaml_files.write(made.data.rules, RULES)
        yield made.up()


@pytest.fixture
def victims() -> Iterator[VictimProcesses]:
    with VictimProcesses() as made:
        yield made


def alert(pid: int, rule: str, *above: int) -> dict[str, Any]:
    """A detection of a process with as many above it as an event names, each with all the text that it can have."""
    line = (*above, *range(2, MAX_ANCESTORS + 1))[: MAX_ANCESTORS - 1]
    made = falco_event(facts_of(pid), line)
    fields = {
        f"proc.{name}[{hops}]": WIDE for hops in range(1, MAX_ANCESTORS) for name in ("aexepath", "acmdline", "aname")
    }
    made["output_fields"] |= {"proc.exepath": WIDE, "proc.cmdline": WIDE, "proc.pcmdline": WIDE} | fields
    return made | {"rule": rule}


def test_a_rule_reaches_a_process_among_the_longest_command_lines(fleet: Fleet, victims: VictimProcesses) -> None:
    pid, child = victims.spawn(), victims.spawn()
    line = (*range(2, ABOVE + 1), pid)
    with fleet.http_client() as client:
        answer = client.post("/api/v1/events", json=alert(child, "Something far below", *line))
        assert answer.status_code == 202
        wait_until(lambda: victims.died_ns(pid) is not None)
    assert victims.died_ns(child) is None


def test_a_person_reaches_it_by_its_event(fleet: Fleet, victims: VictimProcesses) -> None:
    pid = victims.spawn()
    with fleet.http_client() as client:
        sent = client.post("/api/v1/events", json=alert(pid, "No rule answers this"))
        (event_id,) = (each["event_id"] for each in sent.json()["data"])
        wait_until(lambda: client.get(f"/api/v1/events/{event_id}").status_code == 200)
        asked = client.post(
            "/api/v1/executions", json={"action": "kill_process", "event_id": event_id, "reason": "it hides"}
        )
        assert asked.status_code in (201, 202)
        wait_until(lambda: victims.died_ns(pid) is not None)


def test_what_the_dispatcher_would_not_take_is_refused_by_the_gateway(fleet: Fleet) -> None:
    body = {
        "action": "suspend_process",
        "host": str(fleet.node_id),
        "target": {"process": {"pid": 4711}},
        "undo_after_s": 31 * 86_400,
        "reason": "for longer than the dispatcher keeps a timer",
    }
    with fleet.http_client() as client:
        answer = client.post("/api/v1/executions", json=body)
    assert answer.status_code == 400
    assert "undo_after_s" in answer.text
