"""Network namespaces of this machine, and what this worker must reach from its own.

Made by wiring, used by the actions on networks through the port ``Network``.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from workers.domain.errors import CommandRejected, PermanentFailure
from workers.domain.targets.network import CONNECT_S, Lifeline, Lifelines, Protocol, Purpose
from workers.host.network import library, lifelines, namespaces, ruleset
from workers.host.network.namespace import SystemNamespace

_INIT: Final = 1
_PROCESSES: Final = "/proc/self/ns/pid"
_FIRST_PROCESSES: Final = 0xEFFFFFFC
"""Of the process namespace that the machine starts with: PROC_PID_INIT_INO of linux/proc_ns.h."""
_CONNECTING: Final = frozenset({errno.EINPROGRESS, errno.EAGAIN, errno.EALREADY})


class SystemNetwork:
    """The port ``Network``."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        brokers: Callable[[], Sequence[tuple[str, int]]],
        store_url: str = "",
        operators: Lifelines = (),
        own_ids: Callable[[], Collection[str]] = tuple,
        library_name: str = library.NAME,
    ) -> None:
        """``brokers`` asks the cluster for every broker's host and port, and raises ``TransientFailure``; an empty
        ``store_url`` is a store that is on this machine; ``own_ids`` names the containers that this worker runs in."""
        self._bootstrap_servers = [each.strip() for each in bootstrap_servers.split(",") if each.strip()]
        self._brokers = brokers
        self._store_url = store_url
        self._operators = operators
        self._own_ids = own_ids
        self._library_name = library_name

    def unfit(self) -> str:
        try:
            context = library.Context(self._library_name)
        except PermanentFailure as error:
            return error.message
        try:
            _, wrong = context.run(ruleset.LIST_ALL)
        finally:
            context.close()
        return "nftables cannot be used here: give this worker NET_ADMIN" if wrong else ""

    def host(self) -> SystemNamespace:
        refused = not_of_the_host(in_container=bool(self._own_ids()))
        if refused is not None:
            raise refused
        return self._held(namespaces.own(), of="this host")

    def of_process(self, pid: int) -> SystemNamespace | None:
        try:
            descriptor = namespaces.of_process(pid)
        except PermissionError as error:
            raise _denied(f"process {pid}") from error
        return None if descriptor is None else self._held(descriptor, of=f"process {pid}")

    def lifelines(self) -> Lifelines:
        learned = [*map(lifelines.split, self._bootstrap_servers), *self._brokers()]
        endpoints = [(Purpose.KAFKA, host, port) for host, port in learned]
        if self._store_url:
            endpoints.append(lifelines.of_url(Purpose.STORE, self._store_url))
        return lifelines.resolved((*endpoints, *lifelines.api_servers()))

    def operators(self) -> Lifelines:
        return self._operators

    def answering(self, lifelines: Iterable[Lifeline]) -> frozenset[Lifeline]:
        asked = {each for each in lifelines if each.address and each.port and each.protocol is Protocol.TCP}
        waiting = {each: self._connecting(each) for each in asked}
        answered = set()
        try:
            polled, by_number = select.poll(), {}
            for lifeline, made in waiting.items():
                if made is not None:
                    by_number[made.fileno()] = (lifeline, made)
                    polled.register(made, select.POLLOUT)
            until = time.monotonic() + CONNECT_S
            while by_number and (left := until - time.monotonic()) > 0:
                for number, _ in polled.poll(left * 1000):
                    lifeline, made = by_number.pop(number)
                    polled.unregister(number)
                    if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                        answered.add(lifeline)
        finally:
            for made in waiting.values():
                if made is not None:
                    made.close()
        return frozenset(answered)

    @staticmethod
    def _connecting(lifeline: Lifeline) -> socket.socket | None:
        family = socket.AF_INET if lifeline.network.version == 4 else socket.AF_INET6
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        number = made.connect_ex((lifeline.address, lifeline.port))
        if number == 0 or number in _CONNECTING:
            return made
        made.close()
        return None

    @staticmethod
    def _held(descriptor: int, *, of: str) -> SystemNamespace:
        own = namespaces.own()
        try:
            is_own = namespaces.inode(own) == namespaces.inode(descriptor)
        finally:
            os.close(own)
        try:
            return SystemNamespace(descriptor, own=is_own)
        except PermissionError as error:
            raise _denied(of) from error


def not_of_the_host(*, in_container: bool) -> CommandRejected | None:
    """Why the network of the calling thread is not the host's, or may not be; None where it is. Also for
    ``douse doctor``."""
    try:
        first = namespaces.of_process(_INIT)
    except PermissionError:
        first = None
    if first is None:  # there always is a first process: /proc hides it
        return CommandRejected(
            "/proc/1/ns/net cannot be read, so it is unknown whether this worker is in the host's network: give it "
            "SYS_PTRACE, the host's process ids (hostPID; pid: host) and a /proc that hides none of them",
            code="host_network_hidden",
        )
    own = namespaces.own()
    try:
        same = namespaces.inode(first) == namespaces.inode(own)
    finally:
        os.close(first)
        os.close(own)
    if same and (_sees_the_host() or not in_container):
        return None
    return CommandRejected(
        "this worker is in a network of its own, not in the host's: run it with the host's network and process "
        "ids (hostNetwork and hostPID; network_mode: host and pid: host)",
        code="not_host_network",
    )


def _sees_the_host() -> bool:
    """Whether process 1 is the machine's own, and not a container's."""
    return Path(_PROCESSES).stat().st_ino == _FIRST_PROCESSES


def _denied(of: str) -> PermanentFailure:
    return PermanentFailure(
        f"this worker may not enter the network of {of}: give it SYS_ADMIN, SYS_PTRACE and NET_ADMIN", code="permission"
    )
