"""Files inside containers of a real dockerd, on overlay2 as in production and on vfs, through a real node process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import DEAF, DockerRig, require_engine, until
from tests.integration.node_process import NodeSite, embedded_broker
from tests.quarantined_files import file_state
from workers.actions import FAILPOINTS
from workers.domain.command import ActionCommand
from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.outcome import Outcome
from workers.domain.result import ActionResult
from workers.domain.target import FileTarget
from workers.domain.targets.custody import custody_key
from workers.system.failpoints import KILLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MAL = b"/tmp/mal"


class OverlayRig(DockerRig):
    driver = "overlay2"


@pytest.fixture(scope="module")
def overlay_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRig]:
    require_engine("docker")
    made = OverlayRig(tmp_path_factory.mktemp("docker-files"))
    yield made
    made.close()


@pytest.fixture(params=["overlay2"])
def engine(request: pytest.FixtureRequest) -> Iterator[DockerRig]:
    name = {"overlay2": "overlay_engine", "vfs": "docker_engine"}[request.param]
    made: DockerRig = request.getfixturevalue(name)
    yield made
    made.clear()


@pytest.fixture
def site(engine: DockerRig, tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as address, NodeSite(tmp_path, address) as made:
        made.actions["docker"] = {"socket_path": [str(engine.socket)]}
        made.storage["directory"] = str(tmp_path / "objects")
        made.configure()
        yield made


def order(site: NodeSite, action: str, container_id: str, **more: Any) -> ActionCommand:
    """A person's, who names twelve digits."""
    target = FileTarget(MAL, site.clock.now_ns(), container_id[:12])
    return site.kill(0, action=action, target=target, **more)


def undo(site: NodeSite, of: ActionCommand) -> ActionCommand:
    return site.kill(0, action="file_unquarantine", target=None, undo_of=of.command_id)


def done(site: NodeSite, command: ActionCommand) -> ActionResult:
    site.send(command)
    return site.ended(command.command_id, timeout_s=60)


def inside(engine: DockerRig, container_id: str) -> Path:
    """The malware, as the host sees it."""
    return Path(f"/proc/{engine.pid(container_id)}/root{MAL.decode()}")


def infected(engine: DockerRig, **more: Any) -> tuple[str, Path]:
    container_id = engine.run(command=DEAF, **more)
    path = inside(engine, container_id)
    path.write_bytes(os.urandom(300_000))
    path.chmod(0o4751)
    path.chmod(0o751)
    os.chown(path, 1234, 42)
    os.setxattr(path, "user.note", b"kept")
    os.utime(path, ns=(1_700_000_000_000_000_001, 1_700_000_000_000_000_002))
    return container_id, path


@pytest.mark.parametrize("engine", ["overlay2", "vfs"], indirect=True)
def test_acquired_taken_and_given_back_through_a_node(engine: DockerRig, site: NodeSite, tmp_path: Path) -> None:
    container_id, path = infected(engine)
    twin, other = infected(engine)
    before = file_state(path)
    os.utime(path, ns=(1_700_000_000_000_000_001, 1_700_000_000_000_000_002))
    site.start()
    gathered = done(site, order(site, "file_acquire", container_id))
    assert gathered.outcome is Outcome.COMPLETED, gathered
    key = str(gathered.outputs["object_key"])
    assert hashlib.sha256((tmp_path / "objects" / key).read_bytes()).hexdigest() == before.content
    assert (tmp_path / "objects" / custody_key(key)).exists()

    taking = order(site, "file_quarantine", container_id)
    taken = done(site, taking)
    assert taken.outcome is Outcome.COMPLETED, taken
    assert taken.outputs["container_id"] == container_id
    assert list(path.parent.iterdir()) == []
    assert other.exists(), f"the same path of {twin[:12]} is another file"

    back = done(site, undo(site, taking))
    assert back.outcome is Outcome.COMPLETED, back
    assert file_state(path) == before
    assert [entry.name for entry in path.parent.iterdir()] == ["mal"]


