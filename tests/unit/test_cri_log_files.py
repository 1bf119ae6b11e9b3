"""Log files under CRI, as they may be found: rotated, growing, cut, replaced by links, FIFOs, other files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.components import require as require_component
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.host.containers.cri.log_files import read_log


def line(number: int) -> bytes:
    return f"2026-11-24T13:00:{number:02d}.000000000Z stdout F {number}\n".encode()


def content(*numbers: int) -> bytes:
    return b"".join(map(line, numbers))


def read(path: Path, *, tail: int = 0, since_ns: int = 0, farthest: int = 1 << 30) -> list[int]:
    pieces = read_log(os.fsencode(path), tail=tail, since_ns=since_ns, farthest=farthest)
    return [int(piece.split(b" ")[3]) for piece in pieces]


def refusal(path: Path) -> PermanentFailure:
    with pytest.raises(PermanentFailure) as caught:
        read(path)
    return caught.value


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "pods" / "default_web_u1" / "web" / "0.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(content(7, 8, 9))
    return path


@pytest.fixture
def rotated(log: Path) -> Path:
    """What the kubelet leaves: the newest that it rotated away is plain, older ones are compressed."""
    (log.parent / "0.log.20261124-120000.gz").write_bytes(b"compressed")
    (log.parent / "0.log.20261124-121000").write_bytes(content(1, 2, 3))
    (log.parent / "0.log.20261124-122000").write_bytes(content(4, 5, 6))
    (log.parent / "0.log.20261124-123000.tmp").write_bytes(b"half compressed")
    (log.parent / "1.log").write_bytes(content(50))
    (log.parent / "10.log.20261124-122000").write_bytes(content(51))
    (log.parent / "1.log.20261124-122000").write_bytes(content(52))
    return log


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def test_the_present_file(log: Path) -> None:
    assert read(log) == [7, 8, 9]
    assert read(log, tail=2) == [8, 9]


def test_an_empty_log_is_empty(log: Path) -> None:
    log.write_bytes(b"")
    assert read(log) == read(log, tail=3) == []


def test_rotated_ones_come_first_and_others_files_do_not(rotated: Path) -> None:
    assert read(rotated) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("tail", range(1, 12))
def test_the_tail_goes_back_over_a_rotation(rotated: Path, tail: int) -> None:
    assert read(rotated, tail=tail) == [1, 2, 3, 4, 5, 6, 7, 8, 9][-tail:]


def test_the_oldest_comes_first_whatever_the_directorys_order(log: Path) -> None:
    for number in (4, 1, 6, 3, 5, 2):
        (log.parent / f"0.log.2026112{number}-120000").write_bytes(content(number))
    assert read(log) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert read(log, tail=5) == [5, 6, 7, 8, 9]


def test_a_rotation_while_it_is_opened_repeats_nothing(log: Path) -> None:
    os.link(log, log.parent / "0.log.20261124-130000")
    assert read(log) == [7, 8, 9]


def test_a_rotation_and_more_lines_while_it_is_read_change_nothing(log: Path) -> None:
    pieces = read_log(os.fsencode(log), tail=0, since_ns=0)
    first = next(pieces)
    with log.open("ab") as growing:
        growing.write(content(10, 11))
    log.rename(log.parent / "0.log.20261124-130000")
    log.write_bytes(content(12))
    assert [first, *pieces] == [line(7), line(8), line(9)]


def test_a_log_that_is_cut_while_it_is_read_may_be_asked_again(log: Path) -> None:
    log.write_bytes(content(*[7] * 10_000))
    pieces = read_log(os.fsencode(log), tail=0, since_ns=0)
    next(pieces)
    log.write_bytes(b"\0" * 300_000)
    with pytest.raises(TransientFailure, match="was cut"):
        list(pieces)


def test_a_reader_that_has_enough_leaves_nothing_open(rotated: Path) -> None:
    before = descriptors()
    pieces = read_log(os.fsencode(rotated), tail=0, since_ns=0)
    next(pieces)
    assert descriptors() > before
    pieces.close()
    assert descriptors() == before
    refused = rotated.with_name("none.log")
    with pytest.raises(TransientFailure):
        read(refused)
    assert descriptors() == before


def test_one_that_is_not_there_may_be_there_in_a_moment_but_a_missing_directory_will_not(log: Path) -> None:
    log.unlink()
    with pytest.raises(TransientFailure, match="rotated"):
        read(log)
    log.parent.rmdir()
    refused = refusal(log)
    assert refused.reason == "logs_unavailable"
    assert "mount /var/log/pods" in refused.message


# --- files that replace a log -----------------------------------------------------------------------------------


@pytest.fixture(params=["link", "dangling", "directory", "fifo", "socketless device"])
def replaced(request: pytest.FixtureRequest, log: Path) -> Path:
    other = log.parent / "other"
    other.write_bytes(content(99))
    log.unlink()
    match request.param:
        case "link":
            log.symlink_to(other)
        case "dangling":
            log.symlink_to(log.parent / "nowhere")
        case "directory":
            log.mkdir()
        case "fifo":
            os.mkfifo(log)
        case _:
            made = subprocess.run(["mknod", log, "c", "1", "5"], check=False, capture_output=True)  # /dev/zero
            if made.returncode:
                require_component("root", "only root makes device nodes")
    return log


def test_only_a_regular_file_is_opened(replaced: Path) -> None:
    refused = refusal(replaced)
    assert refused.reason == "logs_unavailable"
    assert "not a regular file" in refused.message


def test_the_same_holds_for_rotated_ones(log: Path) -> None:
    (log.parent / "0.log.20261124-121000").symlink_to("/etc/passwd")
    assert refusal(log).reason == "logs_unavailable"


def test_no_link_is_followed_on_the_way(log: Path) -> None:
    pods = log.parents[2]
    moved = pods.rename(pods.with_name("elsewhere"))
    pods.symlink_to(moved)
    refused = refusal(log)
    assert refused.reason == "logs_unavailable"
    assert "symbolic link" in refused.message


@pytest.mark.parametrize(
    "path", [b"", b"relative/0.log", b"/var/log/pods/../../etc/shadow", b"/a\0b", b"/" + b"x" * 300]
)
def test_a_path_that_is_none_is_refused(path: bytes) -> None:
    with pytest.raises(PermanentFailure) as caught:
        list(read_log(path, tail=0, since_ns=0))
    assert caught.value.reason == "logs_unavailable"


def test_another_file_in_its_place_is_not_handed_out(log: Path) -> None:
    log.write_bytes(b"root:S3CR3T:20000::::::\n")
    refused = refusal(log)
    assert refused.reason == "logs_unreadable"
    assert "file_acquire" in refused.message
    assert "S3CR3T" not in repr(refused)


@pytest.mark.parametrize("rest", [line(2)[:-1], b"2026-", b"\0" * 5000])
def test_what_a_crash_left_without_an_end_is_left_out(log: Path, rest: bytes) -> None:
    log.write_bytes(content(1) + rest)
    assert read(log) == [1]


def test_a_broken_line_among_others_is_reported(log: Path) -> None:
    log.write_bytes(content(1) + b"2026-11-2" + content(2))
    assert refusal(log).reason == "logs_unreadable"


def test_a_log_too_long_to_be_searched_is_refused_with_the_reason(log: Path) -> None:
    log.write_bytes(content(*[7] * 10_000))
    for chosen in ({"tail": 9_000}, {"since_ns": 1 << 62}):
        with pytest.raises(PermanentFailure, match="ask for fewer lines") as caught:
            read(log, **chosen, farthest=100_000)
        assert caught.value.reason == "logs_unavailable"
    assert len(read(log, tail=100, farthest=100_000)) == 100


def test_what_is_looked_through_counts_over_all_files(log: Path) -> None:
    each = content(*[7] * 2_000)
    for path in (log, log.with_name("0.log.20261124-120000"), log.with_name("0.log.20261124-121000")):
        path.write_bytes(each)
    limit = 2 * len(each) + len(each) // 2
    for chosen in ({"tail": 5_999}, {"since_ns": 1 << 62}):
        with pytest.raises(PermanentFailure, match="ask for fewer lines"):
            read(log, **chosen, farthest=limit)
        read(log, **chosen, farthest=4 * len(each))
    log.write_bytes(each + b"2100-01-01T00:00:00Z stdout F 1\n")
    assert read(log, since_ns=1 << 61, farthest=4 * len(each)) == [1]


def test_a_huge_log_is_not_read_for_its_last_lines(log: Path) -> None:
    with log.open("r+b") as file:
        file.truncate(1 << 38)  # a hole, which would take minutes to read
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + content(1, 2))
    assert read(log, tail=2) == [1, 2]
