"""Which interfaces a network namespace has, and which programs sit on them that carry packets round its rules.

Called by ``place`` with a netlink socket that was made inside the namespace. XDP programs and filters of tc run before
the rules see a packet (and after, on its way out), and may send it on by themselves: Cilium's and Calico's eBPF data
paths live there. Reads only. Numbers are the kernel's own (uapi headers).
"""

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_GETLINK: Final = 18
_GETTFILTER: Final = 46
_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_IFNAME, _XDP, _XDP_ATTACHED = 3, 43, 2
_TCA_KIND, _TCA_OPTIONS = 1, 2
_NESTED: Final = 0x3FFF
_LOOPBACK: Final = 0x8
_PARENTS: Final = (0xFFFFFFF2, 0xFFFFFFF3, 0xFFFF0000)
"""Where filters are hung before and after the rules: clsact's two ends, and the older ingress."""
_HEADER: Final = struct.Struct("=IHHII")
_IFINFO: Final = struct.Struct("=BxHiII")
_TCMSG: Final = struct.Struct("=BxHiIII")

_BPF: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_PROG_QUERY: Final = 16
_HOOKS: Final = {46: "tcx ingress", 47: "tcx egress", 54: "netkit", 55: "netkit"}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Link:
    """One interface."""

    index: int
    name: str
    loopback: bool
    xdp: bool


def open_socket() -> socket.socket:
    """A socket to the kernel's rtnetlink, in the caller's present namespace."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    made.bind((0, 0))
    return made


def links(asked: socket.socket) -> list[Link]:
    """Every interface of the socket's namespace. Raises ``OSError``."""
    return [link_in(body) for body in _dump(asked, _GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]


def filtering(asked: socket.socket, link: Link) -> str:
    """What tc does there that rules do not see; empty for nothing. Raises ``OSError``."""
    for parent in _PARENTS:
        for body in _dump(asked, _GETTFILTER, _TCMSG.pack(0, 0, link.index, 0, parent, 0)):
            found = filter_in(body)
            if found:
                return found
    return ""


def attached(link: Link) -> str:
    """What hangs there without a filter, where the kernel tells (6.6 and later). For a thread in the namespace."""
    number = _BPF.get(platform.machine())
    for hook, name in _HOOKS.items() if number is not None else ():
        query = ctypes.create_string_buffer(struct.pack("=IIIIQI", link.index, hook, 0, 0, 0, 0), 64)
        if _libc.syscall(number, _PROG_QUERY, query, 64) == 0:
            count = struct.unpack_from("=I", query, 24)[0]
            if count:
                return f"an eBPF program ({name})"
    return ""


def link_in(body: bytes) -> Link:
    """One message of a dump of links."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    name, xdp = "", False
    for kind, value in attributes(body[_IFINFO.size :]):
        if kind == _IFNAME:
            name = value.rstrip(b"\0").decode("utf-8", "backslashreplace")
        elif kind == _XDP:
            xdp = any(inner == _XDP_ATTACHED and bool(said[:1].strip(b"\0")) for inner, said in attributes(value))
    return Link(index, name, bool(flags & _LOOPBACK), xdp)


def filter_in(body: bytes) -> str:
    """What one message of a dump of filters says: a program, or a redirection; empty for what only sorts packets."""
    found = dict(attributes(body[_TCMSG.size :]))
    options = found.get(_TCA_OPTIONS, b"")
    if found.get(_TCA_KIND, b"").startswith(b"bpf\0") or b"bpf\0" in options:
        return "an eBPF program (tc)"
    return "a redirection (tc mirred)" if b"mirred\0" in options else ""


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message, kind and value; what is cut off ends them."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & _NESTED, data[at + 4 : at + length]
        at += (length + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of one datagram, type and body; what is cut off ends them."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _dump(asked: socket.socket, kind: int, body: bytes) -> list[bytes]:
    """All of it: what is left unread would be the next question's answer."""
    asked.send(_HEADER.pack(_HEADER.size + len(body), kind, _DUMP, 1, 0) + body)
    told: list[bytes] = []
    while True:
        for found, content in messages(asked.recv(1 << 17)):
            if found == _DONE:
                return told
            if found == _ERROR:
                number = -struct.unpack_from("=i", content)[0]
                if number in (0, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):  # nothing hangs there, or cannot
                    return told
                raise OSError(number, os.strerror(number))
            told.append(content)


def describe(asked: socket.socket, inside: Callable[[Callable[[], str]], str]) -> str:
    """What carries packets round the rules, and on which interface; empty for nothing. Raises ``OSError``."""
    for link in links(asked):
        if link.loopback:
            continue
        found = "an eBPF program (XDP)" if link.xdp else filtering(asked, link)
        found = found or inside(lambda link=link: attached(link))  # type: ignore[misc]
        if found:
            return f"{found} on {link.name}"
    return ""
