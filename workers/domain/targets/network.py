"""What an isolated network may still reach, and the facts about an isolation that exists. Pure.

Made by the settings (the operator's list) and by the adapter behind the port ``Network`` (brokers, object store …);
written into rules there; kept in the journal as text by the actions on networks.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from workers.domain.ids import ExecutionId

IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_ALLOWED: Final = 256
"""Entries of an operator's list: each is a rule that every packet may pass."""

TRIAL_S: Final = 20
"""How long an unconfirmed isolation lasts, in seconds: twice the time that its test takes at worst."""

CONNECT_S: Final = 4.0
"""How long a fresh connection may take: a lost SYN is sent again after 1 s and after 3."""

_ENTRY: Final = re.compile(r"(?:\[(?P<inner>[^\[\]]+)\]|(?P<bare>[^\[\]]+?))(?P<port>:[0-9]{1,5})?")
_BETWEEN: Final = ", "


class Purpose(StrEnum):
    """Why something stays reachable."""

    KAFKA = "kafka"
    """Commands come from there and results go there: without it the network could not be released again."""
    STORE = "store"
    NAMES = "names"
    """The DNS servers, where one of the others is known by name only."""
    API_SERVER = "api_server"
    """The kubelet's: a node without contact to it has its pods evicted."""
    OPERATOR = "operator"
    """It is on the operator's own list."""


class Protocol(StrEnum):
    """Of a lifeline."""

    TCP = "tcp"
    UDP = "udp"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Lifeline:
    """Something that an isolated network may still reach."""

    purpose: Purpose
    network: IpNetwork
    port: int = 0
    """To which connections may be opened; 0 is everything, in both directions."""
    protocol: Protocol = Protocol.TCP

    def __str__(self) -> str:
        """As the journal and people read it: ``kafka tcp 10.0.0.7/32 9092``."""
        return f"{self.purpose} {self.protocol} {self.network} {self.port}"

    @property
    def address(self) -> str:
        """Its only address; empty where it has several."""
        return str(self.network.network_address) if self.network.num_addresses == 1 else ""

    def covers(self, address: str, port: int) -> bool:
        """Whether packets to there are let through."""
        return ipaddress.ip_address(address) in self.network and self.port in (0, port)


Lifelines: TypeAlias = tuple[Lifeline, ...]


@dataclass(frozen=True, slots=True)
class Isolation:
    """One isolation, as it is to be."""

    made_by: ExecutionId
    """Written into its rules, so that its origin can be seen."""
    lifelines: Lifelines
    keeps_address: bool
    """Whether DHCP goes on: a host that loses its lease loses Kafka with it. A container's address is given to it."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """An isolation that exists in one network namespace."""

    made_by: str
    """The execution that made it; empty where its rules do not name one."""
    trial: bool
    """It is being tested, and ends by itself in a moment."""
    handle: int
    """The kernel's number of this very table: another one of the same name has another."""
    sha256: str
    """Of its rules without counters; a different digest later shows that they were changed."""


def allowed(text: str) -> Lifelines:
    """One entry of an operator's list: ``CIDR`` (everything, both ways) or ``CIDR:PORT`` (connections to that port);
    IPv6 with a port in brackets.

    Raises:
        ValueError: it is not valid, has host bits set, or allows every address.
    """
    wanted = "CIDR or CIDR:PORT, such as 10.1.2.0/24, 10.1.2.3:443 or [fd00::/8]:443"
    if text.count(":") > 1 and "[" not in text:
        network, port = text, ""
    else:
        found = _ENTRY.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not {wanted}")
        network, port = found["inner"] or found["bare"], (found["port"] or "").removeprefix(":")
    try:
        parsed = ipaddress.ip_network(network, strict=True)
    except ValueError as error:
        raise ValueError(f"{text!r} is not {wanted}: {error}") from None
    if parsed.prefixlen == 0:
        raise ValueError(f"{text!r} allows every address, which isolates nothing")
    if port and not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return (
        (
            Lifeline(Purpose.OPERATOR, parsed, int(port), Protocol.TCP),
            Lifeline(Purpose.OPERATOR, parsed, int(port), Protocol.UDP),
        )
        if port
        else (Lifeline(Purpose.OPERATOR, parsed, 0, Protocol.ANY),)
    )


def to_text(lifelines: Iterable[Lifeline]) -> str:
    """Flat enough for the journal."""
    return _BETWEEN.join(map(str, lifelines))


def from_text(text: str) -> Lifelines:
    """What ``to_text`` wrote.

    Raises:
        ValueError: it did not.
    """
    return tuple(_lifeline(part) for part in text.split(_BETWEEN) if part)


def _lifeline(text: str) -> Lifeline:
    purpose, protocol, network, port = text.split(" ")
    return Lifeline(Purpose(purpose), ipaddress.ip_network(network), int(port), Protocol(protocol))
