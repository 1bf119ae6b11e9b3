"""A way to the broker for a worker in a network namespace of its own, which can be cut.

Used by `test_broker_faults.py`; run as a program it is the inner end. Inside, the broker's own address on loopback is
listened on; a unix socket, which knows nothing of network namespaces, leads out. Cutting both ways takes its loopback
down: packets vanish, nobody is told, connections hang, as when a cable is pulled. Cutting one way lets nothing more
through in that direction; it arrives, late, when the cut is mended, as TCP would have it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.components import require

_CHUNK = 65_536


class Way(Enum):
    """Which way nothing gets through."""

    BOTH = "both ways"
    OUT = "from the worker"
    IN = "to the worker"


class Tunnel:
    """Use as a context manager; `prefix` goes before the command line of whoever lives inside."""

    def __init__(self, port: int, directory: Path) -> None:
        require("root", "a network namespace needs root")
        for program in ("unshare", "nsenter", "ip"):
            require(program, "it makes and enters network namespaces")
        self._port = port
        self._path = directory / "tunnel.sock"
        self._open = {way: threading.Event() for way in (Way.OUT, Way.IN)}
        self._let_through()

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=_serve, args=(self._listener, _tcp(self._port), self._open), daemon=True).start()
        inner = ["unshare", "--net", sys.executable, "-m", "tests.e2e.tunnel", str(self._port), str(self._path)]
        self._inside = subprocess.Popen(inner, stdout=subprocess.PIPE)
        assert self._inside.stdout is not None
        assert self._inside.stdout.readline() == b"ready\n"
        self.prefix = ("nsenter", "--net", "--target", str(self._inside.pid), "--")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside.kill()
        self._inside.wait()
        if self._inside.stdout is not None:
            self._inside.stdout.close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._let_through()

    def cut(self, way: Way = Way.BOTH) -> None:
        """From now on nothing gets through that way."""
        if way is Way.BOTH:
            self._loopback("down")
        else:
            self._open[way].clear()

    def mend(self) -> None:
        """The cable is back."""
        self._loopback("up")
        self._let_through()

    def _let_through(self) -> None:
        for way in self._open.values():
            way.set()

    def _loopback(self, state: str) -> None:
        subprocess.run([*self.prefix, "ip", "link", "set", "lo", state], check=True)


def _tcp(port: int) -> tuple[int, object]:
    return socket.AF_INET, ("127.0.0.1", port)


def _serve(
    listener: socket.socket, onward: tuple[int, object], ways: Mapping[Way, threading.Event] | None = None
) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.socket(onward[0])
        try:
            far.connect(onward[1])  # type: ignore[arg-type]
        except OSError:
            near.close()
            far.close()
            continue
        threading.Thread(target=_join, args=(near, far, ways or {}), daemon=True).start()


def _join(near: socket.socket, far: socket.socket, ways: Mapping[Way, threading.Event]) -> None:
    with near, far:
        outward = threading.Thread(target=_pump, args=(near, far, ways.get(Way.OUT)), daemon=True)
        outward.start()
        _pump(far, near, ways.get(Way.IN))
        outward.join()


def _pump(source: socket.socket, sink: socket.socket, way: threading.Event | None) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            if way is not None:
                way.wait()
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """The inner end."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(64)
    threading.Thread(target=_serve, args=(listener, (socket.AF_UNIX, sys.argv[2])), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
