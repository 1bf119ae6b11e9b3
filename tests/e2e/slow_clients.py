"""A process without a token that opens connections and lets the gateway wait: `python -m tests.e2e.slow_clients`.

Arguments: port, how many connections, from how many addresses of loopback, and which part of a request to send. It
opens each connection again that the gateway closes, and prints the number once all were opened for the first time.
"""

from __future__ import annotations

import errno
import resource
import selectors
import socket
import sys
import time
from contextlib import suppress
from typing import Final

PARTS: Final = {
    "nothing": b"",
    "half a header": b"POST /api/v1/executions HTTP/1.1\r\nHost: gateway\r\nX-Half: ",
    "half a body": b"POST /api/v1/executions HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n{",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "no reading": b"GET /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n" * 20,
}
REOPENED_A_ROUND: Final = 100
ROUND_S: Final = 0.1


def attack(port: int, count: int, addresses: int, part: bytes) -> None:
    """Until killed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    events = selectors.DefaultSelector()
    opened = 0
    while True:
        for _ in range(min(REOPENED_A_ROUND if opened >= count else count, count - len(events.get_map()))):
            connection = _connect(port, f"127.0.1.{opened % addresses + 1}", part)
            if connection is not None:
                events.register(connection, selectors.EVENT_READ)
            opened += 1
            if opened == count:
                print(count, flush=True)
        ends = time.monotonic() + ROUND_S
        while (left := ends - time.monotonic()) > 0:
            for key, _ in events.select(left):
                if part == PARTS["no reading"] or _still_open(key.fileobj):
                    if part == PARTS["no reading"]:
                        time.sleep(0.01)
                    continue
                events.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]


def _connect(port: int, address: str, part: bytes) -> socket.socket | None:
    connection = socket.socket()
    connection.setblocking(False)
    with suppress(OSError):
        connection.bind((address, 0))
        if connection.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS):
            if part:
                for _ in range(100):
                    with suppress(BlockingIOError):
                        connection.send(part)
                        break
                    time.sleep(0.001)
            return connection
    connection.close()
    return None


def _still_open(connection: object) -> bool:
    assert isinstance(connection, socket.socket)
    try:
        return bool(connection.recv(65536))
    except BlockingIOError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    attack(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), PARTS[sys.argv[4]])
