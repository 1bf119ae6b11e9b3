"""One network namespace, held by its descriptor, and the two sockets that were made in it.

Made by ``system``, used by the actions on networks through the port ``NetworkNamespace``. Must never touch a table
that is not Douse's own, and removes one by the kernel's number of it, never by its name.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, TypeVar

from workers.domain.errors import PermanentFailure
from workers.domain.targets.network import Barrier, Isolation
from workers.host import netlink
from workers.host.network import links, namespaces, ruleset
from workers.host.network.library import Context

T = TypeVar("T")

_UNUSED: Final = ("192.0.2.1", "198.51.100.1", "2001:db8::1")
"""Addresses reserved for documentation (RFC 5737, RFC 3849): a packet to them that leaves does no harm."""
_DISCARD: Final = 9
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_GONE: Final = ("No such file or directory", "Could not process rule: No such")
_THERE: Final = "File exists"


class SystemNamespace:
    """One namespace."""

    def __init__(self, descriptor: int, *, own: bool, enter: Callable[[int], None] | None = None) -> None:
        """Takes ``descriptor`` over.

        Raises:
            PermissionError: the kernel does not let this worker in.
            PermanentFailure: the library is missing (``nftables``).
        """
        self._descriptor = descriptor
        self._enter = enter
        self.own = own
        with ExitStack() as opened:
            opened.callback(os.close, descriptor)
            self.namespace = namespaces.inode(descriptor)
            self._rules = self._inside(Context)
            opened.callback(self._rules.close)
            self._links = self._inside(lambda: netlink.open_socket(netlink.ROUTE))
            opened.callback(self._links.close)
            self._opened = opened.pop_all()

    def barrier(self) -> Barrier | None:
        found = self._listed()
        return found[0] if found is not None else None

    def bypass(self) -> str:
        try:
            return links.bypass(self._links, self._inside)
        except OSError as error:
            raise PermanentFailure(f"the interfaces cannot be read: {error.strerror}", code="nftables") from error

    def interfaces(self) -> Sequence[str]:
        try:
            return sorted(link.name for link in links.links(self._links) if not link.loopback)
        except OSError as error:
            raise PermanentFailure(f"the interfaces cannot be read: {error.strerror}", code="nftables") from error

    def begin(self, isolation: Isolation) -> bool:
        return self._done(ruleset.begin(isolation), unless=(_THERE,))

    def keep(self, isolation: Isolation, tried: Barrier) -> bool:
        return self._done(ruleset.keep(isolation, tried), unless=_GONE)

    def end(self, barrier: Barrier) -> bool:
        return self._done(ruleset.end(barrier), unless=_GONE)

    def blocks(self, isolation: Isolation, near: Sequence[str]) -> str:
        for address in (*near, *_UNUSED):
            if any(lifeline.covers(address, _DISCARD) for lifeline in isolation.lifelines):
                continue
            before = self._counted()
            if before is None:
                return "its rules are gone"
            answered = self._sent(address)
            if answered in _NO_ROUTE:
                continue
            if answered not in (errno.EPERM, errno.EACCES):
                return f"a packet to {address} was not refused"
            after = self._counted()
            return "" if after is not None and after > before else f"a packet to {address} was refused by other rules"
        return ""

    def close(self) -> None:
        self._opened.close()

    def _sent(self, address: str) -> int:
        """The errno with which the kernel answers one datagram; 0 for none."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            made = self._inside(lambda: socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        except OSError as error:
            return error.errno or 0
        with made:
            try:
                made.connect((address, _DISCARD))
                if _is_local(str(made.getsockname()[0]), address):
                    return errno.EHOSTUNREACH
                made.send(b"")
            except OSError as error:
                return error.errno or 0
        return 0

    def _counted(self) -> int | None:
        found = self._listed()
        return found[1] if found is not None else None

    def _listed(self) -> tuple[Barrier, int] | None:
        listing, wrong = self._rules.run(ruleset.LIST)
        if wrong:
            if any(word in wrong for word in _GONE):
                return None
            raise _refused(wrong)
        return ruleset.barrier_in(listing)

    def _done(self, commands: str, *, unless: Sequence[str]) -> bool:
        _, wrong = self._rules.run(commands)
        if wrong and not any(word in wrong for word in unless):
            raise _refused(wrong)
        return not wrong

    def _inside(self, make: Callable[[], T]) -> T:
        return namespaces.inside(self._descriptor, make, enter=self._enter)


def _is_local(source: str, address: str) -> bool:
    """Whether a packet to there never leaves this machine: loopback is open."""
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(address)
    return one == other or (one.is_loopback and other.is_loopback)


def _refused(wrong: str) -> PermanentFailure:
    return PermanentFailure("the kernel refused the rules", code="nftables", detail=wrong[:300])