def test_a_file_of_the_image_goes_and_comes_back(engine: DockerRig, site: NodeSite) -> None:
    container_id = engine.run(command=DEAF)
    path = Path(f"/proc/{engine.pid(container_id)}/root/bin/busybox")
    before = file_state(path)
    site.start()
    command = site.kill(
        0, action="file_quarantine", target=FileTarget(b"/bin/busybox", site.clock.now_ns(), container_id)
    )
    taken = done(site, command)
    assert taken.outcome is Outcome.COMPLETED, taken
    assert int(taken.outputs["mappings"]) > 0, "its init runs it"
    assert not path.exists()
    assert done(site, undo(site, command)).outcome is Outcome.COMPLETED
    after = file_state(path)
    assert (after.content, after.mode, after.mtime_ns) == (before.content, before.mode, before.mtime_ns)


@pytest.mark.parametrize("engine", ["overlay2", "vfs"], indirect=True)
def test_a_restarted_container_gets_its_file_back_and_a_removed_one_nothing(engine: DockerRig, site: NodeSite) -> None:
    container_id, path = infected(engine)
    before = file_state(path)
    site.start()
    taking = order(site, "file_quarantine", container_id)
    assert done(site, taking).outcome is Outcome.COMPLETED
    with engine.client() as client:
        client.kill(container_id)
    until(lambda: engine.state(container_id) == "exited")
    refused = done(site, undo(site, taking))
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "file_unquarantine_error_restore_container_gone")
    assert "start it" in refused.message
    engine.begin(container_id)
    back = done(site, undo(site, taking))
    assert back.outcome is Outcome.COMPLETED, back
    path = inside(engine, container_id)
    after = file_state(path)
    assert (after.content, after.mode, after.uid, after.mtime_ns) == (
        before.content,
        before.mode,
        before.uid,
        before.mtime_ns,
    )

    again = order(site, "file_quarantine", container_id)
    assert done(site, again).outcome is Outcome.COMPLETED
    engine.remove(container_id)
    refused = done(site, undo(site, again))
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "file_unquarantine_error_restore_container_gone")
    assert str(again.command_id) in refused.message


def test_a_paused_containers_files_can_be_taken(engine: DockerRig, site: NodeSite) -> None:
    container_id, path = infected(engine)
    engine.pause(container_id)
    site.start()
    assert done(site, order(site, "file_quarantine", container_id)).outcome is Outcome.COMPLETED
    assert not path.exists()


def test_a_node_that_dies_at_each_step_ends_what_it_began(engine: DockerRig, site: NodeSite) -> None:
    container_id, path = infected(engine)
    before = file_state(path)
    undo_of: ExecutionId = NO_EXECUTION
    died = 0
    site.start()
    site.up()
    for action in ("file_acquire", "file_quarantine", "file_unquarantine"):
        for point in (each for each in FAILPOINTS if each.startswith(f"{action}.")):
            if action == "file_quarantine" and not path.exists():
                back = site.kill(0, action="file_unquarantine", target=None, undo_of=undo_of)
                assert done(site, back).outcome is Outcome.COMPLETED
            if action == "file_unquarantine" and path.exists():
                take = order(site, "file_quarantine", container_id)
                assert done(site, take).outcome is Outcome.COMPLETED
                undo_of = take.command_id
            site.stop()
            process = site.start(f"{point}=kill")
            site.up()
            command = (
                site.kill(0, action=action, target=None, undo_of=undo_of)
                if action == "file_unquarantine"
                else order(site, action, container_id)
            )
            site.send(command)
            assert process.wait(60) == KILLED, point
            died += 1
            site.start()
            ended = site.ended(command.command_id, timeout_s=60)
            assert ended.outcome is Outcome.COMPLETED, (point, ended)
            if action == "file_quarantine":
                undo_of = command.command_id
                assert not path.exists(), point
            else:
                assert file_state(path).content == before.content, point
            site.up()
    assert [entry.name for entry in path.parent.iterdir()] == ["mal"]
    print(f"\nkilled at {died} steps on a file in a container: lost 0, half done 0")
