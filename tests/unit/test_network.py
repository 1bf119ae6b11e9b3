"""Lifelines: the operator's list read strictly, and kept as text without loss."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.targets.network import IpNetwork, Lifeline, Protocol, Purpose, allowed, from_text, to_text

networks = st.one_of(
    st.ip_addresses(v=4).flatmap(
        lambda at: st.integers(1, 32).map(lambda bits: ipaddress.ip_network((at, bits), strict=False))
    ),
    st.ip_addresses(v=6).flatmap(
        lambda at: st.integers(1, 128).map(lambda bits: ipaddress.ip_network((at, bits), strict=False))
    ),
)
lifelines = st.builds(Lifeline, st.sampled_from(Purpose), networks, st.integers(0, 65_535), st.sampled_from(Protocol))


@given(st.lists(lifelines, max_size=5).map(tuple))
def test_the_journal_gives_back_what_it_was_given(known: tuple[Lifeline, ...]) -> None:
    assert from_text(to_text(known)) == known


@given(networks, st.integers(1, 65_535))
def test_an_operator_s_entry_is_a_network_with_or_without_a_port(network: IpNetwork, port: int) -> None:
    assert allowed(str(network)) == (Lifeline(Purpose.OPERATOR, network, 0, Protocol.ANY),)
    named = f"[{network}]:{port}" if ":" in str(network) else f"{network}:{port}"
    assert {(each.network, each.port, each.protocol) for each in allowed(named)} == {
        (network, port, Protocol.TCP),
        (network, port, Protocol.UDP),
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not CIDR"),
        ("jump.example.org", "is not CIDR"),
        ("jump.example.org:22", "is not CIDR"),
        ("10.1.2.3/24", "host bits set"),
        ("10.1.2.3/33", "is not CIDR"),
        ("10.1.2.3:0", "1 to 65535"),
        ("10.1.2.3:65536", "1 to 65535"),
        ("10.1.2.3:ssh", "is not CIDR"),
        ("10.1.2.3:22:22", "is not CIDR"),
        ("10.1.2.3 ", "is not CIDR"),
        ("10.1.2.3; flush ruleset", "is not CIDR"),
        ("[fd00::/8", "is not CIDR"),
        ("0.0.0.0/0", "every address"),
        ("[::/0]:443", "every address"),
    ],
)
def test_what_is_no_entry_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        allowed(text)


@given(st.text(max_size=30))
def test_junk_only_ever_is_refused_or_a_network(text: str) -> None:
    try:
        found = allowed(text)
    except ValueError:
        return
    assert found


def test_a_lifeline_covers_its_addresses_and_its_port() -> None:
    (whole,) = allowed("10.1.0.0/16")
    narrow = allowed("10.1.0.0/16:443")[0]
    assert whole.covers("10.1.2.3", 9)
    assert narrow.covers("10.1.2.3", 443)
    assert not narrow.covers("10.1.2.3", 9)
    assert not whole.covers("10.2.2.3", 9)
    assert not whole.covers("fd00::1", 9)
