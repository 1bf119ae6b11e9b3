"""The command line against a real server on loopback with fakes behind it: what it prints, and how it ends."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.fakes.clock import START_NS
from tests.fakes.codec import FakeCodec
from tests.fakes.gateway import TOKEN, FakeGateway
from tests.stories import NODE, OTHER_NODE, Story, event, heartbeat
from tests.unit.test_gateway_acquired import CONTENT, acquired
from workers.cli import main
from workers.cli.client import Client
from workers.cli.context import Context
from workers.cli.exits import Exit
from workers.cli.run import followed, waiting_text
from workers.domain.node_state import COPYING, Progress
from workers.domain.outcome import NEVER_SEEN, Outcome, code
from workers.domain.result import ActionResult
from workers.domain.targets.custody import object_key
from workers.domain.trust.keyset import KeyRole

FALCO = Path(__file__).parents[1] / "data" / "falco-events.jsonl"


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error."""
        (line,) = self.err.splitlines()
        assert line.startswith("douse: ")
        assert "Traceback" not in self.err
        return line


Douse = Callable[..., Ended]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FakeGateway, str]]:
    """One gateway for all: a test brings its own ids."""
    gateway = FakeGateway()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(gateway.app, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield gateway, f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def gateway(served: tuple[FakeGateway, str]) -> FakeGateway:
    return served[0]


@pytest.fixture
def douse(
    served: tuple[FakeGateway, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Douse:
    """Run a command with the gateway's address in the environment."""
    monkeypatch.setenv("DOUSE_URL", served[1])
    monkeypatch.setenv("DOUSE_TOKEN", TOKEN)

    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Ended(int(str(ended.value.code)) if ended.value.code is not None else 0, captured.out, captured.err)

    return run


def test_run_requests_the_action_and_prints_its_execution(gateway: FakeGateway, douse: Douse) -> None:
    ended = douse(
        *("run", "kill_process", "--host", "web-1", "--reason", "it looked wrong"),
        *("pid=4711", "start_time_ns=1900000000000000001", "ancestor=1", "-o", "json"),
    )
    assert ended.code == Exit.OK
    execution = json.loads(ended.out)
    assert execution["stage"] == "REQUESTED"
    request = gateway.requests()[-1]
    assert request.steps[0].execution_id == execution["id"]
    assert request.steps[0].parameters == {"ancestor": "1"}
    assert request.reason == "it looked wrong"


def test_run_by_event_needs_neither_host_nor_target(gateway: FakeGateway, douse: Douse) -> None:
    stored = event(1)
    with gateway.history.begin() as tx:
        tx.put_event(stored, payload=FakeCodec().encode(stored))
    ended = douse("run", "kill_process", "--event", stored.event_id, "--reason", "x")
    assert ended.error.startswith(f"douse: event {stored.event_id} names no process: event lacks proc.pid")
    assert ended.code == Exit.USAGE


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.COMPLETED, Exit.OK),
        (Outcome.NO_ACTION, Exit.OK),
        (Outcome.DRY_RUN, Exit.OK),
        (Outcome.REJECTED, Exit.REFUSED),
        (Outcome.FAILED, Exit.FAILED),
        (Outcome.EXPIRED, Exit.FAILED),
    ],
)
def test_wait_follows_to_the_outcome_and_ends_with_its_class(
    gateway: FakeGateway, douse: Douse, outcome: Outcome, code: Exit
) -> None:
    story = Story(number=list(Outcome).index(outcome) + 100)
    gateway.history.put(*story.whole(outcome))
    words = ("run", "kill_process", "pid=4711", "--host", story.host, "--reason", "r", "--key", outcome, "--wait")
    ended = douse(*words, "--timeout", "0.05")
    assert ended.code == Exit.FAILED
    assert "not ended after 0.05 s" in ended.err
    gateway.history.put(*_continued(gateway, outcome))
    again = douse(*words)
    assert again.code == code
    assert str(outcome) in again.out
    assert again.err == ""


