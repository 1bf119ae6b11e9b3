"""What Falco must print: reported by doctor, shipped in deploy/, and exactly what the code reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.actions import FAKE_ACTIONS
from workers.domain.falco.alert import PRINTED_ANCESTORS, event_from
from workers.domain.falco.needs import fields_appended, fields_of_alert, fields_of_rules, lacks
from workers.domain.request import ActionRequest
from workers.domain.rules.plan import plan
from workers.system.rule_files import parse_rules
from workers.system.yaml_files import read_mapping, read_text

ROOT = Path(__file__).parent.parent.parent
FALCO = ROOT / "deploy" / "falco"
RULES = sorted((ROOT / "deploy" / "rules").glob("*.yaml"))
REAL = (ROOT / "tests" / "data" / "falco-events.jsonl").read_text().splitlines()
STOCK = """
- macro: spawned_process
  condition: evt.type in (execve, execveat)
- rule: Terminal shell in container
  desc: A shell
  condition: spawned_process and container
  output: A shell (evt_type=%evt.type user=%user.name process=%proc.name parent=%proc.pname container_id=%container.id)
  priority: NOTICE
  tags: [container, shell]
- rule: Audit
  desc: Something else
  condition: ka.verb = create
  output: A pod (user=%ka.user.name)
  priority: NOTICE
  source: k8s_audit
