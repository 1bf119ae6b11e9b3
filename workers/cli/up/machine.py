"""One machine, running: broker, keys, settings and workers, ready when the node's first heartbeat is in history.

Called by ``douse up`` and ``douse demo``. Owns the embedded broker, which lives and dies with this process.
"""

import errno
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx

from workers.cli.up.data_dir import COMMAND_PARTITIONS, ROLES, DataDir, Start
from workers.cli.up.supervisor import Supervisor
from workers.domain.errors import ConfigError, InUse
from workers.system.ports import StopSignal
from workers.wiring import one_machine

READY_S = 60.0
"""Far above what a start takes (a few seconds), for machines under load."""
MEGABYTE = 1024 * 1024
NEEDED_BYTES = 64 * MEGABYTE
"""Free space at a start: fresh stores, logs, and what the stores keep in reserve."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine whose workers run."""

    data: DataDir
    start: Start
    supervisor: Supervisor


@contextmanager
def running(
    data: DataDir, port: int, *, report: Callable[[str], None], stop: StopSignal, unsigned_events: bool = False
) -> Iterator[Machine]:
    """Start everything, and stop it on exit. ``unsigned_events``: believe what is on Falco's own topic.

    Raises:
        ConfigError: the data directory or the port is in use, a worker refuses its settings, or nothing is ready
            within ``READY_S``.
    """
    with data.locked():
        _check_space(data.root)
        port = _free_port(port)
        node_id = one_machine.one_machine_keys(data.keys)
        with one_machine.embedded_broker({"default": COMMAND_PARTITIONS}) as servers:
            start = Start(servers, str(uuid.uuid4()), node_id, port, data.token(), unsigned_events)
            data.write(start)
            supervisor = Supervisor(data, ROLES)
            try:
                supervisor.start()
                _await_ready(start, supervisor, report, stop)
                supervisor.ready = True
                yield Machine(data, start, supervisor)
            finally:
                supervisor.stop()


def _check_space(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < NEEDED_BYTES:
        raise ConfigError(
            f"{root}: {free // MEGABYTE} MB are free, and at least {NEEDED_BYTES // MEGABYTE} MB are needed; "
            "make room, or choose another --data"
        )


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            kind = InUse if error.errno == errno.EADDRINUSE else ConfigError
            raise kind(f"port {wanted} cannot be used: {error.strerror}; choose another with --port") from None
        return int(probe.getsockname()[1])


def _await_ready(start: Start, supervisor: Supervisor, report: Callable[[str], None], stop: StopSignal) -> None:
    deadline = time.monotonic() + READY_S
    headers = {"Authorization": f"Bearer {start.token}"}
    with httpx.Client(base_url=start.url, headers=headers, timeout=5.0) as client:
        while time.monotonic() < deadline and not stop.is_set():
            for line in supervisor.step():
                report(line)
            if _is_known(client, start.node_id):
                return
            stop.wait(0.05)
    if stop.is_set():
        return
    logs = supervisor.data.log("gateway").parent
    raise ConfigError(f"not ready after {READY_S:g} s: history has no heartbeat of the node; see {logs}")


def _is_known(client: httpx.Client, node_id: str) -> bool:
    try:
        answer = client.get(f"/api/v1/nodes/{node_id}")
    except httpx.TransportError:
        return False
    return answer.status_code == HTTPStatus.OK
