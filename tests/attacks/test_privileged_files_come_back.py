"""A setuid file, and one with capabilities, goes in through a real node process and comes out again as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_process import NodeSite, embedded_broker
from tests.quarantined_files import file_state
from workers.domain.outcome import Outcome
from workers.domain.target import FileTarget

CAPABILITY = "security.capability"
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw=ep, as setcap writes it."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as broker, NodeSite(tmp_path / "node", broker) as made:
        made.start()
        yield made


@pytest.mark.parametrize("kind", ["setuid", "setgid", "capability"])
def test_an_undo_brings_a_privileged_file_back_with_everything_it_had(
    kind: str, site: NodeSite, tmp_path: Path, require: Callable[..., Any]
) -> None:
    require("root", "only root may make such a file")
    path = tmp_path / "files" / "ping"
    path.parent.mkdir()
    shutil.copy("/bin/sleep", path)
    os.chown(path, 0, 1234)
    path.chmod({"setuid": 0o4755, "setgid": 0o2755}.get(kind, 0o755))
    if kind == "capability":
        os.setxattr(path, CAPABILITY, NET_RAW)
    before = file_state(path)

    taking = site.kill(0, action="file_quarantine", target=FileTarget(bytes(path), site.clock.now_ns()))
    site.send(taking)
    taken = site.ended(taking.command_id)
    assert taken.outcome is Outcome.COMPLETED, taken
    assert list(path.parent.iterdir()) == []

    undoing = site.kill(0, action="file_unquarantine", target=None, undo_of=taking.command_id)
    site.send(undoing)
    back = site.ended(undoing.command_id)
    assert back.outcome is Outcome.COMPLETED, back
    assert file_state(path) == before
    assert path.stat().st_mode & 0o7777 == {"setuid": 0o4755, "setgid": 0o2755}.get(kind, 0o755)
    assert (CAPABILITY in os.listxattr(path)) is (kind == "capability")
    assert [entry.name for entry in path.parent.iterdir()] == ["ping"]
