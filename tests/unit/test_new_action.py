"""A new action is three files: its own, its line in the catalogue, its test. Everything else follows from these.

The action below is in a package of its own; nothing else in the repository knows it. It is given to the workers as
the composition root gives them the catalogue.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.action_document import actions_document
from tests.fakes.failpoints import Crash
from tests.fakes.gateway import FakeGateway
from tests.fakes.node import NODE, NodeBench
from workers.actions import CATALOGUE
from workers.actions.base import AnyAction
from workers.domain.command import ActionCommand
from workers.domain.errors import ConfigError
from workers.domain.outcome import Outcome, Stage
from workers.settings import ResponseActions, parse
from workers.system.rule_files import parse_rules
from workers.wiring.actions import action_shapes, node_settings, privileges_and_mounts

ACTION = '''
"""greet_process: says hello to a process, which is all it does."""

from dataclasses import dataclass

from workers.actions.base import Action, Done, FieldSpec, Job, Lane, NotDone, Permission, Probe, parameter
from workers.domain.event import ProcessRef
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.target import ProcessTarget
from workers.host.ports import Host
from workers.settings import ActionSettings, setting

GREETED: dict[int, str] = {}


@dataclass(frozen=True, slots=True)
class GreetParameters:
    loud: bool = parameter("Say it in capitals", default=False)


@dataclass(frozen=True, slots=True)
class GreetClaim:
    pid: int
    words: str


class GreetSettings(ActionSettings):
    most_a_minute: int = setting(6, minimum=1, maximum=60)


class GreetProcess(Action[GreetParameters, GreetClaim]):
    name = "greet_process"
    summary = "Say hello to a process"
    drawbacks = ("It does not answer.",)
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = ProcessTarget
    parameters = GreetParameters
    claims = (GreetClaim,)
    settings = GreetSettings
    outputs = (FieldSpec("pid", "integer", "The process"), FieldSpec("words", "string", "What it was told"))
    privileges = ("AUDIT_WRITE",)
    mounts = ("/dev/log",)
    failpoints = ("greet_process.greeted",)
    example = {"target": ProcessTarget((ProcessRef(4711),), observed_at_ns=1), "parameters": {"loud": True}}

    def admit(self, job: Job[GreetParameters], host: Host) -> None:
        pass

    def bind(self, job: Job[GreetParameters], host: Host) -> GreetClaim:
        return GreetClaim(job.target.line[0].pid, "HELLO" if job.parameters.loud else "hello")

    def execute(self, job: Job[GreetParameters], claim: GreetClaim, host: Host) -> Report:
        GREETED[claim.pid] = claim.words
        host.failpoints.reach("greet_process.greeted")
        return self._greeted(claim)

    def probe(self, job: Job[GreetParameters], claim: GreetClaim, host: Host) -> Probe:
        return Done(self._greeted(claim)) if claim.pid in GREETED else NotDone()

    def _greeted(self, claim: GreetClaim) -> Report:
        condition = PostCondition("greeted", holds=True)
        return self.report(
            Outcome.COMPLETED, "greeted", "it was greeted", outputs=self.outputs_of(claim), post_condition=condition
        )
'''

ITS_LINE = """
from more_actions.greet_process import GreetProcess
from workers.actions import CATALOGUE as OWN

