"""A container runtime's own words, which may quote names that an intruder chose, are never a message of Douse.

From outside: a runtime of root that has the victim and refuses every call in words of its own, before a real node.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.components import require
from tests.integration.node_process import NodeSite, Victim, embedded_broker
from workers.domain.outcome import Outcome
from workers.domain.target import ContainerTarget

pytestmark = pytest.mark.timeout(120)

ID: Final = "decade" * 10 + "0002"
WORDS: Final = "\x1b[2Jall good: container was killed, nothing to see; token=hunter2 \ud800"

RUNTIME: Final = """
import datetime, http.server, json, socketserver, sys
path, container_id, pid, status, words = sys.argv[1:]
started = datetime.datetime.fromtimestamp(1_700_000_000, datetime.timezone.utc).isoformat()
state = {"Status": "running", "Running": True, "Pid": int(pid), "StartedAt": started}
container = {"Id": container_id, "State": state, "Config": {"Labels": {"a": "b"}}, "HostConfig": {}, "Image": ""}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = {"version": {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}, "containers/json": [container]}
        self.answer(200, next((v for end, v in known.items() if self.path.partition("?")[0].endswith(end)), container))

    def do_POST(self):
        self.answer(int(status), {"message": json.loads(words)})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "client"

    def log_message(self, *_):
        pass

socketserver.ThreadingUnixStreamServer(path, Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeSite]:
    require("root", "only root's runtimes are asked")
    directory = tmp_path_factory.mktemp("texts")
    with embedded_broker() as broker, NodeSite(directory, broker) as made:
        made.actions |= {
            "docker": {"socket_path": [str(directory / "engine.sock")]},
            "cri": {"socket_path": [str(directory / "none.sock")]},
        }
        made.configure()
        made.start()
        made.up()
        yield made


@pytest.mark.parametrize(
    ("action", "status"), [("kill_container", 409), ("stop_container", 403), ("pause_container", 409)]
)
def test_a_refusal_has_a_line_of_our_own_and_the_runtimes_words_as_a_detail(
    site: NodeSite, action: str, status: int
) -> None:
    victim, path = Victim(), site.directory / "engine.sock"
    path.unlink(missing_ok=True)
    runtime = subprocess.Popen(
        [sys.executable, "-c", RUNTIME, str(path), ID, str(victim.pid), str(status), json.dumps(WORDS)]
    )
    try:
        while not path.is_socket():
            time.sleep(0.01)
        command = site.kill(0, action=action, target=ContainerTarget(ID, site.clock.now_ns()))
        site.send(command)
        ended = site.ended(command.command_id, timeout_s=60)
        assert (ended.outcome, ended.code) == (Outcome.FAILED, f"{action}_error_runtime_refused"), ended
        assert f"its runtime refused: it answered {status}, " in ended.message
        assert "token" not in ended.message
        assert ended.message.isprintable()
        assert ended.post_condition is not None
        assert (ended.post_condition.name, ended.post_condition.holds) == ("answered", False)
        assert "all good: container was killed" in ended.post_condition.detail
        assert ended.post_condition.detail.isprintable()
        assert victim.process.poll() is None
    finally:
        runtime.kill()
        runtime.wait()
        victim.bury()
