"""/proc's text is read right, whatever a process wrote into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.host.processes import procfs

NUMBERS = b"S 41 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 18446744073709551615"


@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_any_name_leaves_the_numbers_behind_it_alone(name: bytes) -> None:
    stat = procfs.parse_stat(b"4711 (" + name + b") " + NUMBERS)
    assert (stat.state, stat.parent_pid, stat.start_ticks, stat.kernel_thread) == ("S", 41, 987654, False)


@pytest.mark.parametrize("name", [b"a) R 1 (b", b"x) R 1 1", b"\n) R 1 1 1 0 -1 2097152 (", b"((((", b""])
def test_a_name_that_imitates_the_fields_behind_it_is_only_a_name(name: bytes) -> None:
    stat = procfs.parse_stat(b"4711 (" + name + b") " + NUMBERS)
    assert stat.parent_pid == 41
    assert not stat.kernel_thread
    assert "\n" not in stat.name


def test_a_kernel_thread_is_known_by_its_flag() -> None:
    assert procfs.parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 " + b"0 " * 13).kernel_thread


@pytest.mark.parametrize("text", [b"", b"4711 name S 1", b"4711 (name", b"4711 (name) S 1 2"])
def test_a_broken_stat_line_is_reported(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"name"):
        procfs.parse_stat(text)


STATUS = b"Name:\tx\\nUid: 0\nPid:\t4711\nUid:\t1000\t0\t0\t0\nNSpid:\t4711\t12\t1\nSigPnd:\t%s\nShdPnd:\t%s\n"


def test_the_real_user_and_the_innermost_pid_are_taken() -> None:
    status = procfs.parse_status(STATUS % (b"0000000000000000", b"0000000000000000"))
    assert (status.uid, status.namespace_pid, status.kill_pending) == (1000, 1, False)


@pytest.mark.parametrize(("own", "shared"), [(b"0000000000000100", b"0" * 16), (b"0" * 16, b"0000000000000100")])
def test_a_sigkill_that_waits_is_seen(own: bytes, shared: bytes) -> None:
    assert procfs.parse_status(STATUS % (own, shared)).kill_pending


def test_a_kernel_without_pid_namespaces_has_one_pid() -> None:
    text = b"Pid:\t7\nUid:\t0 0 0 0\nSigPnd:\t0\nShdPnd:\t0\n"
    assert procfs.parse_status(text).namespace_pid == 7


def test_a_status_without_its_lines_is_reported() -> None:
    with pytest.raises(ValueError, match="SigPnd"):
        procfs.parse_status(b"Pid:\t7\n")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"0::/system.slice/ssh.service\n", "/system.slice/ssh.service"),
        (b"5:pids:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n", "/system.slice/cron.service"),
        (b"3:cpu,cpuacct:/docker/" + b"a" * 64 + b"\n0::/\n", "/docker/" + "a" * 64),
        (b"6:freezer:/frozen\n0::/\n", "/frozen"),
        (b"4:memory:/agent/7\n0::/\n", "/"),
        (b"0::/a:b/c\n", "/a:b/c"),
        (b"0::/a\x0bb\x1c\xff\n", "/a\x0bb\x1c\udcff"),
        (b"", "/"),
    ],
)
def test_the_cgroup_that_says_most_is_taken(text: bytes, path: str) -> None:
    assert procfs.one_cgroup(procfs.parse_cgroups(text)) == path


def test_arguments_are_split_at_their_ends_and_made_printable() -> None:
    assert procfs.parse_command_line(b"/bin/sh\0-c\0echo \x1b[31m\n\xff\0\0\0") == [
        "/bin/sh",
        "-c",
        "echo \\x1b[31m\\n\\xff",
    ]
    assert procfs.parse_command_line(b"") == []
    assert procfs.parse_command_line(b"\0\0") == []
