"""`douse demo` and `douse up` as a person runs them: as a process, twice, killed, and without root."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.components import require
from tests.e2e.victim_processes import VictimProcesses, facts_of
from workers.cli.exits import Exit
from workers.cli.up.data_dir import ROLES, DataDir
from workers.system.yaml_files import read_mapping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DOUSE = [sys.executable, "-m", "workers"]
REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534
# May read everything, because interpreter and repository may lie in root's home; may do nothing else that root may.
AS_NOBODY = (
    "setpriv",
    *("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--no-new-privs"),
    *("--bounding-set", "-all,+dac_read_search"),
    *("--inh-caps", "-all,+dac_read_search"),
    *("--ambient-caps", "-all,+dac_read_search"),
)
WAIT_S = 60.0


def demo(home: Path, prefix: Sequence[str] = ()) -> tuple[str, float]:
    """The demo's words and its seconds, once it has ended with 0."""
    began = time.monotonic()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*prefix, *DOUSE, "demo"],
        cwd=home,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "✗" not in done.stdout
    held = re.search(r"(\d+) of (\d+) checks held", done.stdout)
    assert held is not None
    assert held[1] == held[2]
    assert not list(home.glob("douse-demo-*")), "the demo left something behind"
    return done.stdout, seconds


def figures(text: str) -> str:
    """What the demo measured."""
    return " | ".join(line.strip() for line in text.splitlines() if "event to dead" in line or "checks held" in line)


def test_the_demo_holds_and_takes_less_than_a_minute(tmp_path: Path) -> None:
    output, seconds = demo(tmp_path)
    print(f"\ndemo, {seconds:.1f} s: {figures(output)}")
    assert seconds < 60


def test_the_demo_needs_no_root() -> None:
    require("root", "only root can become another user")
    require("setpriv", "it drops root's privileges")
    home = Path(tempfile.mkdtemp(prefix="douse-nobody-"))
    try:
        os.chown(home, NOBODY, NOBODY)
        output, seconds = demo(home, AS_NOBODY)
        print(f"\ndemo as nobody, {seconds:.1f} s: {figures(output)}")
        assert seconds < 60
    finally:
        shutil.rmtree(home)


