"""What is in a CRI log file: the same lines however it was read, its tail by whole lines, nothing that is no line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.host.containers.cri.log_lines import lines, tail_start

TIME = b"2026-11-24T13:00:00.123456789Z"
FAR = 1 << 30
MIB = 1 << 20

times = st.builds(
    lambda moment, zone, fraction: (
        moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=zone))).isoformat(),
        fraction,
    ),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 30)),  # noqa: DTZ001 - the zone comes next
    st.integers(-14 * 60, 14 * 60),
    st.integers(0, 999_999_999),
)
texts = st.binary(max_size=60).map(lambda text: text.replace(b"\n", b""))
logs = st.lists(st.tuples(st.sampled_from([b"stdout", b"stderr"]), st.sampled_from([b"F", b"P"]), texts), max_size=30)
cuts = st.lists(st.integers(1, 50), max_size=60)


def shown(log: Iterable[tuple[bytes, bytes, bytes]]) -> list[bytes]:
    return [b"%b %b %b %b\n" % (TIME, *entry) for entry in log]


def cut(whole: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield whole[at : at + size]
        at += size
    yield whole[at:]


def read(content: bytes, *, since_ns: int = 0, farthest: int = FAR) -> list[bytes]:
    return list(lines(cut(content, [65_536] * (len(content) // 65_536)), since_ns=since_ns, farthest=farthest))


@given(logs, cuts)
def test_every_line_is_handed_out_as_it_stands_there_however_it_was_read(
    log: list[tuple[bytes, bytes, bytes]], sizes: list[int]
) -> None:
    written = shown(log)
    assert list(lines(cut(b"".join(written), sizes), since_ns=0, farthest=FAR)) == written


@given(logs, st.integers(1, 100))
def test_one_that_is_being_written_is_left_out(log: list[tuple[bytes, bytes, bytes]], missing: int) -> None:
    content = b"".join(shown(log))
    whole = content[: max(0, len(content) - missing)]
    assert b"".join(read(whole)) == whole[: whole.rfind(b"\n") + 1]


@given(logs, st.integers(1, 40), st.booleans())
def test_the_tail_is_the_last_lines(log: list[tuple[bytes, bytes, bytes]], tail: int, unfinished: bool) -> None:
    written = shown(log)
    content = b"".join(written) + (b"2026-11" if unfinished else b"")
    start, found = tail_start(lambda at, size: content[at : at + size], len(content), tail=tail, farthest=FAR)
    assert read(content[start:]) == written[-tail:]
    assert found == min(tail, len(written))


def test_the_tail_is_read_from_the_end_and_no_more_than_it_must() -> None:
    line = TIME + b" stdout F " + b"x" * 1000 + b"\n"
    asked: list[int] = []

    def block(at: int, size: int) -> bytes:
        asked.append(size)
        return (line * (size // len(line) + 2))[at % len(line) :][:size]

    end = len(line) * 10_000_000
    assert tail_start(block, end, tail=100, farthest=FAR) == (end - 100 * len(line), 100)
    assert sum(asked) < 200_000


def test_a_tail_that_begins_too_far_back_is_given_up() -> None:
    with pytest.raises(EOFError):
        tail_start(lambda _, size: b"x" * size, 10 * MIB, tail=1, farthest=MIB)


@given(times, st.integers(-2, 2))
def test_none_from_before_a_moment(written: tuple[str, int], off_ns: int) -> None:
    second, fraction = written
    when = datetime.fromisoformat(second)
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    time_ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + fraction
    line = f"{second[:19]}.{fraction:09d}{second[19:].replace('+00:00', 'Z')} stderr F a\n".encode()
    assert read(line) == [line]
    if time_ns + off_ns > 0:
        assert read(line, since_ns=time_ns + off_ns) == ([line] if off_ns <= 0 else [])


def test_times_without_or_with_short_fractions_count_too() -> None:
    line = b"1970-01-01T00:00:01.5Z stdout F a\n"
    assert read(line, since_ns=1_500_000_000) == [line]
    assert read(line, since_ns=1_500_000_001) == []
    assert read(b"1970-01-01T01:00:01+01:00 stdout F a\n", since_ns=1_000_000_001) == []


def test_further_tags_are_left_out() -> None:
    assert read(TIME + b" stdout P:x:y a\n") == [TIME + b" stdout P a\n"]


@pytest.mark.parametrize("size", [MIB - 100, MIB, MIB + 1, 3 * MIB + 7])
@pytest.mark.parametrize("tag", [b"F", b"P"])
def test_a_line_of_megabytes_comes_in_parts_of_the_same_line(size: int, tag: bytes) -> None:
    content = TIME + b" stderr " + tag + b" " + b"x" * size + b"\n"
    pieces = read(content + TIME + b" stdout F next\n")
    assert pieces.pop() == TIME + b" stdout F next\n"
    heads = [piece[: len(TIME) + 10] for piece in pieces]
    assert set(heads[:-1]) <= {TIME + b" stderr P "}
    assert heads[-1] == TIME + b" stderr " + tag + b" "
    assert b"".join(piece[len(TIME) + 10 : -1] for piece in pieces) == b"x" * size
    assert max(map(len, pieces)) < MIB + 70_000


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"\0\0\0\0\n",
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"2026-13-24T13:00:00Z stdout F a\n",
        b"2026-11-24T25:00:00Z stdout F a\n",
        b"2026-11-24T13:00:00+99:00 stdout F a\n",
        b"0000-11-24T13:00:00Z stdout F a\n",
        b"2026-11-24T13:00:00 stdout F a\n",
        b"2026-11-24T13:00:00.1234567890Z stdout F a\n",
        TIME + b" stdin F a\n",
        TIME + b" stdout X a\n",
        TIME + b" stdout F\n",
        TIME + b" stdout F:" + b"t" * 100 + b" a\n",
        TIME + b"  stdout F a\n",
        b'{"log":"a\\n","stream":"stdout","time":"2026-11-24T13:00:00Z"}\n',
    ],
)
def test_what_no_runtime_writes_is_refused_by_its_first_line(line: bytes) -> None:
    with pytest.raises(ValueError, match="no line of a CRI log"):
        read(line)
    with pytest.raises(ValueError, match="no line of a CRI log"):
        read(TIME + b" stdout F fine\n" + line)
    if line.strip():
        with pytest.raises(ValueError, match="no line of a CRI log"):
            read(line, since_ns=1)


def test_a_file_without_a_line_is_refused_before_it_fills_the_memory() -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"\0" * 65_536

    with pytest.raises(ValueError, match="no line of a CRI log"):
        list(lines(endless(), since_ns=0, farthest=FAR))
    assert len(taken) == 17


def test_skipping_lines_has_a_limit() -> None:
    content = (TIME + b" stdout F a\n") * 10_000
    with pytest.raises(EOFError):
        read(content, since_ns=1 << 62, farthest=200_000)
    assert len(read(content, since_ns=1, farthest=100_000)) == 10_000


@given(st.lists(st.binary(max_size=100), max_size=10), st.integers(0, 1 << 62))
def test_no_bytes_do_more_than_that(chunks: list[bytes], since_ns: int) -> None:
    try:
        list(lines(chunks, since_ns=since_ns, farthest=FAR))
    except ValueError as refused:
        assert type(refused) is ValueError  # noqa: PT017 - either way is fine
