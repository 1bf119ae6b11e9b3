"""Ids: UUIDv7 by the letter, and the same id from the same causes."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.ids import (
    RANDOM_BYTES,
    ExecutionId,
    id_from_cause,
    is_execution_id,
    is_node_id,
    key_id_of,
    uuid7,
    uuid7_time_ns,
)

moments = st.integers(0, (1 << 48) * 1_000_000 - 1)
randoms = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)
causes = st.lists(st.text(max_size=6), max_size=3)


def test_the_example_of_rfc_9562_comes_out() -> None:
    # Appendix A.6: 2022-02-22 14:22:22 EST, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    random = (0xCC3 << 64 | 0x18C4DC0C0C07398F).to_bytes(RANDOM_BYTES)
    assert uuid7(0x017F22E279B0 * 1_000_000, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(moments, randoms)
def test_a_uuid7_has_version_variant_and_its_moment(at_ns: int, random: bytes) -> None:
    text = uuid7(at_ns, random)
    parsed = uuid.UUID(text)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert is_execution_id(text)
    assert uuid7_time_ns(ExecutionId(text)) == at_ns // 1_000_000 * 1_000_000


@given(moments, moments, randoms, randoms)
def test_uuid7s_sort_by_their_moment(one: int, other: int, a: bytes, b: bytes) -> None:
    if one // 1_000_000 < other // 1_000_000:
        assert uuid7(one, a) < uuid7(other, b)


@given(moments, randoms, st.integers(0, 79))
def test_74_of_the_random_bits_survive(at_ns: int, random: bytes, bit: int) -> None:
    flipped = (int.from_bytes(random) ^ 1 << bit).to_bytes(RANDOM_BYTES)
    lost = (62, 63, 76, 77, 78, 79)
    assert (uuid7(at_ns, random) == uuid7(at_ns, flipped)) == (bit in lost)


@pytest.mark.parametrize(("at_ns", "count"), [(0, 9), (0, 11), (-1, 10), ((1 << 48) * 1_000_000, 10)])
def test_what_does_not_fit_a_uuid7_is_refused(at_ns: int, count: int) -> None:
    with pytest.raises(ValueError, match=r"uuid7|UUIDv7"):
        uuid7(at_ns, bytes(count))


@given(moments, causes)
def test_the_same_causes_give_the_same_id(at_ns: int, why: list[str]) -> None:
    assert id_from_cause(at_ns, *why) == id_from_cause(at_ns, *why)


@given(moments, causes, causes)
def test_other_causes_give_another_id(at_ns: int, one: list[str], other: list[str]) -> None:
    assert (id_from_cause(at_ns, *one) == id_from_cause(at_ns, *other)) == (one == other)


def test_causes_do_not_run_into_each_other() -> None:
    ids = {id_from_cause(0, *why) for why in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]}
    assert len(ids) == 5


def test_a_cause_need_not_be_unicode() -> None:
    assert is_execution_id(id_from_cause(0, "\ud800"))


@given(st.text(max_size=50))
def test_other_text_is_no_execution_id(text: str) -> None:
    assert not is_execution_id(text)
    with pytest.raises(ValueError, match=r".*"):
        uuid7_time_ns(ExecutionId(text))


@pytest.mark.parametrize(
    "text",
    [
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
        "017f22e279b07cc398c4dc0c0c07398f",
        "017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
    ],
)
def test_only_the_canonical_form_of_a_uuid7_is_an_execution_id(text: str) -> None:
    assert not is_execution_id(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a" * 32, True),
        ("0" * 32, True),
        ("A" * 32, False),
        ("a" * 31, False),
        ("a" * 33, False),
        ("a" * 32 + "\n", False),
    ],
)
def test_a_node_id_is_32_lower_case_hex_digits(text: str, is_one: bool) -> None:
    assert is_node_id(text) is is_one


def test_a_key_id_is_the_head_of_the_key_s_sha256() -> None:
    # RFC 8032, test 1: the public key; its digest computed with sha256sum.
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert key_id_of(public) == "21fe31dfa154a261626bf854046fd227"
