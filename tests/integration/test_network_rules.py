"""What an isolation does to packets: two network namespaces, a wire between them, and the kernel's own nftables.

The isolated one is always a namespace of the test's own, never this machine's.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.components import require as require_component
from tests.netns import ATTACKER, HOST, HOST6, SERVICE, WORLD, WORLD6, Wires, wired
from workers.domain.ids import ExecutionId
from workers.domain.targets.network import TRIAL_S, Isolation, Lifeline, Lifelines, Protocol, Purpose, allowed
from workers.host.network import namespaces
from workers.host.network.namespace import SystemNamespace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ONE = ExecutionId("0199e0f7-0000-7000-8000-000000000001")


@pytest.fixture
def wires() -> Iterator[Wires]:
    with wired() as made:
        yield made


@contextlib.contextmanager
def held(wires: Wires) -> Iterator[SystemNamespace]:
    opened = SystemNamespace(os.open(wires.host.path, os.O_RDONLY), own=False)
    try:
        yield opened
    finally:
        opened.close()


def isolate(opened: SystemNamespace, lifelines: Lifelines = ()) -> Isolation:
    isolation = Isolation(ONE, lifelines, keeps_address=True)
    assert opened.begin(isolation)
    tried = opened.barrier()
    assert tried is not None
    assert opened.keep(isolation, tried)
    return isolation


def broker(address: str, port: int) -> Lifeline:
    return Lifeline(Purpose.KAFKA, ipaddress.ip_network(address), port)


def present() -> int:
    """The calling thread's namespace."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def talks(one: socket.socket, other: socket.socket, *, within_s: float = 1.5) -> bool:
    """Whether bytes sent at one end come out at the other: longer than TCP's first two retransmissions."""
    other.settimeout(within_s)
    one.send(b"x")
    try:
        return other.recv(16) != b""
    except TimeoutError:
        return False


@pytest.mark.parametrize(("here", "there"), [(HOST, WORLD), (HOST6, WORLD6)])
def test_the_broker_s_connection_goes_on_and_the_attacker_s_is_cut(wires: Wires, here: str, there: str) -> None:
    # As on every host with a firewall: the kernel knows these connections as established.
    wires.host.nft("add table inet wall; add chain inet wall in { type filter hook input priority 0; }")
    wires.host.nft("add rule inet wall in ct state established accept")
    kafka, control, shell = wires.world.listen(there), wires.world.listen(there), wires.host.listen(here)
    to_kafka = wires.host.connect(there, port_of(kafka))
    at_kafka = wires.world.accepted(kafka)
    outwards = wires.host.connect(there, port_of(control))  # a reverse shell
    at_control = wires.world.accepted(control)
    inwards = wires.world.connect(here, port_of(shell))  # a backdoor
    at_shell = wires.host.accepted(shell)
    assert talks(outwards, at_control)
    assert talks(inwards, at_shell)
    with held(wires) as opened:
        isolate(opened, (broker(there, port_of(kafka)),))
        assert talks(to_kafka, at_kafka)
        assert talks(at_kafka, to_kafka)
        assert not talks(outwards, at_control)
        assert not talks(at_control, outwards)
        assert not talks(inwards, at_shell)
        assert not talks(at_shell, inwards)
        wires.host.connect(there, port_of(kafka))
        with pytest.raises(OSError, match="timed out"):
            wires.host.connect(there, port_of(control))
        with pytest.raises(OSError, match="timed out"):
            wires.world.connect(here, port_of(shell))
        barrier = opened.barrier()
        assert barrier is not None
        assert opened.end(barrier)
        wires.host.connect(there, port_of(control))


def test_a_lifeline_may_not_connect_to_the_node(wires: Wires) -> None:
    shell, kafka = wires.host.listen(HOST), wires.world.listen(WORLD)
    port = port_of(kafka)
    kafka.close()
    with held(wires) as opened:
        isolate(opened, (broker(WORLD, port),))
        sly = wires.world.new_socket()
        sly.settimeout(1)
        sly.bind((WORLD, port))  # from the broker's very port
        with pytest.raises(OSError, match="timed out"):
            sly.connect((HOST, port_of(shell)))


def test_an_operator_s_network_is_open_both_ways_and_a_port_of_it_one_way(wires: Wires) -> None:
    theirs, ours = wires.world.listen(ATTACKER), wires.host.listen(HOST)
    with held(wires) as opened:
        isolate(opened, allowed(f"{ATTACKER}/32"))
        wires.host.connect(ATTACKER, port_of(theirs))
        wires.world.connect(HOST, port_of(ours), source=ATTACKER)
        barrier = opened.barrier()
        assert barrier is not None
        opened.end(barrier)
        isolate(opened, allowed(f"{ATTACKER}:{port_of(theirs)}"))
        wires.host.connect(ATTACKER, port_of(theirs))
        with pytest.raises(OSError, match="timed out"):
            wires.world.connect(HOST, port_of(ours), source=ATTACKER)


