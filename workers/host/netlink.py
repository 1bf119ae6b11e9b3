"""Netlink: sockets, messages and attributes, for every family that is used here.

Called by ``processes.fine_start`` (generic netlink, taskstats) and ``network.links`` (rtnetlink). Our own, because
pyroute2 0.9 takes 120 ms and 370 modules to import, and more than twice as long for one request. Numbers are the
kernel's own (uapi headers).
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

ROUTE: Final = 0
GENERIC: Final = 16
"""Families: NETLINK_ROUTE, NETLINK_GENERIC."""

_REQUEST: Final = 0x1
_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_NESTED: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_DATAGRAM: Final = 1 << 17
_NOTHING_THERE: Final = frozenset({0, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP})


def open_socket(family: int, *, timeout_s: float | None = None) -> socket.socket:
    """A socket to the kernel, in the caller's present network namespace. Raises ``OSError``."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    made.bind((0, 0))
    made.settimeout(timeout_s)
    return made


def request(kind: int, body: bytes, *, flags: int = _REQUEST) -> bytes:
    """One message to the kernel."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def answer(netlink: socket.socket) -> bytes:
    """The body of the one message that answers a request; empty for an error. Raises ``OSError``."""
    kind, body = next(messages(netlink.recv(_DATAGRAM)), (_ERROR, b""))
    return b"" if kind == _ERROR else body


def dump(netlink: socket.socket, kind: int, body: bytes) -> list[bytes]:
    """The bodies of all messages of a dump, read to its end: what is left unread would answer the next request.

    Raises ``OSError``; a dump of what is not there, or not known to this kernel, is empty.
    """
    netlink.send(request(kind, body, flags=_DUMP))
    bodies: list[bytes] = []
    while True:
        for found, content in messages(netlink.recv(_DATAGRAM)):
            if found == _DONE:
                return bodies
            if found == _ERROR:
                number = -struct.unpack_from("=i", content)[0]
                if number in _NOTHING_THERE:
                    return bodies
                raise OSError(number, os.strerror(number))
            bodies.append(content)


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of one datagram, type and body; what is cut off ends them."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, position)
        if length < _HEADER.size or position + length > len(data):
            return
        yield kind, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of a request."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message, kind and value; what is cut off ends them."""
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size or position + length > len(data):
            return
        yield kind & _NESTED, data[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
