"""The audit chain and the bytes that signatures cover: no edit, drop, swap or insertion leaves the hashes whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.ids import ChainId
from workers.domain.trust.audit import GENESIS, ChainHead, advance, link
from workers.domain.trust.envelope import PayloadType, signed_bytes

payloads = st.lists(st.binary(max_size=20), min_size=1, max_size=8)


def _head(records: Sequence[bytes]) -> ChainHead:
    head = ChainHead(ChainId("c"))
    for record in records:
        head = advance(head, record)
    return head


def test_a_link_is_what_the_format_says() -> None:
    kind = b"application/vnd.douse.audit+avro"
    pae = b"DSSEv1 32 " + kind + b" 3 abc"
    assert link(b"abc", GENESIS) == hashlib.sha256(pae + bytes(32)).digest()


@given(payloads)
def test_the_head_counts_its_records(records: list[bytes]) -> None:
    assert _head([]).next_no == 0
    assert _head(records).next_no == len(records)
    assert _head(records).chain_id == "c"


@given(payloads, payloads)
def test_two_histories_with_one_head_are_one_history(one: list[bytes], other: list[bytes]) -> None:
    assert (_head(one).hash == _head(other).hash) == (one == other)


@given(payloads, st.data())
def test_any_single_tampering_changes_the_head(records: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(records) - 1))
    edited = [*records[:place], records[place] + b"!", *records[place + 1 :]]
    dropped = records[:place] + records[place + 1 :]
    inserted = [*records[:place], b"new", *records[place:]]
    for tampered in (edited, dropped, inserted):
        assert _head(tampered).hash != _head(records).hash


def test_the_examples_of_dsse_come_out() -> None:
    # From the DSSE protocol text: PAE("http://example.com/HelloWorld", "hello world").
    assert (
        signed_bytes("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert signed_bytes("", b"") == b"DSSEv1 0  0 "


@given(st.tuples(st.text(max_size=6), st.binary(max_size=6)), st.tuples(st.text(max_size=6), st.binary(max_size=6)))
def test_no_two_messages_share_signed_bytes(one: tuple[str, bytes], other: tuple[str, bytes]) -> None:
    one, other = (_unicode(one), _unicode(other))
    assert (signed_bytes(*one) == signed_bytes(*other)) == (one == other)


@pytest.mark.parametrize("inside", [b"a 1 b", b"DSSEv1 1 a 1 b"])
def test_a_space_in_the_type_moves_nothing(inside: bytes) -> None:
    assert signed_bytes("a 1 b", b"") != signed_bytes("a", inside)


def test_every_payload_type_is_its_own() -> None:
    assert len({signed_bytes(kind, b"") for kind in PayloadType}) == len(PayloadType)


def _unicode(message: tuple[str, bytes]) -> tuple[str, bytes]:
    return message[0].encode("utf-8", "replace").decode(), message[1]