def test_wait_is_patient_with_a_history_that_lacks_what_was_accepted_a_moment_ago() -> None:
    requested = {"id": "e", "stage": "REQUESTED", "outcome": None}
    answers = iter(
        [(404, {"message": "there is no execution 'e'"})] * 2 + [(200, {**requested, "outcome": "COMPLETED"})]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        code, body = next(answers)
        return httpx.Response(code, json=body)

    with httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(answer)) as http:
        stored = followed(Client(http, Context("http://gateway", "token")), requested, 60)
        assert stored["outcome"] == "COMPLETED"
    with httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(lambda _: httpx.Response(404))) as http:
        assert followed(Client(http, Context("http://gateway", "token")), requested, 0.01) == requested


def test_the_same_key_is_the_same_execution_and_a_run_without_one_is_always_new(douse: Douse) -> None:
    words = ("run", "kill_process", "pid=4711", "--host", "web-1", "--reason", "r", "-o", "json")
    ids = [json.loads(douse(*words, *key).out)["id"] for key in (("--key", "k"), ("--key", "k"), (), ())]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_history_narrows_pages_and_prints_one_line_a_row_in_a_pipe(gateway: FakeGateway, douse: Douse) -> None:
    gateway.history.put(*(result for number in range(450) for result in Story(number, host="pages").whole()))
    rows = json.loads(douse("history", "--host", "pages", "--limit", "420", "-o", "json").out)
    assert len(rows) == 420
    assert len({row["id"] for row in rows}) == 420
    lines = douse("history", "--host", "pages", "--limit", "3").out.splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:3] == ["REQUESTED", "AT", "ID"]
    assert json.loads(douse("history", "--host", "nobody", "-o", "json").out) == []


def test_history_and_events_have_a_first_moment_and_an_end(gateway: FakeGateway, douse: Douse) -> None:
    stories = [Story(number, host="timed") for number in range(7100, 7110)]
    gateway.history.put(*(result for story in stories for result in story.whole()))
    events = [replace(event(number), host="timed", occurred_at_ns=Story(number).at_ns) for number in range(7100, 7110)]
    with gateway.history.begin() as tx:
        for each in events:
            tx.put_event(each, payload=FakeCodec().encode(each))
    bounds = ("--host", "timed", "--from", str(stories[3].at_ns), "--to", str(stories[6].at_ns), "-o", "json")
    assert [row["id"] for row in json.loads(douse("history", *bounds).out)] == [
        story.id for story in reversed(stories[3:6])
    ]
    assert [row["id"] for row in json.loads(douse("events", *bounds).out)] == [
        each.event_id for each in reversed(events[3:6])
    ]


def test_a_wait_for_a_target_that_was_never_there_ends_as_not_found(gateway: FakeGateway, douse: Douse) -> None:
    words = ("run", "kill_process", "pid=4711", "--host", "web-1", "--reason", "r", "--key", "never", "--wait")
    assert douse(*words, "--timeout", "0.05").code == Exit.FAILED
    *steps, ended = _continued(gateway, Outcome.NO_ACTION)
    gateway.history.put(*steps, replace(ended, code=code("kill_process", Outcome.NO_ACTION, NEVER_SEEN)))
    assert douse(*words).code == Exit.NOT_FOUND


def test_show_prints_everything_about_one_execution(gateway: FakeGateway, douse: Douse) -> None:
    story = Story(7000, host="web-7")
    gateway.history.put(*story.whole())
    shown = douse("show", story.id).out
    assert "kill_process" in shown
    assert "COMPLETED" in shown
    stages = [line.split()[1] for line in shown.splitlines() if line.startswith("2030")]
    assert stages == ["REQUESTED", "DISPATCHED", "CLAIMED", "ENDED"]
    whole = json.loads(douse("show", story.id, "-o", "json").out)
    assert len(whole["steps"]) == 4


def test_show_says_what_undid_an_execution_and_whether_it_can_be_undone(gateway: FakeGateway, douse: Douse) -> None:
    pause, kill = Story(7800, host="web-8", action="pause_container"), Story(7801, host="web-8")
    undo = Story(7802, host="web-8", action="unpause_container", actor="carol", undo_of=pause.id)
    gateway.history.put(*pause.whole(effect_holds=True), *kill.whole())
    shown = douse("show", pause.id).out
    assert "in place" in shown
    assert re.search(r"^can be undone +yes$", shown, re.MULTILINE)
    assert re.search(r"^can be undone +no: kill_process cannot be undone$", douse("show", kill.id).out, re.MULTILINE)
    gateway.history.put(*undo.whole())
    shown = douse("show", pause.id).out
    assert "in place" not in shown
    assert re.search(rf"^can be undone +no: it was undone by {undo.id}$", shown, re.MULTILINE)
    assert re.search(rf"^undone by +{undo.id}, requested by carol: COMPLETED 2030", shown, re.MULTILINE)
    assert "COMPLETED (undone)" in douse("history", "--host", "web-8").out


