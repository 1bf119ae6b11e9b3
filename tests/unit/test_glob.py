"""Globs mean what a shell's do, and stay fast on hostile text."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.rules.glob import Glob


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*", "", True),
        ("*", "anything\nat all", True),
        ("", "", True),
        ("", "a", False),
        ("/etc/*", "/etc/shadow", True),
        ("/etc/*", "/etcetera", False),
        ("*shell*", "Terminal shell in container", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b?", "axxbz", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("ABC", "abc", False),
    ],
)
def test_a_glob_fits_the_whole_text(pattern: str, text: str, expected: bool) -> None:
    assert Glob(pattern).matches(text) is expected


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_a_glob_agrees_with_the_shells(pattern: str, text: str) -> None:
    assert Glob(pattern).matches(text) is fnmatch.fnmatchcase(text, pattern)


@pytest.mark.timeout(5)
def test_a_hostile_text_does_not_make_a_glob_slow() -> None:
    assert not Glob("*a" * 60 + "*b").matches("a" * 4096)


def test_a_literal_is_recognised() -> None:
    assert Glob("Terminal shell in container").is_literal
    assert not Glob("Terminal*").is_literal
