"""Says whether a real component is on this machine: skip with a reason on a laptop, fail under CI.

Used by tests through the `require` fixture or by direct import. Must never let a test pass without its component.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


def require(component: str, reason: str, *, present: bool | None = None) -> None:
    """Stop the running test unless `component` is here; `reason` says what the test needs it for.

    A component is `root`, `docker` (an engine that answers), `linux`, or the name of a program on PATH; for anything
    else the caller finds out and says `present`. Skips on a laptop; fails where CI=true is in the environment.
    """
    if present is None:
        present = _PROBES.get(component, lambda: shutil.which(component) is not None)()
    if present:
        return
    message = f"{component} is not on this machine: {reason}"
    if os.environ.get("CI") == "true":
        pytest.fail(message + " (CI must have it: .ci/run)", pytrace=False)
    pytest.skip(message)


def _docker_answers() -> bool:
    path = Path("/var/run/docker.sock")
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"OK" in connection.recv(4096)
        except OSError:
            return False


_PROBES: Mapping[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "docker": _docker_answers,
    "linux": lambda: sys.platform == "linux",
}
