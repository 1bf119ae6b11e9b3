"""A file system that never answers: whoever looks into it is in a call that not even SIGKILL ends.

Speaks just enough of the FUSE protocol: it is mounted, takes the first look-up, and keeps it until told to answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import Final

from tests.components import require

_DEVICE: Final = Path("/dev/fuse")
_IN_HEADER: Final = struct.Struct("=IIQQIIII")
_OUT_HEADER: Final = struct.Struct("=IiQ")
_INIT_OUT: Final = struct.Struct("=IIIIHHIIHHI28x")
_INIT: Final = 26
_INTERRUPT: Final = 36
_REQUEST_BYTES: Final = 1 << 17
_DETACH: Final = 2  # MNT_DETACH


class StuckCall:
    """One mounted file system that keeps quiet."""

    def __init__(self, mountpoint: Path) -> None:
        require("root", "mounting a file system needs root")
        require("/dev/fuse", "a call that nothing interrupts is one into FUSE", present=_DEVICE.exists())
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._mountpoint = mountpoint
        self._device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if self._libc.mount(b"stuck", bytes(mountpoint), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "cannot mount FUSE")
        opcode, unique = self._take()
        assert opcode == _INIT
        self._answer(unique, _INIT_OUT.pack(7, 31, 65_536, 0, 12, 9, 65_536, 1, 16, 0, 0))
        self._waiting: list[int] = []

    @property
    def path(self) -> Path:
        """Looking at this gets stuck."""
        return self._mountpoint / "nothing"

    def take_look_up(self) -> None:
        """Take the call of whoever looks, so that it can't be withdrawn any more, and keep quiet."""
        self._waiting.append(self._take()[1])

    def let_go(self) -> None:
        """Answer at last: there is no such file."""
        for unique in self._waiting:
            os.write(self._device, _OUT_HEADER.pack(_OUT_HEADER.size, -errno.ENOENT, unique))
        self._waiting.clear()

    def close(self) -> None:
        """End it; whoever still waits gets an error."""
        self._libc.umount2(bytes(self._mountpoint), _DETACH)
        os.close(self._device)

    def _take(self) -> tuple[int, int]:
        while True:
            request = os.read(self._device, _REQUEST_BYTES)
            _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
            if opcode != _INTERRUPT:
                return opcode, unique

    def _answer(self, unique: int, body: bytes) -> None:
        os.write(self._device, _OUT_HEADER.pack(_OUT_HEADER.size + len(body), 0, unique) + body)
