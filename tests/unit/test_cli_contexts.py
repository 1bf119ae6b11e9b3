"""Which gateway a command talks to, that its answer names it, and that a person is asked on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes.gateway import TOKEN, FakeGateway
from tests.unit.test_cli import Douse, douse, gateway, served  # noqa: F401 - fixtures
from workers.cli.exits import Exit

RUN = ("run", "kill_process", "--host", "web-1", "pid=4711", "--reason", "r")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings, who has run `douse up` on this machine."""
    for name in ("DOUSE_URL", "DOUSE_TOKEN", "DOUSE_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def local(douse: Douse, served: tuple[FakeGateway, str], home: Path) -> Path:  # noqa: F811
    """What `douse up` wrote, for the gateway of these tests."""
    data = home / ".local" / "state" / "douse"
    data.mkdir(parents=True)
    (data / "lock").touch()
    return _write(data / "context.yaml", f"url: {served[1]}\ntoken: {TOKEN}\n")


@pytest.fixture
def add(douse: Douse, served: tuple[FakeGateway, str], home: Path) -> None:  # noqa: F811
    token = _write(home / "token", TOKEN + "\n")
    assert douse("context", "add", "prod", "--url", served[1], "--token-file", str(token)).code == Exit.OK


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DOUSE_URL": "https://prod.example"}, "DOUSE_URL is set and DOUSE_TOKEN is not"),
        ({"DOUSE_TOKEN": "t"}, "DOUSE_TOKEN is set and DOUSE_URL is not"),
        ({"DOUSE_URL": "", "DOUSE_TOKEN": "t"}, "DOUSE_URL is set and empty"),
        ({"DOUSE_URL": "", "DOUSE_TOKEN": ""}, "DOUSE_URL is set and empty"),
        ({"DOUSE_URL": "https://prod.example", "DOUSE_CONTEXT": "local"}, "DOUSE_TOKEN is not"),
        ({"DOUSE_CONTEXT": ""}, "there is no context ''"),
        ({"DOUSE_CONTEXT": "prdo"}, "there is no context 'prdo'"),
    ],
)
def test_a_source_that_is_incomplete_is_an_error_and_never_another_gateway(
    gateway: FakeGateway,  # noqa: F811
    douse: Douse,  # noqa: F811
    local: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: Mapping[str, str],
    words: str,
) -> None:
    before = len(gateway.requests())
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = douse(*RUN)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert words in ended.error
    assert len(gateway.requests()) == before


@pytest.mark.usefixtures("add", "local")
def test_flag_before_environment_before_current_before_local(douse: Douse, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def used(*words: str) -> str:
        return str(json.loads(douse(*RUN, *words, "-o", "json").out)["context"])

    assert used() == "local"
    assert douse("context", "use", "prod").code == Exit.OK
    assert used() == "prod"
    assert "context: prod (http://127.0.0.1" in douse(*RUN).out
    monkeypatch.setenv("DOUSE_CONTEXT", "local")
    assert used() == "local"
    assert used("--context", "prod") == "prod"
    monkeypatch.setenv("DOUSE_URL", "https://elsewhere.invalid")
    assert used("--context", "prod") == "prod", "the flag decides all of it"
    monkeypatch.setenv("DOUSE_TOKEN", TOKEN)
    monkeypatch.delenv("DOUSE_CONTEXT")
    shown = json.loads(douse("context", "current", "-o", "json").out)
    assert shown == [
        {"name": "environment", "url": "https://elsewhere.invalid", "decided_by": "DOUSE_URL and DOUSE_TOKEN"}
    ]
    assert "not both" in douse("nodes", "--context", "prod", "--data", "/x").error


@pytest.mark.usefixtures("add")
def test_the_file_of_contexts_is_its_owners_alone(douse: Douse, home: Path) -> None:  # noqa: F811
    path = home / "config" / "douse" / "contexts.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        assert f"chmod 600 {path}" in douse("nodes", "--context", "prod").error
        assert f"chmod 600 {path}" in douse("context", "use", "prod").error
    path.chmod(0o600)
    assert douse("nodes", "--context", "prod").code == Exit.OK


def test_what_up_wrote_is_refused_too_when_others_may_read_it(douse: Douse, local: Path) -> None:  # noqa: F811
    assert douse("nodes").code == Exit.OK
    local.chmod(0o644)
    assert f"chmod 600 {local}" in douse("nodes").error


@pytest.mark.usefixtures("add", "local")
def test_contexts_are_added_listed_replaced_and_removed(douse: Douse, home: Path) -> None:  # noqa: F811
    token = str(home / "token")
    listed = douse("context", "list", "-o", "json").out
    assert [(row["name"], row["current"]) for row in json.loads(listed)] == [("local", True), ("prod", False)]
    assert TOKEN not in listed
    add = ("context", "add", "prod", "--url", "https://new.example/", "--token-file", token)
    assert "already" in douse(*add).error
    assert douse(*add, "--replace").code == Exit.OK
    assert json.loads(douse("context", "list", "-o", "json").out)[1]["url"] == "https://new.example"
    for wrong in (("local", "https://x"), ("a/b", "https://x"), ("x", "ftp://x"), ("x", "https://u:p@x"), ("x", "x")):
        assert douse("context", "add", wrong[0], "--url", wrong[1], "--token-file", token).code == Exit.USAGE
    douse("context", "use", "prod")
    assert "is the current context" in douse("context", "remove", "prod").error
    assert douse("context", "use", "nowhere").code == Exit.NOT_FOUND
    douse("context", "use", "local")
    assert douse("context", "remove", "prod").code == Exit.OK
    assert "there is no context 'prod'" in douse("nodes", "--context", "prod").error


@pytest.mark.usefixtures("add")
def test_an_error_of_a_command_that_acts_names_the_context(douse: Douse) -> None:  # noqa: F811
    assert "; context prod (http://127.0.0.1" in douse("undo", "no-such-id", "--context", "prod").error


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("pid=5", "pid=6"), "pid is given more than once"),
        (("pid=5", "tree=true", "tree=false"), "tree is given more than once"),
        (("pid=5", "--host", "b"), "--host is given more than once"),
        (("pid=5", "--reason", "x"), "--reason is given more than once"),
    ],
)
def test_what_is_given_twice_is_refused(gateway: FakeGateway, douse: Douse, words: tuple[str, ...], error: str) -> None:  # noqa: F811
    before = len(gateway.requests())
    ended = douse("run", "kill_process", "--host", "a", "--reason", "r", *words)
    assert (ended.code, ended.error) == (Exit.USAGE, f"douse: {error}")
    assert len(gateway.requests()) == before


