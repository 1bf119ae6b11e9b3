"""``douse rules`` and ``douse doctor`` as a person types them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.cli import main
from workers.system.rule_files import parse_rules, rules_document
from workers.system.yaml_files import read_text
from workers.wiring.actions import action_shapes
from workers.wiring.rules import load_rules

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "deploy" / "rules").glob("*.yaml"))
EVENTS = ROOT / "tests" / "data" / "falco-events.jsonl"
SHELL = ROOT / "deploy" / "rules" / "terminal-shell-in-container.yaml"

Douse = Callable[..., tuple[int, str, str]]


@pytest.fixture
def douse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Douse:
    """Run the command line; its exit code, output and complaints."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["douse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), out, err

    return run


def test_the_example_rules_are_valid_with_the_real_catalogue(douse: Douse) -> None:
    code, out, _ = douse("rules", "check", *EXAMPLES)
    assert (code, out) == (
        0,
        f"{len(EXAMPLES)} file(s), {len(EXAMPLES)} rule(s), {len(EXAMPLES)} enabled: no fault found\n",
    )


def test_every_fault_of_every_file_is_one_line_and_exit_2(douse: Douse, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("rules: [{name: a, match: {rules: ['*']}, steps: [{action: explode}]}]")
    (tmp_path / "b.yaml").write_text("rules: [")
    code, out, err = douse("rules", "check", tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "none.yaml")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("douse: ") for line in lines)
    assert any(
        "a.yaml: rules[0].steps[0].action: 'explode' is no action; known: " in line and "kill_process" in line
        for line in lines
    )
    assert any("b.yaml: not valid YAML" in line for line in lines)
    assert any("none.yaml: no such file" in line for line in lines)


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_printed_rules_are_the_same_rules_again(douse: Douse, output: str) -> None:
    code, out, _ = douse("rules", "print", *EXAMPLES, "--output", output)
    assert code == 0
    again = parse_rules({"printed": read_text(out, name="printed")}, action_shapes())
    assert again == load_rules(EXAMPLES)


def test_what_is_written_is_what_was_read() -> None:
    rules = load_rules(EXAMPLES)
    assert parse_rules({"w": rules_document(rules)}, action_shapes()) == rules


def test_rules_are_printed_as_a_table(douse: Douse) -> None:
    code, out, _ = douse("rules", "print", *EXAMPLES)
    assert code == 0
    assert "kill_process of ancestor 1; then kill_process" in out
    assert "observe" in out


def test_without_files_the_rules_of_the_data_directory_are_read(douse: Douse, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "responder.yaml").write_text(f"rules: [{SHELL}]")
    assert "kill-terminal-shell-in-container" in douse("rules", "print", "--data", tmp_path)[1]
    code, _, err = douse("rules", "print", "--data", tmp_path / "none")
    assert code == 2
    assert "give rule files" in err


