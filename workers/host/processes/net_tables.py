"""/proc/<pid>/net's tables of sockets: which socket an inode is, in the network namespace of that process.

Called by ``snapshot``. Pure parsing, a line at a time: the tables are as long as the namespace has sockets.
"""

import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final

from workers.domain.targets.process_snapshot import OpenSocket
from workers.host.processes.procfs import readable

_TCP_STATES: Final = (
    *("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT"),
    *("LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"),
)
"""By number, as in include/net/tcp_states.h."""
_UNIX_STATES: Final = {"01": "UNCONNECTED", "02": "CONNECTING", "03": "CONNECTED", "04": "DISCONNECTING"}
_UNIX_TYPES: Final = {"0001": "stream", "0002": "dgram", "0005": "seqpacket"}
_LISTENS: Final = 0x10000
"""__SO_ACCEPTCON."""

Parse = Callable[[str, bytes], OpenSocket | None]


def _internet(protocol: str, line: bytes) -> OpenSocket | None:
    words = line.decode("ascii", "replace").split()
    if len(words) < 10 or not words[0].endswith(":"):
        return None
    number = int(words[3], 16)
    state = _TCP_STATES[number] if protocol.startswith("tcp") and number < len(_TCP_STATES) else words[3]
    return OpenSocket(int(words[9]), protocol, state, _address(words[1]), _address(words[2]))


def _unix(protocol: str, line: bytes) -> OpenSocket | None:
    words = line.removesuffix(b"\n").split(None, 7)
    if len(words) < 7 or not words[0].endswith(b":"):
        return None
    flags, kind, state = (word.decode("ascii", "replace") for word in words[3:6])
    shown = "LISTEN" if int(flags, 16) & _LISTENS else _UNIX_STATES.get(state, state)
    path = readable(words[7]) if len(words) > 7 else ""
    return OpenSocket(int(words[6]), f"{protocol} {_UNIX_TYPES.get(kind, kind)}", shown, path, "")


def _packet(protocol: str, line: bytes) -> OpenSocket | None:
    words = line.decode("ascii", "replace").split()
    if len(words) < 9 or words[0] == "sk":
        return None
    return OpenSocket(int(words[8]), protocol, "", f"protocol {words[3]}, interface {words[4]}", "")


def _netlink(protocol: str, line: bytes) -> OpenSocket | None:
    words = line.decode("ascii", "replace").split()
    if len(words) < 10 or words[0] == "sk":
        return None
    return OpenSocket(int(words[9]), protocol, "", f"family {words[1]}, port {words[2]}", "")


TABLES: Final[Mapping[str, Parse]] = {
    **dict.fromkeys(("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6"), _internet),
    "unix": _unix,
    "packet": _packet,
    "netlink": _netlink,
}
"""The tables that are searched, in this order."""


def parsed(table: str, line: bytes) -> OpenSocket | None:
    """The socket of one line of a table; None for its header, and for what is no such line."""
    try:
        return TABLES[table](table, line)
    except (ValueError, struct.error, OSError):
        return None


def _address(text: str) -> str:
    """``0100007F:0016`` to ``127.0.0.1:22``: the kernel prints addresses as numbers of this machine's byte order."""
    address, _, port = text.partition(":")
    raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    if len(raw) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, raw)}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]:{int(port, 16)}"
