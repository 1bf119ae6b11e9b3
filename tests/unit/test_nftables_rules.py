"""The rules of an isolation: nothing passes but what is named, and a listing names the execution."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_network import lifelines
from workers.domain.ids import ExecutionId
from workers.domain.targets.network import TRIAL_S, Barrier, Isolation, Lifeline, Protocol, Purpose
from workers.host.network import ruleset

ONE = ExecutionId("0199e0f7-0000-7000-8000-000000000001")
TRIED = Barrier(ONE, trial=True, handle=7, sha256="")

isolations = st.builds(Isolation, st.just(ONE), st.lists(lifelines, max_size=4).map(tuple), st.booleans())
_LINE = re.compile(
    r"(create|add) table inet douse"
    r"|delete table inet handle 7"
    r"|add set inet douse trial \{ type nf_proto; flags timeout; \}"
    rf"|add element inet douse trial \{{ ipv4 timeout {TRIAL_S}s, ipv6 timeout {TRIAL_S}s \}}"
    r"|add chain inet douse (input|output|forward) \{ type filter hook \1?\w* priority -?\d+; policy (accept|drop); \}"
    r'|add rule inet douse (input|output|forward) [\w ./:"@{}(),&|!=-]+'
)


@given(isolations)
def test_every_line_is_a_known_one_whatever_is_allowed(isolation: Isolation) -> None:
    for text in (ruleset.begin(isolation), ruleset.keep(isolation, TRIED)):
        assert all(_LINE.fullmatch(line) for line in text.splitlines())


@given(isolations)
def test_what_lasts_lets_through_what_was_tried_and_nothing_else(isolation: Isolation) -> None:
    assert _passing(ruleset.begin(isolation)) == _passing(ruleset.keep(isolation, TRIED))


@given(isolations)
def test_each_chain_ends_by_dropping_and_lets_nothing_through_by_default(isolation: Isolation) -> None:
    tried, kept = ruleset.begin(isolation), ruleset.keep(isolation, TRIED)
    assert kept.count("policy drop") == 3
    assert tried.count("policy accept") == 3
    assert "@trial" not in kept
    for text, last in ((tried, "meta nfproto @trial counter drop"), (kept, "counter drop")):
        for chain in ("input", "output", "forward"):
            rules = [line for line in text.splitlines() if line.startswith(f"add rule inet douse {chain} ")]
            assert rules[-1].startswith(f"add rule inet douse {chain} {last}")
            assert str(ONE) in rules[-1]
            assert all(line.endswith(" accept") for line in rules[:-1])


@given(isolations)
def test_nothing_passes_for_being_established(isolation: Isolation) -> None:
    text = ruleset.keep(isolation, TRIED)
    assert "established" not in text
    assert all("udp" in line for line in text.splitlines() if " ct " in line)


@given(lifelines)
def test_each_lifeline_is_one_rule_out_and_one_in(lifeline: Lifeline) -> None:
    bare = ruleset.keep(Isolation(ONE, (), keeps_address=False), TRIED).splitlines()
    more = ruleset.keep(Isolation(ONE, (lifeline,), keeps_address=False), TRIED).splitlines()
    added = [line for line in more if line not in bare]
    assert [line.split()[4] for line in added] == ["input", "output"]
    assert all(str(lifeline.network) in line for line in added)
    if lifeline.port:
        assert all(f"port {lifeline.port} " in line for line in added)
        assert "!= syn" in added[0] or "ct direction reply" in added[0]


def test_only_a_host_keeps_asking_for_its_address() -> None:
    assert "dport 68" in ruleset.keep(Isolation(ONE, (), keeps_address=True), TRIED)
    assert "dport 68" not in ruleset.keep(Isolation(ONE, (), keeps_address=False), TRIED)


def _passing(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith(" accept")]


# --- listings --------------------------------------------------------------------------------------------------------


def listing(*rules: dict[str, Any], handle: int = 7) -> str:
    table = {"table": {"family": "inet", "name": "douse", "handle": handle}}
    return json.dumps({"nftables": [{"metainfo": {"version": "1"}}, table, *({"rule": rule} for rule in rules)]})


def drop(comment: str, *, chain: str = "output", packets: int = 0, handle: int = 1) -> dict[str, Any]:
    counter = {"counter": {"packets": packets, "bytes": 40 * packets}}
    return {"chain": chain, "handle": handle, "comment": comment, "expr": [counter, {"drop": None}]}


def test_a_listing_shows_which_execution_made_it_and_what_it_dropped() -> None:
    held, dropped = ruleset.barrier_in(listing(drop(f"isolated by {ONE}", packets=3), drop("", chain="input")))
    assert (held.made_by, held.trial, held.handle, dropped) == (ONE, False, 7, 3)
    tried, _ = ruleset.barrier_in(listing(drop(f"on trial by {ONE}")))
    assert (tried.made_by, tried.trial) == (ONE, True)


def test_another_programs_table_of_that_name_has_no_execution() -> None:
    assert ruleset.barrier_in(listing())[0].made_by == ""
    assert ruleset.barrier_in(listing(drop("by hand")))[0].made_by == ""


def test_an_inserted_rule_changes_the_digest_and_not_the_execution() -> None:
    own = drop(f"isolated by {ONE}")
    plain, _ = ruleset.barrier_in(listing(own))
    edited, _ = ruleset.barrier_in(listing(drop("another"), own))
    assert (edited.made_by, edited.trial) == (ONE, False)
    assert edited.sha256 != plain.sha256


@given(st.integers(0, 1 << 40), st.integers(1, 99))
def test_counters_and_handles_do_not_change_the_digest(packets: int, handle: int) -> None:
    one, _ = ruleset.barrier_in(listing(drop("isolated by x")))
    other, _ = ruleset.barrier_in(listing(drop("isolated by x", packets=packets, handle=handle)))
    assert one == other


@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
def test_a_family_is_asked_for_by_its_own_name(address: str) -> None:
    lifeline = Lifeline(Purpose.KAFKA, ipaddress.ip_network(address), 9092, Protocol.TCP)
    text = ruleset.keep(Isolation(ONE, (lifeline,), keeps_address=False), TRIED)
    assert f"{'ip6' if ':' in address else 'ip'} daddr {lifeline.network} tcp dport 9092 accept" in text