@pytest.mark.parametrize("words", [("run", "kill_process", "--host", "a", "pid=5"), ("undo", "x"), ("cancel", "x")])
def test_an_empty_reason_is_refused(douse: Douse, words: tuple[str, ...]) -> None:  # noqa: F811
    for reason in ("", "  "):
        ended = douse(*words, "--reason", reason)
        assert ended.code == Exit.USAGE
        assert "--reason is empty" in ended.error


@pytest.mark.usefixtures("add", "local")
@pytest.mark.parametrize(
    ("more", "answer", "asked", "done"),
    [
        (("--context", "prod"), "n\n", True, False),
        (("--context", "prod"), "\n", True, False),
        (("--context", "prod"), "\x04", True, False),
        (("--context", "prod"), "\x03", True, False),
        (("--context", "prod"), "y\n", True, True),
        (("--context", "prod", "--yes"), "", False, True),
        ((), "", False, True),
    ],
)
def test_on_a_terminal_what_is_not_this_machine_is_asked(
    gateway: FakeGateway,  # noqa: F811
    more: tuple[str, ...],
    answer: str,
    asked: bool,
    done: bool,
) -> None:
    before = len(gateway.requests())
    code, screen = on_terminal(*RUN, *more, answer=answer)
    assert ("[y/N]" in screen, "NOT THIS MACHINE" in screen) == (asked, asked)
    assert (code == Exit.OK, len(gateway.requests()) - before) == (done, int(done)), screen
    assert "Traceback" not in screen
    assert done or "nothing was done" in screen


def on_terminal(*words: str, answer: str) -> tuple[int, str]:
    """Run a command on a pseudo-terminal of its own, and answer its question once it is on the screen."""
    pid, screen = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "workers", *words])
    shown, until = b"", time.monotonic() + 60
    while time.monotonic() < until:
        if not select.select([screen], [], [], 0.2)[0]:
            continue
        try:
            part = os.read(screen, 4096)
        except OSError:  # the command has closed the terminal
            break
        if not part:
            break
        shown += part
        if answer and b"[y/N] " in shown:
            time.sleep(0.1)  # until it has thrown away what was typed before
            os.write(screen, answer.encode())
            answer = ""
    else:
        os.kill(pid, 9)
    os.close(screen)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.usefixtures("add", "local")
def test_without_a_terminal_nothing_is_asked(gateway: FakeGateway) -> None:  # noqa: F811
    before = len(gateway.requests())
    command = [sys.executable, "-m", "workers", *RUN, "--context", "prod"]
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(gateway.requests()) == before + 1


def _write(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path