def test_dns_is_asked_and_answers_and_no_other_sends_from_its_port(wires: Wires) -> None:
    server = wires.world.new_socket(socket.SOCK_DGRAM)
    server.bind((WORLD, 53))
    client = wires.host.new_socket(socket.SOCK_DGRAM)
    silent = wires.host.new_socket(socket.SOCK_DGRAM)
    silent.bind((HOST, 0))
    for each in (server, client, silent):
        each.settimeout(1)
    with held(wires) as opened:
        isolate(opened, (Lifeline(Purpose.NAMES, ipaddress.ip_network(WORLD), 53, Protocol.UDP),))
        client.sendto(b"where?", (WORLD, 53))
        asked, back = server.recvfrom(64)
        server.sendto(b"there", back)
        assert (asked, client.recv(64)) == (b"where?", b"there")
        server.sendto(b"unasked", silent.getsockname())
        with pytest.raises(TimeoutError):
            silent.recv(64)
        with pytest.raises(PermissionError):
            client.sendto(b"out", (ATTACKER, 53))


def test_a_service_s_address_is_let_through_though_the_host_translates_it(wires: Wires) -> None:
    """As kube-proxy does: rules on the way out see the service, answers come from somebody else."""
    kafka = wires.world.listen(WORLD)
    port = port_of(kafka)
    wires.host.nft("add table ip kube; add chain ip kube out { type nat hook output priority -100; }")
    wires.host.nft(f"add rule ip kube out ip daddr {SERVICE} tcp dport {port} dnat to {WORLD}:{port}")
    wires.host.connect(SERVICE, port)
    wires.world.accepted(kafka)
    with held(wires) as opened:
        isolate(opened, (broker(SERVICE, port),))
        through = wires.host.connect(SERVICE, port)
        assert talks(wires.world.accepted(kafka), through)
        with pytest.raises(OSError, match="timed out"):
            wires.host.connect(WORLD, port)


def test_brokers_are_judged_without_the_kernel_s_table_of_connections(wires: Wires) -> None:
    """An attacker can fill that table, and then nobody new gets in."""
    kafka = wires.world.listen(WORLD)
    to_kafka = wires.host.connect(WORLD, port_of(kafka))
    at_kafka = wires.world.accepted(kafka)
    with held(wires) as opened:
        isolate(opened, (broker(WORLD, port_of(kafka)), *allowed(f"{ATTACKER}:53")))
        text = wires.host.nft("list table inet douse")
        rules = [line for line in text.splitlines() if f"port {port_of(kafka)} " in line]
        assert len(rules) == 2
        assert not any(" ct " in f" {line} " for line in rules)
        assert talks(at_kafka, to_kafka)


def test_loopback_stays_open(wires: Wires) -> None:
    wires.host.run("ip", "address", "add", "127.0.0.9/8", "dev", "lo")
    with held(wires) as opened:
        isolate(opened)
        wires.host.connect("127.0.0.9", port_of(wires.host.listen("127.0.0.9")))


def test_what_a_host_forwards_for_its_containers_is_cut_with_it() -> None:
    with wired(forwarding=True) as wires, held(wires) as opened:
        control = wires.world.listen(WORLD)
        outwards = wires.inner.connect(WORLD, port_of(control))
        at_control = wires.world.accepted(control)
        assert talks(outwards, at_control)
        isolate(opened, (broker(WORLD, 9092),))
        assert not talks(outwards, at_control)
        with pytest.raises(OSError, match="timed out"):
            wires.inner.connect(WORLD, port_of(control))


def test_a_trial_without_confirmation_opens_by_itself(wires: Wires) -> None:
    """The worst that can become of a worker: it dies in the middle and never comes back."""
    listener = wires.world.listen(WORLD)
    with held(wires) as opened:
        assert opened.begin(Isolation(ONE, (), keeps_address=True))
        began = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            wires.host.connect(WORLD, port_of(listener))
        opened.close()
    until = began + TRIAL_S + 10
    while True:
        try:
            wires.host.connect(WORLD, port_of(listener))
            break
        except OSError:
            assert time.monotonic() < until, "it did not open"
    print(f"\nopen again {time.monotonic() - began:.1f} s after a trial of {TRIAL_S} s began")