def test_what_an_attacker_wrote_cannot_move_the_cursor(gateway: FakeGateway, douse: Douse) -> None:
    with gateway.history.begin() as tx:
        evil = event(2, rule="evil \x1b[2J\x07 rule", host="evil")
        tx.put_event(evil, payload=FakeCodec().encode(evil))
    shown = douse("events", "--host", "evil").out
    assert "\x1b" not in shown
    assert "evil" in shown


def test_contained_nodes_actions_and_health_print_the_gateways_answers(gateway: FakeGateway, douse: Douse) -> None:
    story, already = Story(8000, action="suspend_process"), Story(8002, action="suspend_process")
    gateway.history.put(*story.whole(effect_holds=True), *already.whole(Outcome.NO_ACTION, effect_holds=True))
    with gateway.history.begin() as tx:
        tx.put_node(heartbeat(1), payload=FakeCodec().encode(heartbeat(1)), verified=True, folded_at_ns=START_NS)
    listed = {line.split()[1]: line for line in douse("contained").out.splitlines() if "suspend" in line}
    assert listed[story.id].rstrip().endswith("yes")
    assert (
        listed[already.id]
        .rstrip()
        .endswith("no: it ended NO_ACTION: Douse has changed nothing that an undo could take back")
    )
    shown = douse("nodes", "--host", "web-1").out
    assert NODE in shown
    assert "kill_process" not in shown, "a line of the table is for people: how many actions, not which"
    assert "kill_process" in douse("actions").out
    assert "drawbacks" in douse("actions", "KILL_PROCESS").out
    assert json.loads(douse("health", "-o", "json").out)["ready"] is True


def test_nodes_as_json_shows_the_progress_of_uploads(gateway: FakeGateway, douse: Douse) -> None:
    story = Story(8001)
    state = replace(heartbeat(2), gathering=(Progress(story.id, 5, 9),))
    with gateway.history.begin() as tx:
        tx.put_node(state, payload=FakeCodec().encode(state), verified=True, folded_at_ns=START_NS)
    (row,) = json.loads(douse("nodes", "--host", NODE, "-o", "json").out)
    assert row["gathering"] == [{"execution_id": story.id, "step": "upload", "done": 5, "size": 9}]


def test_how_far_a_gathering_is_shows_in_nodes_show_and_a_wait_that_is_over(gateway: FakeGateway, douse: Douse) -> None:
    story = Story(8002, action="file_acquire", node_id=OTHER_NODE)
    gateway.history.put(story.requested(), story.dispatched(), story.claimed())
    state = replace(
        heartbeat(3),
        node_id=OTHER_NODE,
        host_names=("web-9",),
        gathering=(Progress(story.id, 50_000_000, 200_000_000, COPYING),),
    )
    with gateway.history.begin() as tx:
        tx.put_node(state, payload=FakeCodec().encode(state), verified=True, folded_at_ns=START_NS)
    shown = douse("show", story.id).out
    assert re.search(r"^progress +copy 25 % of 200.0 MB$", shown, re.MULTILINE)
    progress = json.loads(douse("show", story.id, "-o", "json").out)["progress"]
    assert progress == {"execution_id": story.id, "step": "copy", "done": 50_000_000, "size": 200_000_000}
    assert f"{story.id[-8:]} copy 25 %" in re.sub(r"\s+", " ", douse("nodes", "--host", OTHER_NODE).out)
    gateway.history.put(story.ended())
    assert json.loads(douse("show", story.id, "-o", "json").out)["progress"] is None


def test_what_waits_says_how_far_it_is() -> None:
    progress = {"step": "upload", "done": 5_000_000, "size": 0}
    assert waiting_text({"id": "x", "progress": progress}) == "waiting for x: upload 5.0 MB"
    assert waiting_text({"id": "x", "progress": None}) == waiting_text({"id": "x"}) == "waiting for x"