"""


def missing(present: frozenset[str], *, needed: bool = True) -> set[tuple[str, str]]:
    return {(lack.action, lack.field) for lack in lacks(present, FAKE_ACTIONS) if lack.needed is needed}


def falco(text: str) -> Any:
    return read_text(text, name="test")


def test_a_stock_alert_lacks_the_pid() -> None:
    present = fields_of_alert(json.loads(REAL[0]))
    assert ("kill_process", "proc.pid") in missing(present)
    assert ("kill_process", "proc.pid.ts") in missing(present, needed=False)
    assert ("stop_container", "container.full_id") in missing(present, needed=False)
    assert not [action for action, _ in missing(present) if action == "stop_container"]


def test_an_undo_needs_nothing_of_an_alert() -> None:
    assert "start_container" not in {lack.action for lack in lacks((), FAKE_ACTIONS)}


def test_a_field_without_a_value_is_not_there() -> None:
    alert = {"output_fields": {"proc.pid": None, "container.full_id": "host", "fd.name": "<NA>"}}
    assert fields_of_alert(alert) == frozenset()
    assert fields_of_alert({"output_fields": [1]}) == frozenset()
    assert "hostname" in fields_of_alert({"hostname": "web-1"})


def test_that_an_alert_is_of_the_host_is_a_statement_for_paths_and_networks_and_no_container() -> None:
    present = fields_of_alert({"output_fields": {"container.id": "host", "fd.name": "/tmp/x"}})
    lacking = {action for action, _ in missing(present)}
    assert "stop_container" in lacking
    assert not lacking & {"file_quarantine", "isolate_network"}
    assert ("file_quarantine", "container.full_id or container.id") in missing(frozenset({"fd.name"}))


def test_a_stock_rule_lacks_what_its_output_does_not_print() -> None:
    printed = fields_of_rules([falco(STOCK)])
    assert set(printed) == {"Terminal shell in container"}, "rules of other sources have no process"
    assert ("kill_process", "proc.pid") in missing(printed["Terminal shell in container"])


def test_with_the_shipped_configuration_a_stock_rule_lacks_nothing() -> None:
    shipped = read_mapping(FALCO / "append_output.yaml")
    for documents in ([falco(STOCK), shipped], [shipped, falco(STOCK)]):
        (printed,) = fields_of_rules(documents).values()
        assert lacks(printed, FAKE_ACTIONS) == ()
    assert lacks(fields_appended(shipped), FAKE_ACTIONS) == ()


@pytest.mark.parametrize(
    ("match", "applies"),
    [
        (None, True),
        ({}, True),
        ({"source": "syscall"}, True),
        ({"source": "k8s_audit"}, False),
        ({"rule": "Terminal shell in container"}, True),
        ({"rule": "Terminal"}, False),
        ({"tags": ["shell"]}, True),
        ({"tags": ["shell", "other"]}, False),
        ({"source": "syscall", "rule": "Other"}, False),
    ],
)
def test_appended_output_counts_where_all_of_its_conditions_hold(match: Any, applies: bool) -> None:
    configuration = {"append_output": [{"match": match, "extra_fields": [{"proc.pid": "%proc.pid"}, "proc.ppid"]}]}
    (printed,) = fields_of_rules([falco(STOCK), configuration]).values()
    assert {"proc.pid", "proc.ppid"}.issubset(printed) is applies


def test_extra_output_counts_too() -> None:
    (printed,) = fields_of_rules(
        [falco(STOCK), {"append_output": [{"extra_output": "pid=%proc.pid g=%proc.aname[2]"}]}]
    ).values()
    assert {"proc.pid", "proc.aname[2]"} <= printed


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "{rule: Terminal shell in container, output: 'p=%proc.pid', override: {output: append}}",
            {"proc.pid", "user.name"},
        ),
        ("{rule: Terminal shell in container, output: 'p=%proc.pid', override: {output: replace}}", {"proc.pid"}),
        ("{rule: Terminal shell in container, enabled: false}", {"user.name"}),
    ],
)
def test_a_later_file_may_override_a_rules_output(override: str, expected: set[str]) -> None:
    (printed,) = fields_of_rules([falco(STOCK), falco(f"- {override}")]).values()
    assert expected <= printed
    assert ("user.name" in printed) is ("user.name" in expected)


@pytest.mark.parametrize(
    "junk", [None, 1, "x", [], {}, [1, None, {"rule": 5}], {"append_output": 5}, {"append_output": [5]}]
)
def test_junk_is_passed_over(junk: Any) -> None:
    assert fields_of_rules([junk]) == {}
    assert fields_appended(junk) == frozenset()


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_each_example_rule_file_is_valid_and_can_act_on_what_the_shipped_configuration_prints(path: Path) -> None:
    rules = parse_rules({path.name: read_mapping(path)}, FAKE_ACTIONS)
    values = {"proc.pid": 4711, "proc.ppid": 4700, "proc.exepath": "/tmp/x"} | {
        f"proc.apid[{n}]": 9 - n for n in range(2, 9)
    }
    alert = {"rule": "R", "time": "2026-07-04T20:46:44Z", "hostname": "web-1", "output_fields": values}
    event = event_from(alert)
    assert rules.every
    for rule in rules.every:
        assert isinstance(plan(event, rule, now_ns=event.occurred_at_ns, oldest_event_s=300), ActionRequest)


def test_the_example_rules_can_be_used_together() -> None:
    assert len(parse_rules({path.name: read_mapping(path) for path in RULES}, FAKE_ACTIONS).every) == len(RULES) >= 4


def test_the_process_line_reaches_as_far_as_the_shipped_fields() -> None:
    fields = {"proc.pid": 100, "proc.ppid": 99} | {f"proc.apid[{n}]": 100 - n for n in range(2, PRINTED_ANCESTORS + 1)}
    appended = fields_appended(read_mapping(FALCO / "append_output.yaml"))
    assert set(fields) <= appended
    event = event_from({"rule": "R", "time": "2026-07-04T20:46:44Z", "output_fields": fields})
    assert len(event.process_line) == PRINTED_ANCESTORS + 1


def test_falcosidekicks_example_waits_for_every_replica_and_holds_no_password() -> None:
    kafka = read_mapping(FALCO / "falcosidekick.yaml")["kafka"]
    assert (kafka["topic"], kafka["requiredacks"], kafka["tls"], kafka["password"]) == ("falco.events", "ALL", True, "")
