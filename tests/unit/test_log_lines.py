"""A container's log as its engine streams it: the same lines however the stream was cut, and no line forged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.errors import PermanentFailure
from workers.host.containers.docker.log_lines import framed, raw

TIME = b"2026-11-24T13:00:00.123456789Z"
texts = st.binary(max_size=60).map(lambda text: text.replace(b"\n", b""))
messages = st.lists(st.tuples(st.sampled_from([1, 2]), texts, st.booleans()), max_size=20)
cuts = st.lists(st.integers(1, 50), max_size=60)


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def cut(whole: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield whole[at : at + size]
        at += size
    yield whole[at:]


@given(messages, cuts)
def test_every_message_is_one_line_with_its_stream_however_the_stream_was_cut(
    written: list[tuple[int, bytes, bool]], sizes: list[int]
) -> None:
    whole = b"".join(frame(stream, TIME + b" " + text + b"\n" * ended) for stream, text, ended in written)
    wanted = [
        b"%b %b %b %b\n" % (TIME, b"stderr" if stream == 2 else b"stdout", b"F" if ended else b"P", text)
        for stream, text, ended in written
    ]
    assert list(framed(cut(whole, sizes))) == wanted


@given(st.lists(texts, max_size=20), cuts)
def test_a_terminals_lines_are_the_same_however_the_stream_was_cut(written: list[bytes], sizes: list[int]) -> None:
    whole = b"".join(TIME + b" " + text + b"\r\n" for text in written)
    assert list(raw(cut(whole, sizes))) == [b"%b stdout F %b\r\n" % (TIME, text) for text in written]


def test_a_line_without_a_time_is_marked() -> None:
    assert list(framed([frame(1, b"no time\n")])) == [b"- stdout F no time\n"]


@pytest.mark.parametrize(
    "stream", [b"\x07\0\0\0\0\0\0\x01x", b"\x01\x01\0\0\0\0\0\x01x", b"\x01\0\0\0\xff\xff\xff\xff", b"plain text here"]
)
def test_what_is_no_stream_of_frames_is_refused(stream: bytes) -> None:
    with pytest.raises(PermanentFailure) as caught:
        list(framed([stream]))
    assert caught.value.reason == "logs_unreadable"


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_no_bytes_do_more_than_that(chunks: list[bytes]) -> None:
    list(raw(chunks))
    try:
        list(framed(chunks))
    except PermanentFailure as refused:
        assert refused.reason == "logs_unreadable"  # noqa: PT017 - either way is fine
