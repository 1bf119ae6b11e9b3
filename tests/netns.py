"""Network namespaces for tests: a "host" and the world that it is wired to, both made here and taken away again.

This machine's own network is never touched: whatever is isolated is a namespace of the test's own.

    with wired() as wires:
        with wires.world.entered():      # what the test's own thread makes from here on is in the world
            ...
        wires.host.make(lambda: socket.create_connection((WORLD, 80)))
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tests.components import require

T = TypeVar("T")

HOST: Final = "10.77.0.1"
WORLD: Final = "10.77.0.2"
ATTACKER: Final = "10.77.0.3"
SERVICE: Final = "10.88.0.1"
"""Nobody has this address."""
HOST6: Final = "fd77::1"
WORLD6: Final = "fd77::2"
LOOPBACK: Final = "127.0.0.1"
"""In the host it is an address of the world's: the embedded broker listens there, and the way to it is the wire."""

_CLONE_NEWNET: Final = 0x40000000
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Netns:
    """One network namespace."""

    name: str
    opened: contextlib.ExitStack
    """Closes what was made in it."""

    @property
    def path(self) -> Path:
        return Path("/run/netns") / self.name

    def run(self, *words: str) -> str:
        """A program in it; what it prints."""
        done = subprocess.run(["ip", "netns", "exec", self.name, *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def nft(self, commands: str) -> str:
        """Somebody's rules."""
        return self.run("nft", commands)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in it, and so are the threads and programs that it starts."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            assert _libc.setns(there, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            assert _libc.setns(home, _CLONE_NEWNET) == 0
            os.close(home)
            os.close(there)

    def make(self, make: Callable[[], T]) -> T:
        """What is made in it."""
        with self.entered():
            return make()

    def new_socket(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A socket of it."""
        return self.opened.enter_context(self.make(lambda: socket.socket(socket.AF_INET, kind)))

    def accepted(self, listener: socket.socket) -> socket.socket:
        """The next connection to a listener of it."""
        listener.settimeout(5)
        return self.opened.enter_context(listener.accept()[0])

    def connect(self, address: str, port: int, *, source: str = "", timeout_s: float = 1.0) -> socket.socket:
        """A fresh connection from it. Raises ``OSError``."""
        bound = (source, 0) if source else None
        made = self.make(lambda: socket.create_connection((address, port), timeout_s, bound))
        return self.opened.enter_context(made)

    def listen(self, address: str = "") -> socket.socket:
        """A listener in it, on a free port."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self.opened.enter_context(self.make(lambda: socket.create_server((address, 0), family=family)))


@dataclass(frozen=True, slots=True)
class Wires:
    """Two namespaces and the wire between them, called eth0 at both ends."""

    host: Netns
    world: Netns
    inner: Netns
    """Reaches the world through the host, as a container behind a bridge does; only where it was asked for."""


@contextlib.contextmanager
def wired(*, forwarding: bool = False) -> Iterator[Wires]:
    """Both, up and wired; ``forwarding`` makes ``inner`` too."""
    require("root", "network namespaces need it")
    for program in ("ip", "nft", "sysctl"):
        require(program, "the tests make network namespaces and look at rules")
    number = f"{os.getpid()}-{next(_numbers)}"
    opened = contextlib.ExitStack()
    host, world, inner = (Netns(f"douse-{letter}-{number}", opened) for letter in "hwi")
    made = []
    try:
        for each in (host, world, inner) if forwarding else (host, world):
            subprocess.run(["ip", "netns", "add", each.name], check=True)
            made.append(each)
        host.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", world.name)
        for each, addresses in ((host, (HOST, HOST6)), (world, (WORLD, ATTACKER, WORLD6))):
            each.run("ip", "link", "set", "lo", "up")
            each.run("ip", "link", "set", "eth0", "up")
            for address in addresses:
                bits, also = ("/64", ["nodad"]) if ":" in address else ("/24", [])
                each.run("ip", "address", "add", address + bits, "dev", "eth0", *also)
            for where in ("all", "eth0"):
                each.run("sysctl", "-qw", f"net.ipv4.conf.{where}.route_localnet=1")
        host.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
        host.run("ip", "route", "add", LOOPBACK, "via", WORLD, "src", HOST)
        host.run("ip", "route", "add", "default", "via", WORLD)
        if forwarding:
            _wire_through(host, world, inner)
        yield Wires(host, world, inner)
    finally:
        opened.close()
        for each in made:
            subprocess.run(["ip", "netns", "del", each.name], check=False)


def _wire_through(host: Netns, world: Netns, inner: Netns) -> None:
    host.run("ip", "link", "add", "inner0", "type", "veth", "peer", "name", "eth0", "netns", inner.name)
    host.run("ip", "link", "set", "inner0", "up")
    host.run("ip", "address", "add", "10.78.0.1/24", "dev", "inner0")
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    inner.run("ip", "link", "set", "eth0", "up")
    inner.run("ip", "address", "add", "10.78.0.2/24", "dev", "eth0")
    inner.run("ip", "route", "add", "default", "via", "10.78.0.1")
    world.run("ip", "route", "add", "10.78.0.0/24", "via", HOST)
