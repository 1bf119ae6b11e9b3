"""Which interfaces a network namespace has, and which programs on them carry packets past its rules.

Called by ``namespace`` with a netlink socket that was made inside the namespace. XDP programs and filters of tc run
before the rules get a packet (and after, on its way out), and may send it on by themselves: Cilium's and Calico's eBPF
data paths work so. Reads only. Numbers are the kernel's own (uapi headers).
"""

import ctypes
import platform
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from workers.host.netlink import attributes, dump

_GETLINK: Final = 18
_GETTFILTER: Final = 46
_IFNAME, _XDP, _XDP_ATTACHED = 3, 43, 2
_TCA_KIND, _TCA_OPTIONS = 1, 2
_LOOPBACK: Final = 0x8
_PARENTS: Final = (0xFFFFFFF2, 0xFFFFFFF3, 0xFFFF0000)
"""The parents of filters before and after the rules: clsact's two ends, and the older ingress."""
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


def links(netlink: socket.socket) -> list[Link]:
    """Every interface of the socket's namespace. Raises ``OSError``."""
    return [link_in(body) for body in dump(netlink, _GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]


def filtering(netlink: socket.socket, link: Link) -> str:
    """What tc does there that bypasses rules; empty for nothing. Raises ``OSError``."""
    for parent in _PARENTS:
        for body in dump(netlink, _GETTFILTER, _TCMSG.pack(0, 0, link.index, 0, parent, 0)):
            found = filter_in(body)
            if found:
                return found
    return ""


def attached(link: Link) -> str:
    """What is attached there without a filter, where the kernel shows it (since 6.6). For a thread in the namespace."""
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
            xdp = any(inner == _XDP_ATTACHED and bool(mode[:1].strip(b"\0")) for inner, mode in attributes(value))
    return Link(index, name, bool(flags & _LOOPBACK), xdp)


def filter_in(body: bytes) -> str:
    """The program or redirection in one message of a dump of filters; empty for a filter that only sorts packets."""
    found = dict(attributes(body[_TCMSG.size :]))
    options = found.get(_TCA_OPTIONS, b"")
    if found.get(_TCA_KIND, b"").startswith(b"bpf\0") or b"bpf\0" in options:
        return "an eBPF program (tc)"
    return "a redirection (tc mirred)" if b"mirred\0" in options else ""


def bypass(netlink: socket.socket, inside: Callable[[Callable[[], str]], str]) -> str:
    """What carries packets past the rules, and on which interface; empty for nothing. Raises ``OSError``."""
    for link in links(netlink):
        if link.loopback:
            continue
        found = "an eBPF program (XDP)" if link.xdp else filtering(netlink, link)
        found = found or inside(lambda link=link: attached(link))  # type: ignore[misc]
        if found:
            return f"{found} on {link.name}"
    return ""
