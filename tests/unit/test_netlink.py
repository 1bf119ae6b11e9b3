"""Interfaces and filters out of rtnetlink's messages, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.host.netlink import attribute, attributes, messages
from workers.host.network.links import Link, filter_in, link_in


def link(*attributes: bytes, flags: int = 0x1043) -> bytes:
    return struct.pack("=BxHiII", 0, 1, 7, flags, 0) + b"".join(attributes)


def tc_filter(kind: str, options: bytes = b"") -> bytes:
    head = struct.pack("=BxHiIII", 0, 0, 7, 1, 0xFFFFFFF2, 0)
    return head + attribute(1, kind.encode() + b"\0") + attribute(2, options)


NAME = attribute(3, b"eth0\0")


def test_an_interface_is_read_with_its_name() -> None:
    assert link_in(link(NAME)) == Link(7, "eth0", loopback=False, xdp=False)
    assert link_in(link(attribute(3, b"lo\0"), flags=0x9)).loopback


@pytest.mark.parametrize(("attached", "xdp"), [(0, False), (1, True), (2, True), (3, True), (4, True)])
def test_an_xdp_program_in_any_mode_is_found(attached: int, xdp: bool) -> None:
    nested = attribute(2, bytes([attached])) + attribute(4, struct.pack("=I", 9))
    assert link_in(link(NAME, attribute(0x8000 | 43, nested))).xdp is xdp


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (tc_filter("bpf"), "an eBPF program (tc)"),
        (tc_filter("matchall", attribute(2, attribute(1, attribute(1, b"bpf\0")))), "an eBPF program (tc)"),
        (tc_filter("u32", attribute(7, attribute(1, attribute(1, b"mirred\0")))), "a redirection (tc mirred)"),
        (tc_filter("u32", attribute(7, attribute(1, attribute(1, b"gact\0")))), ""),
        (tc_filter("bpfoo"), ""),
    ],
)
def test_a_filter_that_carries_packets_past_the_rules_is_recognised(body: bytes, found: str) -> None:
    assert filter_in(body) == found


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=9)), max_size=5))
def test_attributes_are_read_as_they_were_written(known: list[tuple[int, bytes]]) -> None:
    assert list(attributes(b"".join(attribute(*each) for each in known))) == known


@given(st.binary(max_size=80))
def test_junk_ends_a_message_and_nothing_else(junk: bytes) -> None:
    assert sum(len(value) + 4 for _, value in attributes(junk)) <= len(junk)
    assert sum(len(body) + 16 for _, body in messages(junk)) <= len(junk)


def test_messages_of_one_datagram_come_one_after_the_other() -> None:
    one = struct.pack("=IHHII", 18, 16, 0, 1, 0) + b"ab" + b"\0\0"
    assert list(messages(one + one[:18])) == [(16, b"ab"), (16, b"ab")]
