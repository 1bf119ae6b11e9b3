"""Which sockets are found, and which are trusted: none that another user could have created."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from workers.host.containers.sockets import RuntimeSocket, find_sockets

STRANGER = 65_534


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    with ExitStack() as opened:

        def made(name: str) -> Path:
            path = tmp_path / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            listening = opened.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(path))
            listening.listen()
            return path

        yield made


def sockets(tmp_path: Path, *globs: str) -> list[RuntimeSocket]:
    return list(find_sockets(globs, root=tmp_path))


def test_an_own_socket_in_own_directories_is_trusted(tmp_path: Path, listen: Callable[[str], Path]) -> None:
    path = listen("run/docker.sock")
    assert sockets(tmp_path, "/run/docker.sock") == [RuntimeSocket(str(path), trusted=True)]


def test_globs_find_each_socket_once_whatever_it_is_also_called(tmp_path: Path, listen: Callable[[str], Path]) -> None:
    one, two = listen("run/docker.sock"), listen("run/user/1000/podman/podman.sock")
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to(tmp_path / "run")
    (tmp_path / "run/dangling.sock").symlink_to("nothing")
    (tmp_path / "run/file.sock").write_text("no socket")
    found = sockets(tmp_path, "/var/run/docker.sock", "/run/*.sock", "/run/*/*/podman/podman.sock", "/nowhere/*")
    assert [at.path for at in found] == [str(one), str(two)]


def test_one_without_a_listener_is_trusted_and_of_no_use(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "docker.sock"))
    (found,) = sockets(tmp_path, "/docker.sock")
    assert (found.trusted, found.listening, found.why) == (True, False, "no process listens")


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_one_in_a_directory_that_others_may_write_to_is_not_trusted(
    tmp_path: Path, listen: Callable[[str], Path], mode: int
) -> None:
    path = listen("run/docker.sock")
    path.parent.chmod(mode)
    (found,) = sockets(tmp_path, "/run/docker.sock")
    assert not found.trusted
    assert "written to by others" in found.why


def test_in_a_sticky_directory_an_own_socket_cannot_be_replaced(tmp_path: Path, listen: Callable[[str], Path]) -> None:
    path = listen("run/docker.sock")
    path.parent.chmod(0o1777)
    assert sockets(tmp_path, "/run/docker.sock")[0].trusted


@pytest.mark.parametrize("owned", ["run", "run/docker.sock"])
def test_one_of_another_user_or_in_that_users_directory_is_not_trusted(
    tmp_path: Path, listen: Callable[[str], Path], require: Callable[..., None], owned: str
) -> None:
    require("root", "only root gives files away")
    listen("run/docker.sock")
    os.chown(tmp_path / owned, STRANGER, STRANGER)
    (found,) = sockets(tmp_path, "/run/docker.sock")
    assert not found.trusted
    assert f"belongs to user {STRANGER}" in found.why


def test_one_that_another_user_listens_on_is_not_trusted(tmp_path: Path, require: Callable[..., None]) -> None:
    require("root", "only root becomes another user")
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        os.seteuid(STRANGER)
        try:
            bound.listen()  # the peer that SO_PEERCRED names is whoever called listen
        finally:
            os.seteuid(0)
        (found,) = sockets(tmp_path, "/docker.sock")
    assert not found.trusted
    assert f"user {STRANGER} listens" in found.why


ENDS = """
import os, socket, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
if os.fork():
    os._exit(0)  # whoever listens from now on has another pid
os.close(1)
time.sleep(60)
"""


def test_one_with_a_listener_that_has_ended_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    subprocess.run([sys.executable, "-c", ENDS, str(path)], check=True, stdout=subprocess.DEVNULL)
    try:
        (found,) = sockets(tmp_path, "/docker.sock")
        assert not found.trusted
        assert "has ended" in found.why
    finally:
        for each in Path("/proc").iterdir():
            if each.name.isdigit() and str(path).encode() in _command_line(each):
                os.kill(int(each.name), signal.SIGKILL)


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