def test_a_thread_comes_home_from_a_namespace_also_when_something_fails_there(wires: Wires) -> None:
    home = present()
    there = os.open(wires.host.path, os.O_RDONLY)
    try:
        seen = namespaces.inside(there, lambda: present())
        assert seen == wires.host.path.stat().st_ino
        with pytest.raises(ZeroDivisionError):
            namespaces.inside(there, lambda: 1 // 0)
        assert present() == home
        with wires.world.entered():
            namespaces.inside(there, lambda: None)
            assert present() == wires.world.path.stat().st_ino
    finally:
        os.close(there)


def test_a_process_with_a_thread_that_cannot_return_ends_before_it_does_anything_else() -> None:
    lines = (
        "import os, sys",
        "from workers.host.network import namespaces",
        "steps = []",
        "def enter(descriptor):",
        "    steps.append(descriptor)",
        "    if len(steps) == 2: raise OSError(1, 'no way home')",
        "namespaces.inside(namespaces.own(), lambda: None, enter=enter)",
        "print('went on')",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (namespaces.CANNOT_RETURN, "")


_ASK_FOR_THE_HOST = """
from workers.host.network.system import SystemNetwork
from workers.domain.errors import CommandRejected
for own_ids in ((), ("c" * 64,)):
    try:
        SystemNetwork(bootstrap_servers="", brokers=lambda: [], own_ids=lambda: own_ids).host().close()
    except CommandRejected as error:
        print(error.reason)
    else:
        print("the host's")
"""


def test_a_worker_in_a_container_that_cannot_see_the_host_does_not_take_its_own_network_for_it(wires: Wires) -> None:
    """There its own first process lives in the same network as itself, which proves nothing."""
    output = wires.host.run(*("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", _ASK_FOR_THE_HOST))
    assert output.split("\n") == ["the host's", "not_host_network", ""]


# --- what goes round rules -------------------------------------------------------------------------------------------

_LOAD, _LINK, _SYSCALL = 5, 28, 321
_SCHED_CLS: Final = 3
_XDP: Final = 6
_HOOK_XDP: Final = 37
_HOOK_TCX: Final = 46
_libc = ctypes.CDLL(None, use_errno=True)


def program(kind: int) -> int:
    """An eBPF program that lets every packet pass; its descriptor."""
    passing = struct.pack("=BBhi", 0xB7, 0, 0, 2 if kind == _XDP else -1) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    text, licence = ctypes.create_string_buffer(passing), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("=IIQQ", kind, 2, ctypes.addressof(text), ctypes.addressof(licence))
    made = _libc.syscall(_SYSCALL, _LOAD, ctypes.create_string_buffer(attributes, 128), 128)
    assert made >= 0, os.strerror(ctypes.get_errno())
    return int(made)


def attach(kind: int, hook: int, interface: str) -> int:
    """Hang one on an interface of the calling thread's namespace; the link's descriptor."""
    attributes = struct.pack("=IIII", program(kind), socket.if_nametoindex(interface), hook, 0)
    made = _libc.syscall(_SYSCALL, _LINK, ctypes.create_string_buffer(attributes, 64), 64)
    assert made >= 0, os.strerror(ctypes.get_errno())
    return int(made)


@pytest.mark.parametrize(
    ("kind", "hook", "output"),
    [
        (_XDP, _HOOK_XDP, "an eBPF program (XDP) on eth0"),
        (_SCHED_CLS, _HOOK_TCX, "an eBPF program (tcx ingress) on eth0"),
    ],
)
def test_a_program_on_an_interface_is_seen_for_as_long_as_it_is_there(
    wires: Wires, kind: int, hook: int, output: str
) -> None:
    if os.uname().machine != "x86_64":
        require_component("x86_64", "the test's own system call numbers are those of it", present=False)
    with held(wires) as opened:
        assert opened.bypass() == ""
        link = wires.host.make(lambda: attach(kind, hook, "eth0"))
        assert opened.bypass() == output
        os.close(link)
        assert opened.bypass() == ""


def test_a_filter_of_tc_is_seen_where_it_runs_a_program(wires: Wires) -> None:
    with held(wires) as opened:
        wires.host.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
        assert opened.bypass() == ""
        for end in ("ingress", "egress"):
            wires.host.run("tc", "filter", "add", "dev", "eth0", end, "bpf", "bytecode", "1,6 0 0 4294967295,")
            assert [opened.bypass(), opened.bypass()] == ["an eBPF program (tc) on eth0"] * 2
            wires.host.run("tc", "filter", "del", "dev", "eth0", end)
        assert opened.bypass() == ""