def test_undo_of_an_irreversible_action_is_refused_with_the_reason(gateway: FakeGateway, douse: Douse) -> None:
    story = Story(9000)
    gateway.history.put(*story.whole())
    ended = douse("undo", story.id)
    assert ended.code == Exit.REFUSED
    assert ended.error.startswith("douse: kill_process cannot be undone; context ")


def test_cancel_writes_a_request_and_refuses_what_has_ended(gateway: FakeGateway, douse: Douse) -> None:
    story = Story(9001)
    gateway.history.put(story.requested(), story.dispatched())
    assert douse("cancel", story.id, "--reason", "a mistake").code == Exit.OK
    assert gateway.requests()[-1].subject == story.id
    assert gateway.requests()[-1].reason == "a mistake"
    gateway.history.put(story.dispatched(), story.claimed(), story.ended())
    assert douse("cancel", story.id).error.startswith("douse: it has already ended: COMPLETED; context ")


def test_events_are_submitted_from_a_file_and_from_standard_input(
    gateway: FakeGateway, douse: Douse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(gateway.events())
    assert douse("event", "submit", str(FALCO)).code == Exit.OK
    with FALCO.open() as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        accepted = json.loads(douse("event", "submit", "-", "-o", "json").out)
    assert len(accepted) == 4
    assert len(gateway.events()) == before + 8


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "no-such-id"], Exit.NOT_FOUND, "no execution"),
        (["actions", "dance"], Exit.NOT_FOUND, "kill_process"),
        (["run", "dance", "--reason", "x", "--host", "h", "pid=1"], Exit.USAGE, "kill_process"),
        (["run", "kill_process", "--reason", "x", "--host", "h"], Exit.USAGE, "target or an event_id"),
        (["run", "kill_process", "--reason", "x", "--host", "h", "pid"], Exit.USAGE, "KEY=VALUE"),
        (["run", "kill_process", "--reason", "x", "--host", "h", "pid=x"], Exit.USAGE, "pid=x"),
        (["run", "kill_process", "--reason", "x", "--host", "h", "pid=1", "a=b"], Exit.USAGE, "no parameter 'a'"),
        (["run", "kill_process", "--reason", "x", "--host", "h", "path=/x"], Exit.USAGE, "acts on a process"),
        (["run", "kill_process", "--reason", "x", "--host", "h", "pid=1", "--for", "soon"], Exit.USAGE, "--for"),
        (["run", "kill_process", "--reason", "x", "--host", "h", "pid=1", "--for", "5m"], Exit.USAGE, "be undone"),
        (["run", "isolate_network", "--reason", "x", "--host", "h", "network=web"], Exit.USAGE, "hex digits"),
        (["run", "isolate_network", "--reason", "x", "--host", "h", "pid=1"], Exit.USAGE, "acts on a network"),
        (["run", "kill_process", "--host", "h"], Exit.USAGE, "--reason"),
        (["history", "--outcome", "MAYBE"], Exit.USAGE, "outcome is one of"),
        (["history", "--since", "yesterday"], Exit.USAGE, "since"),
        (["history", "--from", "yesterday"], Exit.USAGE, "from"),
        (["history", "--to", "2030-01-01"], Exit.USAGE, "to must be"),
        (["history", "--since", "1h", "--from", "2030-01-01T00:00:00Z"], Exit.USAGE, "not both"),
        (["events", "--since", "1h", "--from", "2030-01-01T00:00:00Z"], Exit.USAGE, "not both"),
        (["history", "--limit", "x"], Exit.USAGE, "--limit"),
        (["event", "submit", "/no/such/file"], Exit.USAGE, "/no/such/file"),
        (["event", "submit", __file__], Exit.USAGE, "line 1"),
        (["tail", "results", "--data", "/no/such/dir"], Exit.USAGE, "--config"),
        (["tail", "nonsense"], Exit.USAGE, "nonsense"),
        (["history", "rebuild", "--data", "/no/such/dir"], Exit.USAGE, "--config"),
        (["keys", "show", "--keyset", "/no/such/file"], Exit.USAGE, "/no/such/file"),
        (["keys", "init", "/tmp", "--node", "x=y"], Exit.USAGE, "NAME=NODE_ID"),
        (["nodes", "--data", "/no/such/dir"], Exit.USAGE, "douse up"),
        (["nonsense"], Exit.USAGE, "nonsense"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(douse: Douse, arguments: list[str], code: Exit, words: str) -> None:
    ended = douse(*arguments)
    assert words in ended.error
    assert ended.code == code
    assert ended.out == ""


def test_a_wrong_token_a_dead_gateway_and_a_foreign_server_have_different_errors(
    douse: Douse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUSE_TOKEN", "wrong")
    ended = douse("nodes")
    assert (ended.code, ended.error) == (Exit.REFUSED, "douse: this token is not known here")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("DOUSE_URL", f"http://127.0.0.1:{port}")
    ended = douse("nodes")
    assert ended.code == Exit.UNREACHABLE
    assert "does not answer" in ended.error
    monkeypatch.setenv("DOUSE_URL", "nonsense://nowhere")
    assert douse("nodes").code in (Exit.USAGE, Exit.UNREACHABLE)


def test_topics_schemas_and_keys_need_no_gateway(douse: Douse, tmp_path: Path) -> None:
    assert "response.results" in douse("topics", "list").out
    assert "| `response.results`" in douse("topics", "readme").out
    assert json.loads(douse("topics", "asyncapi").out)["asyncapi"] == "3.0.0"
    assert douse("schemas", "check").code == Exit.OK
    assert douse("keys", "init", str(tmp_path / "keys"), "--node", f"web-1={NODE}").code == Exit.OK
    shown = json.loads(douse("keys", "show", "--keyset", str(tmp_path / "keys" / "keyset.json"), "-o", "json").out)
    assert {key["role"] for key in shown["keys"]} == {role.value for role in KeyRole}
    assert "not empty" in douse("keys", "init", str(tmp_path / "keys")).error


def test_keys_are_added_renewed_rotated_and_revoked_without_a_gateway(douse: Douse, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert douse("keys", "init", str(keys), "--node", f"web-1={NODE}").code == Exit.OK

    def change(*words: str) -> str:
        answer = douse("keys", *words, "--keys", str(keys))
        assert answer.code == Exit.OK, answer
        return str(answer.out)

    def listed() -> list[dict[str, Any]]:
        shown = json.loads(douse("keys", "show", "--keyset", str(keys / "keyset.json"), "-o", "json").out)
        return list(shown["keys"])

    assert "keyset version 2" in change("add", "web-2", "--node", "b" * 32)
    assert "keyset version 3" in change("add", "gateway-2", "--role", "gateway")
    assert "valid for 400 days" in change("renew", "--days", "400")
    before = (keys / "web-1.key").read_bytes()
    assert "web-1.key is a new key" in change("rotate", "web-1", "--overlap", "0")
    assert (keys / "web-1.key").read_bytes() != before
    (second,) = (key["key_id"] for key in listed() if key["owner"] == "b" * 32)
    assert "keyset version 6" in change("revoke", second, "--since", "2026-01-31T12:00:00Z")
    (now,) = (key for key in listed() if key["key_id"] == second)
    assert (now["revoked"], now["revoked_since"]) == (True, "2026-01-31T12:00:00Z")
    for wrong in (["add", "x"], ["add", "../x", "--node", NODE], ["revoke", second, "--since", "yesterday"]):
        assert douse("keys", *wrong, "--keys", str(keys)).code == Exit.USAGE
    assert douse("keys", "revoke", "0" * 32, "--keys", str(keys)).code != Exit.OK


def test_the_access_rules_are_printed_as_kafkas_own_commands(douse: Douse) -> None:
    shown = douse("topics", "acls", "--bootstrap-server", "kafka:9092", "--command-config", "my admin.properties")
    assert shown.code == Exit.OK
    lines = shown.out.splitlines()
    login = "kafka-acls.sh --bootstrap-server kafka:9092 --command-config 'my admin.properties' --add --allow-principal"
    assert f"{login} User:dispatcher --operation Write --topic response.commands.default" in lines
    assert f"{login} User:responder --operation Read --group douse-responder" in lines
    writers = [line for line in lines if line.endswith("--operation Write --topic response.commands.default")]
    assert len(writers) == 1
    generations = "--operation Write --resource-pattern-type prefixed --topic response.commands.default.g"
    assert f"{login} User:dispatcher {generations}" in lines
    assert len(set(lines)) == len(lines)


def test_with_several_zones_a_node_is_allowed_its_own_zones_commands_only(douse: Douse) -> None:
    lines = douse("topics", "acls", "--zone", "east", "--zone", "west").out.splitlines()
    readers = [line for line in lines if "--operation Read --topic response.commands." in line]
    assert [(line.split("User:")[1].split()[0], line.split()[-1]) for line in readers] == [
        ("node-east", "response.commands.east"),
        ("node-west", "response.commands.west"),
    ]
    assert "a zone is lower-case" in douse("topics", "acls", "--zone", "East;rm").error


def _continued(gateway: FakeGateway, outcome: Outcome) -> list[ActionResult]:
    """The node's steps for the newest request."""
    request = gateway.requests()[-1]
    given = (Story(1).dispatched(), Story(1).ended(outcome))
    return [replace(each, execution_id=request.steps[0].execution_id) for each in given]


def test_the_command_line_imports_no_library_that_only_some_command_needs() -> None:
    dear = "httpx rich pydantic msgspec fastapi sqlalchemy confluent_kafka cryptography docker minio workers.ports"
    program = f"import sys, workers.cli; print(*[name for name in {dear.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- downloads -------------------------------------------------------------------------------------------------------


def test_a_download_is_the_file_verified_for_its_owner_alone(
    gateway: FakeGateway, douse: Douse, tmp_path: Path
) -> None:
    story = acquired(gateway, number=900)
    target = tmp_path / "evidence"
    ended = douse("download", story.id, "-o", str(target))
    assert ended.code == Exit.OK, ended.err
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o600
    assert "verified" in ended.out
    assert [each.name for each in tmp_path.iterdir()] == ["evidence"]


def test_without_a_name_a_download_is_called_as_its_execution(
    gateway: FakeGateway, douse: Douse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = acquired(gateway, number=901, path="/tmp/../../etc/passwd")
    monkeypatch.chdir(tmp_path)
    assert douse("download", story.id).code == Exit.OK
    assert [each.name for each in tmp_path.iterdir()] == [story.id]


def test_a_download_replaces_a_file_only_with_force(gateway: FakeGateway, douse: Douse, tmp_path: Path) -> None:
    story = acquired(gateway, number=902)
    target = tmp_path / "mine"
    target.write_bytes(b"mine")
    ended = douse("download", story.id, "-o", str(target))
    assert ended.code == Exit.USAGE
    assert "exists" in ended.error
    assert target.read_bytes() == b"mine"
    assert douse("download", story.id, "-o", str(target), "--force").code == Exit.OK
    assert target.read_bytes() == CONTENT
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_what_is_not_what_was_acquired_leaves_no_file(gateway: FakeGateway, douse: Douse, tmp_path: Path) -> None:
    story = acquired(gateway, number=903)
    gateway.objects.objects[object_key(story.node_id, story.id)] = bytes(len(CONTENT))
    ended = douse("download", story.id, "-o", str(tmp_path / "x"))
    assert ended.code == Exit.FAILED
    assert "broke off" in ended.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"), [(("no-such-id",), Exit.NOT_FOUND), (("{id}", "-o", "/nonexistent/x"), Exit.FAILED)]
)
def test_a_download_that_fails_names_the_reason(
    gateway: FakeGateway, douse: Douse, arguments: tuple[str, ...], code: Exit
) -> None:
    story = acquired(gateway, number=904)
    ended = douse("download", *(each.format(id=story.id) for each in arguments))
    assert ended.code == code
    assert ended.error


def test_an_execution_that_acquired_nothing_has_nothing_to_download(
    gateway: FakeGateway, douse: Douse, tmp_path: Path
) -> None:
    story = Story(number=905)
    gateway.history.put(*story.whole())
    ended = douse("download", story.id, "-o", str(tmp_path / "x"))
    assert ended.code == Exit.NOT_FOUND
    assert "acquired no file" in ended.error
    assert list(tmp_path.iterdir()) == []