def test_recorded_events_are_tried_against_rules(douse: Douse) -> None:
    code, out, _ = douse("rules", "test", "--events", EVENTS, SHELL, "--output", "json")
    assert code == 0
    rows = json.loads(out)
    assert [row["event"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["why_not"].startswith("lacks_field: event lacks proc.pid: add")
    assert rows[1]["why_not"].startswith("no_host")
    assert rows[2]["why_not"] == rows[3]["why_not"] == "no rule matches"


def test_an_event_with_a_pid_shows_what_would_be_requested(douse: Douse, tmp_path: Path) -> None:
    alert = json.loads(EVENTS.read_text().splitlines()[0])
    alert["output_fields"] |= {"proc.pid": 4711, "proc.name": "evil\x1b[31m"}
    (tmp_path / "event.json").write_text(json.dumps(alert))
    code, out, _ = douse("rules", "test", "--events", tmp_path / "event.json", SHELL)
    assert code == 0
    assert "kill_process process 4711 (evil" in out
    assert "\x1b" not in out


def test_an_ancestor_is_named_as_what_would_be_acted_on(douse: Douse, tmp_path: Path) -> None:
    rule = "{name: r, match: {rules: ['*']}, steps: [{action: kill_process, parameters: {ancestor: 1}}]}"
    (tmp_path / "rule.yaml").write_text(f"rules: [{rule}]")
    alert = {"rule": "x", "time": "2026-07-04T20:46:44Z", "hostname": "h"}
    fields = {"proc.pid": 4711, "proc.ppid": 4700, "proc.pname": "bash"}
    (tmp_path / "event.json").write_text(json.dumps({**alert, "output_fields": fields}))
    _, out, _ = douse("rules", "test", "--events", tmp_path / "event.json", tmp_path / "rule.yaml")
    assert "kill_process process 4700 (bash)" in out


def test_malformed_events_are_reported_and_end_in_exit_1(douse: Douse, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"rule": "x"}')
    code, out, _ = douse("rules", "test", "--events", tmp_path / "event.json", SHELL)
    assert code == 1
    assert "no time" in out
    (tmp_path / "event.json").write_text("{\n}}")
    code, _, err = douse("rules", "test", "--events", tmp_path / "event.json", SHELL)
    assert code == 2
    assert "line 1: not JSON" in err


def test_doctor_describes_this_machine_one_line_a_finding(douse: Douse) -> None:
    code, out, _ = douse("doctor")
    assert code == 0, out
    assert all(line.split(maxsplit=1)[0] in ("ok", "warn", "fail") for line in out.splitlines())
    assert "pidfd" in out
    assert "kill_process" in out


def test_doctor_names_what_an_alert_lacks(douse: Douse) -> None:
    code, out, _ = douse("doctor", "--event", EVENTS)
    assert code == 1
    assert "falco-events.jsonl:1: kill_process: lacks proc.pid" in out
    assert "falco-events.jsonl:2: has no host" in out


def test_doctor_says_when_an_alerts_fields_contradict_each_other_about_its_container(
    douse: Douse, tmp_path: Path
) -> None:
    alert = json.loads(EVENTS.read_text().splitlines()[0])
    alert["output_fields"] |= {"container.id": "host"}
    (tmp_path / "event.json").write_text(json.dumps(alert))
    code, out, _ = douse("doctor", "--event", tmp_path / "event.json")
    assert code == 1
    assert "fail event.json: the event may be one of a container (its fields name a container" in out


def test_rules_check_says_which_events_a_rule_on_paths_or_networks_refuses(douse: Douse, tmp_path: Path) -> None:
    rule = "{name: %s, match: {rules: [R]}, steps: [{action: %s}]}"
    (tmp_path / "r.yaml").write_text(f"rules: [{rule % ('f', 'file_quarantine')}, {rule % ('k', 'kill_process')}]")
    code, out, _ = douse("rules", "check", tmp_path / "r.yaml")
    assert code == 0
    assert "note: rule 'f': file_quarantine is refused for an event that does not say which file it means" in out
    assert "rule 'k'" not in out


def test_doctor_names_what_rules_do_not_print(douse: Douse, tmp_path: Path) -> None:
    stock = tmp_path / "falco_rules.yaml"
    stock.write_text("- rule: Shell\n  output: A shell (%proc.name)\n  priority: NOTICE\n")
    code, out, _ = douse("doctor", "--rules", stock)
    assert code == 1
    assert "rule 'Shell': kill_process: lacks proc.pid" in out
    code, out, _ = douse("doctor", "--rules", stock, "--rules", ROOT / "deploy" / "falco" / "append_output.yaml")
    assert code == 0
    assert "rule 'Shell': has every field that an action uses" in out


@pytest.mark.parametrize("content", ["{broken", "[1]", "7"])
def test_doctor_reports_junk_as_not_an_alert(douse: Douse, tmp_path: Path, content: str) -> None:
    (tmp_path / "junk.json").write_text(content)
    code, out, _ = douse("doctor", "--event", tmp_path / "junk.json")
    assert code == 1
    assert re.search(r"fail junk\.json: (line 1: )?not ", out)


def test_doctor_prints_the_privileges_that_actions_need(douse: Douse) -> None:
    code, out, _ = douse("doctor", "--privileges", "--output", "json")
    assert code == 0
    assert {"action": "kill_process", "capabilities": ["KILL", "SYS_PTRACE"], "mounts": []} in json.loads(out)


def test_a_nodes_settings_say_which_actions_and_sockets_count(douse: Douse, tmp_path: Path) -> None:
    off = "features: {respond: {response_actions: {kill_process: {trigger: none}}}}"
    (tmp_path / "node.yaml").write_text(off)
    code, out, _ = douse("doctor", "--privileges", "--config", tmp_path / "node.yaml", "--output", "json")
    assert code == 0
    assert "kill_process" not in [row["action"] for row in json.loads(out)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("features: {respond: {respons_actions: {}}}", "features.respond.respons_actions: unknown key"),
        ("features: 7", "features: unknown key"),
        ("kafka: {}", "kafka.bootstrap_servers: is missing"),
    ],
)
def test_faulty_settings_are_reported_with_their_path(
    douse: Douse, tmp_path: Path, content: str, complaint: str
) -> None:
    (tmp_path / "x.yaml").write_text(content)
    code, _, err = douse("doctor", "--config", tmp_path / "x.yaml")
    assert code == 2
    assert complaint in err