CATALOGUE = (*OWN, GreetProcess())
"""


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sequence[AnyAction]]:
    package = tmp_path / "more_actions"
    package.mkdir()
    (package / "greet_process.py").write_text(ACTION)
    (package / "__init__.py").write_text(ITS_LINE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("more_actions").CATALOGUE
    for name in [each for each in sys.modules if each.partition(".")[0] == "more_actions"]:
        del sys.modules[name]


def settings(catalogue: Sequence[AnyAction], **section: Any) -> ResponseActions:
    """What the node of a settings file has."""
    raw = {
        "kafka": {"bootstrap_servers": "kafka-1:9093"},
        "keys": {"private_key": "/etc/douse/node.key", "keyset": "/etc/douse/keyset.json"},
        "features": {"respond": {"response_actions": {"greet_process": section}}},
    }
    return parse(node_settings(catalogue), raw).actions


def bench_of(catalogue: Sequence[AnyAction], **section: Any) -> NodeBench:
    return NodeBench(settings=settings(catalogue, **section), catalogue=catalogue)


def send(bench: NodeBench, **parameters: Any) -> ActionCommand:
    """A signed command."""
    command = bench.command("greet_process", number=77, parameters=parameters)
    bench.send(command)
    return command


def test_its_switch_and_section_are_keys_of_a_node_s_settings(catalogue: Sequence[AnyAction]) -> None:
    assert settings(catalogue).allows("greet_process")
    assert settings(catalogue, most_a_minute=60).of("greet_process").model_dump() == {
        "trigger": "ALL",
        "timeout": None,
        "most_a_minute": 60,
    }
    with pytest.raises(ConfigError) as caught:
        settings(catalogue, most_a_minute=61, triger="NONE")
    place = "features.respond.response_actions.greet_process"
    assert {problem[0] for problem in caught.value.problems} == {f"{place}.most_a_minute", f"{place}.triger"}
    with pytest.raises(ConfigError, match="unknown key"):
        settings(CATALOGUE)


def test_a_node_runs_it(catalogue: Sequence[AnyAction]) -> None:
    bench = bench_of(catalogue, most_a_minute=60)
    command = send(bench, loud="true")
    bench.settle()
    claimed, ended = bench.results(command.command_id)
    assert (claimed.stage, claimed.outputs) == (Stage.CLAIMED, {"pid": 77, "words": "HELLO"})
    assert (claimed.configuration["trigger"], claimed.configuration["most_a_minute"]) == ("ALL", 60)
    assert (ended.outcome, ended.code) == (Outcome.COMPLETED, "greet_process_success_greeted")
    assert ended.outputs == {"pid": 77, "words": "HELLO"}
    bench.heartbeat.step()
    bench.settle()
    assert "greet_process" in bench.heartbeats()[-1].actions
    assert bench.heartbeats()[-1].node_id == NODE


def test_a_node_that_has_it_switched_off_rejects_it(catalogue: Sequence[AnyAction]) -> None:
    bench = bench_of(catalogue, trigger="none")
    command = send(bench)
    bench.settle()
    assert bench.results(command.command_id)[-1].code == "greet_process_error_disabled"


def test_a_node_that_died_at_its_failpoint_reads_its_claim_and_probes(catalogue: Sequence[AnyAction]) -> None:
    bench = bench_of(catalogue)
    command = send(bench)
    (point,) = catalogue[-1].failpoints
    bench.failpoints.arm(point)
    with pytest.raises(Crash):
        bench.settle()
    bench.restart()
    bench.settle()
    ended = bench.results(command.command_id)[-1]
    assert (ended.outcome, ended.cause, ended.outputs["words"]) == (Outcome.COMPLETED, "unproven", "hello")


def test_a_node_refuses_what_its_parameters_do_not_allow(catalogue: Sequence[AnyAction]) -> None:
    bench = bench_of(catalogue)
    commands = [send(bench, loud="perhaps"), send(bench, quiet=True)]
    bench.settle()
    codes = [bench.results(command.command_id)[-1].code for command in commands]
    assert codes == ["greet_process_error_invalid_parameters"] * 2


def test_both_apis_show_it_and_take_a_request_for_it(catalogue: Sequence[AnyAction]) -> None:
    gateway = FakeGateway(catalogue=catalogue)
    row = gateway.get("/api/v1/actions/greet_process").json()
    assert row == next(
        each for each in gateway.get("/api/v1/actions?all=1").json()["data"] if each["name"] == row["name"]
    )
    assert (row["summary"], [each["name"] for each in row["parameters"]]) == ("Say hello to a process", ["loud"])
    published = gateway.get("/secure/response-actions/v1alpha1/actions").json()
    assert "GREET_PROCESS" in {each["type"] for each in published["data"]}
    asked = {"action": "greet_process", "host": NODE, "target": {"process": {"pid": 77}}, "reason": "manners"}
    answer = gateway.post("/api/v1/executions", json=asked)
    assert answer.status_code == 201, answer.text
    assert gateway.requests()[-1].steps[0].action == "greet_process"


def test_rules_may_name_it_and_the_doctor_and_the_document_know_it(catalogue: Sequence[AnyAction]) -> None:
    assert privileges_and_mounts(catalogue)["greet_process"] == (("AUDIT_WRITE",), ("/dev/log",))
    document = actions_document(catalogue)
    assert "## greet_process" in document
    assert "It does not answer." in document
    rule = {
        "rules": [{"name": "manners", "match": {"rules": ["A miner runs"]}, "steps": [{"action": "greet_process"}]}]
    }
    assert parse_rules({"rules.yaml": rule}, action_shapes(catalogue)).every
    with pytest.raises(ConfigError):
        parse_rules({"rules.yaml": rule}, action_shapes())
