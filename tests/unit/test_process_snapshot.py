"""The snapshot's document: bounded, the same for the same state, without secrets, described in full; and its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.processes import FakeProcesses
from workers.domain.targets.process_snapshot import (
    ChildShown,
    ExecutableFile,
    Limit,
    Listed,
    Mapped,
    OpenFile,
    OpenSocket,
    ProcessSnapshot,
    ThreadShown,
    Variable,
    document,
)
from workers.domain.targets.redaction import MASK, shown_variable
from workers.host.processes import net_tables, tables

FACTS = FakeProcesses().spawn().facts
DESCRIBED = Path(__file__).resolve().parents[2] / "docs" / "process-snapshot.md"
CANARY = "c4n4ryS3cretValue9"
FULL = ProcessSnapshot(
    process=FACTS,
    taken_at_ns=1,
    missing={"environment": "permission denied"},
    executable=ExecutableFile("/tmp/x", 1, 2, 3, 0o755, 0, 4, "ext4", "0" * 64),
    status={"State": "S (sleeping)"},
    stat=dict.fromkeys(tables.STAT_FIELDS, 0),
    cgroups={"": "/"},
    namespaces={"net": "net:[1]"},
    limits=(Limit("Max open files", "1024", "4096", "files"),),
    threads=Listed((ThreadShown(1, "x", "S"),)),
    children=Listed((ChildShown(2, "y", "S", 3),)),
    files=Listed((OpenFile(0, "/dev/null", 0, "0100000"),)),
    sockets=Listed((OpenSocket(1, "tcp", "LISTEN", "127.0.0.1:1", "0.0.0.0:0"),)),
    maps=Listed((Mapped("1", "2", "r-xp", "0", "08:01", 1, "/tmp/x"),)),
    environment=Listed((Variable("HOME", "/root"), Variable("ODD", None))),
)


def keys_of(value: Any) -> set[str]:
    """Every key of a document, whatever it lies in; not the names that the kernel gives."""
    if isinstance(value, dict):
        kernels = {"status", "missing", "cgroups", "namespaces"}
        return set(value) | {key for name, part in value.items() if name not in kernels for key in keys_of(part)}
    if isinstance(value, list):
        return {key for part in value for key in keys_of(part)}
    return set()


def test_every_key_of_the_document_is_described() -> None:
    described = DESCRIBED.read_text(encoding="utf-8")
    missing = {key for key in keys_of(json.loads(document(FULL, limit=1 << 20).content)) if f"`{key}`" not in described}
    assert missing == set()


def test_the_same_state_is_the_same_bytes_and_schema_and_version_come_first() -> None:
    one, two = document(FULL, limit=1 << 20), document(FULL, limit=1 << 20)
    assert one == two
    assert list(json.loads(one.content))[:3] == ["schema", "version", "process"]
    assert not one.truncated


many = st.integers(0, 3000)


@given(files=many, maps=many, variables=many, limit=st.integers(5_000, 400_000), cut_before=st.booleans())
def test_it_is_never_longer_than_its_limit_and_marks_what_was_cut(
    files: int, maps: int, variables: int, limit: int, cut_before: bool
) -> None:
    snapshot = ProcessSnapshot(
        process=FACTS,
        taken_at_ns=1,
        files=Listed(FULL.files.items * files, truncated=cut_before),
        maps=Listed(FULL.maps.items * maps),
        environment=Listed(FULL.environment.items[:1] * variables),
    )
    made = document(snapshot, limit=limit)
    assert len(made.content) <= limit
    read = json.loads(made.content)
    for name, count in (("files", files), ("maps", maps), ("environment", variables)):
        cut = len(read[name]["items"]) < count
        assert read[name]["truncated"] is (cut or (cut_before and name == "files"))
    assert made.truncated is any(read[name]["truncated"] for name in ("files", "maps", "environment"))


def test_a_document_that_is_too_long_without_its_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes without its lists"):
        document(FULL, limit=100)


@given(st.text(max_size=5000))
def test_any_text_of_a_process_makes_a_document(text: str) -> None:
    snapshot = ProcessSnapshot(process=FACTS, taken_at_ns=1, working_directory=text, status={text: text})
    read = json.loads(document(snapshot, limit=1 << 20).content)
    assert len(read["working_directory"]) <= 4096


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "snapshot",
    [
        ProcessSnapshot(FACTS, 1, working_directory=f"/srv/token={CANARY}"),
        ProcessSnapshot(FACTS, 1, files=Listed((OpenFile(3, f"/x?api_key={CANARY}", 0, ""),))),
        ProcessSnapshot(FACTS, 1, maps=Listed((Mapped("", "", "", "", "", 1, f"postgres://a:{CANARY}@b"),))),
        ProcessSnapshot(FACTS, 1, status={"Name": f"password={CANARY}"}),
        ProcessSnapshot(FACTS, 1, cgroups={"": f"/secret={CANARY}"}),
    ],
)
def test_a_secret_in_any_text_is_masked(snapshot: ProcessSnapshot) -> None:
    made = document(snapshot, limit=1 << 20).content
    assert CANARY.encode() not in made
    assert MASK.encode() in made


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("HOME=/root", ("HOME", "/root")),
        ("LC_ALL=C", ("LC_ALL", "C")),
        ("EMPTY=", ("EMPTY", None)),
        (f"AWS_SECRET_ACCESS_KEY={CANARY}", ("AWS_SECRET_ACCESS_KEY", None)),
        (f"UNKNOWN={CANARY}", ("UNKNOWN", None)),
        (f"PATH=/x?token={CANARY}", ("PATH", f"/x?token={MASK}")),
        (CANARY, (MASK, None)),
        (f"{CANARY} not a name=x", (MASK, None)),
        (f"={CANARY}", (MASK, None)),
        ("A" * 200 + "=x", (MASK, None)),
        (f"home={CANARY}", ("home", None)),
    ],
)
def test_a_variable_is_shown_only_where_it_is_known_to_be_harmless(entry: str, shown: tuple[str, str | None]) -> None:
    assert shown_variable(entry) == shown


@given(st.text(max_size=50), st.text(min_size=8, max_size=50))
def test_no_value_of_an_unknown_variable_is_ever_shown(name: str, value: str) -> None:
    named, shown = shown_variable(f"X_{name}={value}")
    assert shown is None
    assert named == MASK or named == f"X_{name}"[: len(named)]


# --- the kernel's tables ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
def test_no_bytes_trip_a_table(text: bytes) -> None:
    tables.status(text)
    tables.stat(text)
    tables.limits(text)
    list(tables.maps(text))
    tables.position_and_flags(text)
    tables.filesystem(text, 1)
    for table in net_tables.TABLES:
        net_tables.parsed(table, text)


def test_maps_are_read_with_their_paths() -> None:
    text = (
        b"7f00-7f10 r-xp 00001000 08:01 131   /tmp/a b\\012c\n"
        b"7f10-7f20 rw-p 00000000 00:00 0 \nffff-fff0 --xp 00000000 00:00 0   [vsyscall]\nnonsense\n"
    )
    assert list(tables.maps(text)) == [
        Mapped("7f00", "7f10", "r-xp", "00001000", "08:01", 131, "/tmp/a b\\012c"),
        Mapped("7f10", "7f20", "rw-p", "00000000", "00:00", 0, ""),
        Mapped("ffff", "fff0", "--xp", "00000000", "00:00", 0, "[vsyscall]"),
    ]


def test_limits_are_read_by_their_columns() -> None:
    text = (
        b"Limit                     Soft Limit           Hard Limit           Units     \n"
        b"Max open files            1024                 unlimited            files     \n"
        b"Max nice priority         0                    0                    \n"
    )
    assert tables.limits(text) == (
        Limit("Max open files", "1024", "unlimited", "files"),
        Limit("Max nice priority", "0", "0", ""),
    )


def test_stat_is_read_behind_whatever_the_name_holds() -> None:
    read = tables.stat(b"42 (a) R 9 (b) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 3 0 987 1000 10 184")
    assert (read["parent_pid"], read["threads"], read["start_ticks"]) == (1, 3, 987)


@pytest.mark.parametrize(
    ("table", "line", "wanted"),
    [
        (
            "tcp",
            b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100",
            OpenSocket(4711, "tcp", "LISTEN", "127.0.0.1:8080", "0.0.0.0:0"),
        ),
        (
            "tcp6",
            b"   1: 00000000000000000000000001000000:0016 00000000000000000000000001000000:C350 01 0:0 0:0 0 0 0 12 1",
            OpenSocket(12, "tcp6", "ESTABLISHED", "[::1]:22", "[::1]:50000"),
        ),
        (
            "udp",
            b"  99: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0",
            OpenSocket(77, "udp", "07", "0.0.0.0:68", "0.0.0.0:0"),
        ),
        (
            "unix",
            b"0000000000000000: 00000002 00000000 00010000 0001 01 555 /run/a b.sock\n",
            OpenSocket(555, "unix stream", "LISTEN", "/run/a b.sock", ""),
        ),
        (
            "packet",
            b"00000000 3      3    0003   2     1 0      0      66",
            OpenSocket(66, "packet", "", "protocol 0003, interface 2", ""),
        ),
        (
            "netlink",
            b"0000000000000000 16  30149      00000000 0        0        0     2        0        83",
            OpenSocket(83, "netlink", "", "family 16, port 30149", ""),
        ),
        (
            "tcp",
            b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            None,
        ),
        ("unix", b"Num       RefCount Protocol Flags    Type St Inode Path", None),
    ],
)
def test_sockets_are_read(table: str, line: bytes, wanted: OpenSocket | None) -> None:
    assert net_tables.parsed(table, line) == wanted
