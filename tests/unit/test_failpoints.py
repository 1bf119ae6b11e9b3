"""Failpoints act exactly where and when they are armed, and do nothing otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fakes.failpoints import Crash, FakeFailpoints
from workers.domain.errors import ConfigError, PermanentFailure
from workers.system.failpoints import KILLED, failpoints


def test_an_empty_environment_arms_nothing() -> None:
    failpoints({}).reach("node.claim.before_commit")
    failpoints({"DOUSE_FAILPOINTS": " "}).reach("node.claim.before_commit")


def test_an_armed_place_raises_once_at_its_pass() -> None:
    armed = failpoints({"DOUSE_FAILPOINTS": "node.execute.before=raise:2"})
    armed.reach("node.execute.before")
    armed.reach("node.execute.after")
    with pytest.raises(PermanentFailure) as caught:
        armed.reach("node.execute.before")
    assert caught.value.reason == "failpoint"
    armed.reach("node.execute.before")


def test_kill_ends_the_process_without_running_anything_else() -> None:
    program = (
        "from workers.system.failpoints import failpoints\n"
        "armed = failpoints({'DOUSE_FAILPOINTS': 'relay.sent=kill:2, node.execute.before=raise'})\n"
        "armed.reach('relay.sent'); print('once', flush=True)\n"
        "try:\n    armed.reach('relay.sent')\nfinally:\n    print('handler ran', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (KILLED, "once\n")


@pytest.mark.parametrize(
    "spec", ["node.execute.before", "a.b=exit", "a.b=kill:0", "a.b=kill:-1", "a.b=kill,", "nodot=kill", "a.b=kill:x"]
)
def test_a_spec_that_cannot_be_read_is_refused_by_name(spec: str) -> None:
    with pytest.raises(ConfigError, match="DOUSE_FAILPOINTS"):
        failpoints({"DOUSE_FAILPOINTS": spec})


def test_the_fake_raises_at_the_nth_pass_from_arming_and_remembers_every_pass() -> None:
    fake = FakeFailpoints()
    fake.reach("a.b")
    fake.arm("a.b", nth=2)
    fake.reach("a.b")
    with pytest.raises(Crash):
        fake.reach("a.b")
    fake.reach("a.b")
    assert fake.passes == ["a.b"] * 4
