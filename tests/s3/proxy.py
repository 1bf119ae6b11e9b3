"""A TCP proxy that breaks connections to a server: refuses, swallows, slows down, stalls or resets after so many bytes.

Used in front of the real S3 server. What a connection does is decided when it is made; `uploaded` counts what went
towards the server, which is how a test knows whether an upload was gone on with or begun anew.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class FaultyProxy:
    """Use as a context manager. Change `mode`, `reset_after`, `stall_after` and `pause_s` at will."""

    def __init__(self, port: int) -> None:
        self._onward = ("127.0.0.1", port)
        self.mode = "pass"
        """`pass`; `refuse` (a reset at once); `swallow` (nothing ever comes back)."""
        self.reset_after = 0
        """Bytes towards the server after which the next connection that gets so far is reset, once; 0 never."""
        self.stall_after = 0
        """Bytes towards the server after which nothing is passed on and no side learns it; 0 never."""
        self.pause_s = 0.0
        """Before each chunk towards the server."""
        self.uploaded = 0
        self.connections = 0
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Small, so that what a test holds back is not in this machine's buffers, where it would look sent.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * _CHUNK)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection there is."""
        with self._lock:
            for each in self._open:
                _reset(each)
            self._open.clear()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.append(near)
            if self.mode == "refuse":
                _reset(near)
            elif self.mode == "pass":
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with socket.socket() as far:
            try:
                far.connect(self._onward)
            except OSError:
                _reset(near)
                return
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            self._pump_out(near, far)
            back.join()

    def _pump_out(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(_CHUNK):
                time.sleep(self.pause_s)
                self.uploaded += len(data)
                if self.reset_after and self.uploaded >= self.reset_after:
                    self.reset_after = 0
                    _reset(near)
                    break
                while self.stall_after and self.uploaded >= self.stall_after:
                    time.sleep(0.01)
                far.sendall(data)
        with suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """End it as a crashed peer does: with RST, not FIN."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.close()