class Up:
    """A running `douse up`."""

    def __init__(self, data: Path) -> None:
        self.data = DataDir(data)
        self.process = subprocess.Popen(
            [*DOUSE, "up", "--data", str(data), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("rules:"):
                break
        assert self.lines[-1].startswith("rules:"), "".join(self.lines)
        context = read_mapping(self.data.context)
        self.node_id = context["node_id"]
        headers = {"Authorization": f"Bearer {context['token']}"}
        self.client = httpx.Client(base_url=context["url"], headers=headers, timeout=30)

    def pids(self) -> dict[str, int]:
        """Every worker's process id."""
        return {role: int(self.data.pid(role).read_text()) for role in ROLES}

    def line_with(self, words: str) -> str:
        """The next line that it prints with these words."""
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if words in line)

    def alive(self, role: str) -> bool:
        """Whether a worker runs."""
        return Path(f"/proc/{self.data.pid(role).read_text().strip()}").exists()

    def kill(self, pid: int) -> dict[str, Any]:
        """Ask for a kill and follow it to its end."""
        target = {"process": {"pid": pid, "start_time_ns": facts_of(pid).started_at_ns}}
        body = {"action": "kill_process", "host": self.node_id, "target": target, "reason": "test"}
        requested = self.client.post("/api/v1/executions", json=body)
        requested.raise_for_status()
        deadline = time.monotonic() + WAIT_S
        while True:
            found = self.execution(requested.json()["id"])
            if found.get("stage") == "ENDED" and found["outcome"] != "UNKNOWN":
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def execution(self, execution_id: str) -> dict[str, Any]:
        """The execution in history; an error's body until history has it."""
        found: dict[str, Any] = self.client.get(f"/api/v1/executions/{execution_id}").json()
        return found

    def close(self) -> None:
        """Whatever happened, nothing stays."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(WAIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def processes() -> Iterator[VictimProcesses]:
    with VictimProcesses() as made:
        yield made


def gone(pid: int) -> bool:
    """Whether a process that is not our child has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except FileNotFoundError:
        return True


def until_gone(pids: dict[str, int], within_s: float) -> float:
    """Until none of them runs; the seconds it took."""
    began = time.monotonic()
    while left := [role for role, pid in pids.items() if not gone(pid)]:
        assert time.monotonic() - began < within_s, f"still there: {left}"
        time.sleep(0.02)
    return time.monotonic() - began


def test_up_twice_on_one_data_keeps_history_and_sigterm_stops_everything(
    data: Path, processes: VictimProcesses
) -> None:
    first = Up(data)
    try:
        done = first.kill(processes.spawn())
        assert done["outcome"] == "COMPLETED"
        workers = first.pids()
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(WAIT_S) == 0
        assert not [role for role, pid in workers.items() if not gone(pid)]
    finally:
        first.close()
    second = Up(data)
    try:
        assert second.node_id == first.node_id
        kept = second.execution(done["id"])
        assert (kept["outcome"], kept["steps"]) == ("COMPLETED", done["steps"])
        assert second.kill(processes.spawn())["outcome"] == "COMPLETED"
    finally:
        second.close()


def test_the_first_containments_of_the_readme(data: Path) -> None:
    """By hand and by an alert, with the files that the README names."""
    examples = REPOSITORY / "deploy" / "examples"
    assert all(f"deploy/examples/{path.name}" in (REPOSITORY / "README.md").read_text() for path in examples.iterdir())
    (data / "config").mkdir(parents=True)
    shutil.copy(examples / "rule.yaml", data / "config" / "rules.yaml")
    up = Up(data)
    try:
        with VictimProcesses() as victims:
            by_hand = victims.spawn()
            words = ["--host", os.uname().nodename, f"pid={by_hand}", "--reason", "first containment", "--wait"]
            subprocess.run([*DOUSE, "run", "kill_process", *words, "--data", str(data)], check=True)
            by_alert = subprocess.Popen(["sleep", "1000"])
            alert = subprocess.run(
                ["sh", str(examples / "alert.sh"), str(by_alert.pid)], check=True, capture_output=True
            ).stdout
            subprocess.run([*DOUSE, "event", "submit", "-", "--data", str(data)], input=alert, check=True)
            assert by_alert.wait(WAIT_S) == -signal.SIGKILL
    finally:
        up.close()


def test_a_broken_rule_keeps_only_its_responder_from_starting(data: Path) -> None:
    up = Up(data)
    try:
        good = up.data.rules.read_text()
        up.data.rules.write_text("rules:\n- name: x\n  mtch: {}\n")
        os.kill(int(up.data.pid("responder").read_text()), signal.SIGTERM)
        line = up.line_with("responder cannot start")
        assert "rules[0].mtch: unknown key" in line
        with VictimProcesses() as victims:
            words = ["--host", os.uname().nodename, f"pid={victims.spawn()}", "--reason", "the rest works", "--wait"]
            subprocess.run([*DOUSE, "run", "kill_process", *words, "--data", str(data)], check=True)
        up.data.rules.write_text(good)
        deadline = time.monotonic() + WAIT_S
        while not up.alive("responder"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        up.close()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["up", "--port", "99999"], Exit.USAGE, "--port"),
        (["up", "--port", "-1"], Exit.USAGE, "--port"),
        (["up", "--data", ""], Exit.USAGE, "--data is empty"),
        (["nodes", "--data="], Exit.USAGE, "--data is empty"),
    ],
)
def test_what_cannot_be_started_is_one_line_and_leaves_nothing(
    tmp_path: Path, words: list[str], code: Exit, complaint: str
) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*DOUSE, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert complaint in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_token_that_cannot_be_sent_is_not_printed(tmp_path: Path) -> None:
    environment = {**os.environ, "DOUSE_URL": "http://127.0.0.1:9", "DOUSE_TOKEN": "se\ncret"}
    done = subprocess.run(
        [*DOUSE, "nodes"], env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.returncode == Exit.USAGE
    assert "cret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    require("unshare", "a small filesystem of its own, in a mount namespace of its own")
    script = 'mount -t tmpfs -o size=6m none "$1" && exec "$2" -m workers up --port 0 --data "$1/data"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "-", str(tmp_path), sys.executable],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (Exit.USAGE, 1), done.stderr
    assert re.search(r"data: \d MB are free, and at least 64 MB are needed", done.stderr)


def test_a_second_up_on_the_same_data_is_refused_in_one_line(data: Path) -> None:
    first = Up(data)
    try:
        refused = subprocess.run(
            [*DOUSE, "up", "--data", str(data), "--port", "0"],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        lines = [line for line in refused.stderr.splitlines() if line.strip()]
        assert refused.returncode == Exit.BUSY
        assert len(lines) == 1, refused.stderr
        assert "in use by another douse" in lines[0]
        assert first.client.get("/api/v1/health").json()["ready"]
    finally:
        first.close()


def test_a_killed_worker_is_started_again_and_a_killed_supervisor_leaves_no_process(
    data: Path, processes: VictimProcesses
) -> None:
    up = Up(data)
    try:
        before = up.pids()
        for role in ("node", "dispatcher", "projector"):
            os.kill(before[role], signal.SIGKILL)
        began = time.monotonic()
        done = up.kill(processes.spawn())
        took = time.monotonic() - began
        assert done["outcome"] == "COMPLETED"
        after = up.pids()
        changed = {role for role in ROLES if before[role] != after[role]}
        assert changed == {"node", "dispatcher", "projector"}
        up.process.kill()
        up.process.wait()
        left_s = until_gone(after, WAIT_S)
        print(f"\nthree killed: a new command ended within {took:.1f} s; supervisor killed: all gone in {left_s:.1f} s")
    finally:
        up.close()
