"""An isolation as nftables commands, and the isolation in a listing. Pure.

Called by ``namespace``. Everything is one table, ``inet douse``; other tables are never touched, and a packet that one
chain drops is gone whatever the others decide, so this one need not come first:

* output comes before DNAT (-100), where packets still have the address that this node asked for: a service's, say;
* input comes after DNAT is undone (100), where answers have that address again;
* no packet passes for belonging to an established connection: each is judged by address and port, so that an
  attacker's connections are cut while the node's go on, and a full table of connections cuts nothing off from Kafka;
* what this node may connect to cannot connect to it in turn: its SYN is no answer.

During the trial, the last rule of each chain drops only as long as the set ``trial`` has elements, and those expire by
themselves: whatever becomes of the worker, the kernel opens the network again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from workers.domain.targets.network import TRIAL_S, Barrier, Isolation, Lifeline, Protocol

TABLE: Final = "douse"
_LAST: Final = "drop"
_HELD: Final = "isolated by"
_TRIAL: Final = "on trial by"

_CHAINS: Final[Mapping[str, int]] = {"input": 150, "output": -150, "forward": -150}
"""Chain and hook to priority: see above."""

_ERRORS_IN: Final = (
    "icmp type { destination-unreachable, time-exceeded } accept",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } accept",
)
"""Without them a broker behind a narrower link is not reached any more."""
_NEIGHBOURS_IN: Final = "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
_NEIGHBOURS_OUT: Final = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept"
"""IPv6 finds no neighbour, not even its router, without them."""
_DHCP_IN: Final = ("udp sport 67 udp dport 68 accept", "udp sport 547 udp dport 546 accept")
_DHCP_OUT: Final = ("udp sport 68 udp dport 67 accept", "udp sport 546 udp dport 547 accept")


def begin(isolation: Isolation) -> str:
    """Commands that apply it on trial, and fail where there is a table already."""
    return "\n".join(("create table inet douse", *_body(isolation, trial=True)))


def keep(isolation: Isolation, tried: Barrier) -> str:
    """Commands that apply it for good instead of the tried one, and fail where that is gone."""
    return "\n".join((end(tried), "add table inet douse", *_body(isolation, trial=False)))


def end(barrier: Barrier) -> str:
    """The command that removes it, and fails where it is gone."""
    return f"delete table inet handle {barrier.handle}"


LIST: Final = "list table inet douse"
LIST_ALL: Final = "list tables"


def barrier_in(listing: str) -> tuple[Barrier, int]:
    """From a listing of the table: the isolation, and how many packets it has kept from leaving.

    Raises:
        ValueError: it is no listing of a table.
    """
    entries: list[Mapping[str, Any]] = json.loads(listing)["nftables"]
    handle = next(int(entry["table"]["handle"]) for entry in entries if "table" in entry)
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    marks = [text for rule in rules if _drops(rule) and (text := rule.get("comment", "")).startswith((_TRIAL, _HELD))]
    mark = marks[-1] if marks else ""  # rules that others inserted do not make it another isolation
    trial = mark.startswith(_TRIAL)
    made_by = mark.removeprefix(_TRIAL if trial else _HELD).strip()
    dropped = sum(_counted(rule) for rule in rules if rule["chain"] == "output" and _drops(rule))
    stable = json.dumps([_stable(entry) for entry in entries if "metainfo" not in entry], sort_keys=True)
    return Barrier(made_by, trial, handle, hashlib.sha256(stable.encode()).hexdigest()), dropped


def _body(isolation: Isolation, *, trial: bool) -> Iterator[str]:
    policy, condition = ("accept", "meta nfproto @trial ") if trial else ("drop", "")
    if trial:
        yield "add set inet douse trial { type nf_proto; flags timeout; }"
        yield f"add element inet douse trial {{ ipv4 timeout {TRIAL_S}s, ipv6 timeout {TRIAL_S}s }}"
    mark = f"{_TRIAL if trial else _HELD} {isolation.made_by}"
    for chain, priority in _CHAINS.items():
        yield (f"add chain inet douse {chain} {{ type filter hook {chain} priority {priority}; policy {policy}; }}")
        for rule in (*_rules(isolation, chain), f'{condition}counter {_LAST} comment "{mark}"'):
            yield f"add rule inet douse {chain} {rule}"


def _rules(isolation: Isolation, chain: str) -> Iterator[str]:
    """What passes."""
    match chain:
        case "input":
            yield 'iifname "lo" accept'
            for lifeline in isolation.lifelines:
                yield _inwards(lifeline)
            yield from _ERRORS_IN
            yield _NEIGHBOURS_IN
            yield from _DHCP_IN if isolation.keeps_address else ()
        case "output":
            yield 'oifname "lo" accept'
            for lifeline in isolation.lifelines:
                yield _outwards(lifeline)
            yield _NEIGHBOURS_OUT
            yield from _DHCP_OUT if isolation.keeps_address else ()


def _outwards(lifeline: Lifeline) -> str:
    there = f"{_family(lifeline)} daddr {lifeline.network}"
    return f"{there} {lifeline.protocol} dport {lifeline.port} accept" if lifeline.port else f"{there} accept"


def _inwards(lifeline: Lifeline) -> str:
    there = f"{_family(lifeline)} saddr {lifeline.network}"
    match lifeline:
        case Lifeline(port=0):
            return f"{there} accept"
        case Lifeline(protocol=Protocol.UDP):  # there is no SYN: the kernel knows which side began
            return f"{there} udp sport {lifeline.port} ct direction reply accept"
        case _:
            return f"{there} tcp sport {lifeline.port} tcp flags & (syn | ack) != syn accept"


def _family(lifeline: Lifeline) -> str:
    return "ip" if lifeline.network.version == 4 else "ip6"


def _drops(rule: Mapping[str, Any]) -> bool:
    return any(_LAST in expression for expression in rule["expr"])


def _counted(rule: Mapping[str, Any]) -> int:
    return sum(int(expression["counter"]["packets"]) for expression in rule["expr"] if "counter" in expression)


def _stable(entry: Any) -> Any:
    """The entry without what changes by itself: counters, handles, elements that run out."""
    if isinstance(entry, dict):
        return {name: _stable(value) for name, value in entry.items() if name not in ("counter", "handle", "elem")}
    return [_stable(each) for each in entry] if isinstance(entry, list) else entry
