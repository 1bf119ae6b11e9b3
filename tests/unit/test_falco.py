"""Falco's alerts become events: the real ones field by field, and anything else never worse than malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.codec import FakeCodec
from workers.domain.errors import MalformedMessage
from workers.domain.event import ContainerRef, ProcessRef, RuntimeEvent
from workers.domain.event_bounds import LARGEST_LONG, LONGEST_TEXT, MOST_FIELDS
from workers.domain.falco.alert import event_from
from workers.domain.ids import EventId, LogId, is_execution_id
from workers.domain.log import topics
from workers.domain.log.record import LogPosition, Record
from workers.wire.event_reader import DetectorEvents, alerts_in, decoded

REAL = (Path(__file__).parent.parent / "data" / "falco-events.jsonl").read_bytes().splitlines()


def alert(**changes: Any) -> dict[str, Any]:
    """A minimal alert; `fields` are its output fields."""
    fields = changes.pop("fields", {})
    return {"rule": "R", "time": "2026-07-04T20:46:44.180672852Z", "output_fields": fields, **changes}


def record(value: bytes | None, topic: str = topics.FALCO_EVENTS) -> Record:
    return Record(LogPosition(LogId("log"), topic, 0), 0, None, value)


def test_a_new_alert_is_read_whole() -> None:
    event = event_from(decoded(REAL[0]))
    assert event.rule == "Terminal shell in container"
    assert event.detector == "falco"
    assert event.source == "syscall"
    assert event.priority == "notice"
    assert event.occurred_at_ns == 1783198004180672852
    assert event.host == "abbc238194b1"
    assert event.tags == ("T1059", "container", "maturity_stable", "mitre_execution", "shell")
    assert event.container == ContainerRef("16514a12c7ad", "lab9-target", "alpine:3.20")
    assert event.process_line == (), "stock rules name no pid"
    assert (event.namespace, event.workload) == ("", "")
    assert event.fields["proc.cmdline"] == 'sh -lc echo "shell-in-container test"'
    assert event.fields["user.loginuid"] == -1
    assert "k8s.ns.name" not in event.fields, "null is no value"
    assert is_execution_id(event.event_id), "without a uuid the id comes from the content"


def test_an_old_alert_without_hostname_source_and_tags_is_read() -> None:
    event = event_from(decoded(REAL[1]))
    assert (event.host, event.source, event.tags) == ("", "", ())
    assert event.occurred_at_ns == 1612815555325119960, "evt.time is 40 ns off: it went through a float"
    assert (event.namespace, event.workload) == ("default", "nginx")


def test_the_alerts_own_time_beats_a_field_of_another_year() -> None:
    event = event_from(decoded(REAL[2]))
    assert event.occurred_at_ns == 1558107116746609046
    assert event.file_path == "/bin/hack"


def test_falco_speaking_of_itself_is_marked_internal() -> None:
    event = event_from(decoded(REAL[3]))
    assert event.source == "internal"
    assert event.priority == "debug"
    assert event.occurred_at_ns % 10 == 3


@pytest.mark.parametrize(
    ("stamp", "nanoseconds"),
    [
        ("2026-07-04T20:46:44Z", 0),
        ("2026-07-04T20:46:44.1Z", 100_000_000),
        ("2026-07-04T20:46:44.000000003Z", 3),
        ("2026-07-04T22:46:44.180672852+02:00", 180_672_852),
        ("2026-07-04T16:16:44.18-0430", 180_000_000),
        ("2026-07-04T20:46:44.1806728529999Z", 180_672_852),
    ],
)
def test_times_of_any_precision_and_zone_are_exact(stamp: str, nanoseconds: int) -> None:
    assert event_from(alert(time=stamp)).occurred_at_ns == 1783198004 * 10**9 + nanoseconds


@pytest.mark.parametrize(
    ("stamp", "field", "expected"),
    [
        ("2026-07-04T20:46:44Z", 1783198004180672852, 1783198004180672852),
        ("2026-07-04T20:46:44.18Z", 1783198004180672852, 1783198004180672852),
        ("2026-07-04T20:46:44.19Z", 1783198004180672852, 1783198004190000000),
        ("2026-07-04T20:46:44.18Z", 1507591916746609046, 1783198004180000000),
        (None, 1783198004180672852, 1783198004180672852),
        ("yesterday", "1783198004180672852", 1783198004180672852),
        ("9999-12-31T23:59:59Z", 1783198004180672852, 1783198004180672852),
    ],
)
def test_a_field_refines_the_time_only_where_both_agree(stamp: str | None, field: object, expected: int) -> None:
    assert event_from(alert(time=stamp, fields={"evt.time": field})).occurred_at_ns == expected


@pytest.mark.parametrize(
    "stamp", [None, "", 5, "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "2026-07-04", "x" * 999]
)
def test_an_alert_without_a_possible_time_is_malformed(stamp: object) -> None:
    with pytest.raises(MalformedMessage) as caught:
        event_from(alert(time=stamp))
    assert caught.value.reason == "no_time"


@pytest.mark.parametrize("rule", [None, "", "  ", 7, ["R"]])
def test_an_alert_without_a_rule_is_malformed(rule: object) -> None:
    with pytest.raises(MalformedMessage) as caught:
        event_from(alert(rule=rule))
    assert caught.value.reason == "no_rule"


LINE = {
    "proc.pid": 220332,
    "proc.pid.ts": 1783198000000000001,
    "proc.exepath": "/usr/bin/curl",
    "proc.name": "curl",
    "proc.cmdline": "curl -ks https://x",
    "proc.ppid": 220307,
    "proc.ppid.ts": 1783197000000000002,
    "proc.pname": "bash",
    "proc.pexepath": "/bin/bash",
    "proc.apid[2]": 100,
    "proc.aname[2]": "sshd",
    "proc.aexepath[2]": "/usr/sbin/sshd",
    "proc.apid[3]": 1,
    "proc.aname[3]": "systemd",
}


def test_the_process_line_runs_from_the_process_to_its_ancestors() -> None:
    assert event_from(alert(fields=LINE)).process_line == (
        ProcessRef(220332, 1783198000000000001, "/usr/bin/curl", "curl", "curl -ks https://x"),
        ProcessRef(220307, 1783197000000000002, "/bin/bash", "bash"),
        ProcessRef(100, None, "/usr/sbin/sshd", "sshd"),
        ProcessRef(1, None, "", "systemd"),
    )


def test_a_gap_ends_the_process_line_so_that_no_ancestor_moves_up() -> None:
    fields = {name: value for name, value in LINE.items() if name != "proc.apid[2]"}
    assert len(event_from(alert(fields=fields)).process_line) == 2
    assert event_from(alert(fields={**LINE, "proc.pid": None})).process_line == ()


def test_replaced_brackets_are_read_too() -> None:
    replaced = {name.replace("[", "_").replace("]", ""): value for name, value in LINE.items()}
    assert event_from(alert(fields=replaced)).process_line == event_from(alert(fields=LINE)).process_line


@pytest.mark.parametrize(
    "pid", [0, -1, -4711, 1 << 22, 10**30, "4711x", True, 3.5, [4711], {"pid": 4711}, "<NA>", None]
)
def test_what_cannot_be_a_pid_names_no_process(pid: object) -> None:
    assert event_from(alert(fields={"proc.pid": pid})).process_line == ()


@pytest.mark.parametrize("pid", [4711, "4711", 4711.0])
def test_a_pid_may_travel_as_number_digits_or_float(pid: object) -> None:
    assert event_from(alert(fields={"proc.pid": pid})).process_line == (ProcessRef(4711),)


@pytest.mark.parametrize("started", [0, -1, 18446744073709551615, "soon", None, True])
def test_an_impossible_start_time_is_dropped(started: object) -> None:
    assert event_from(alert(fields={"proc.pid": 4711, "proc.pid.ts": started})).process_line == (ProcessRef(4711),)


FULL = "16514a12c7ad" + "0" * 52


@pytest.mark.parametrize(
    ("short", "full", "expected"),
    [
        ("16514a12c7ad", None, "16514a12c7ad"),
        ("16514a12c7ad", FULL, FULL),
        (None, FULL, FULL),
        ("16514a12c7ad", "f" * 64, ""),
        ("16514a12c7ad", "host", ""),
        ("host", FULL, ""),
        ("host", None, None),
        ("host", "", None),
        (None, None, None),
        ("web", None, ""),
        ("16514a12c7a", None, ""),
        ("16514a12c7ad", 7, "16514a12c7ad"),
        ("../../etc", None, ""),
        (12, None, ""),
    ],
)
def test_a_container_without_usable_hex_digits_is_still_one(short: object, full: object, expected: str | None) -> None:
    container = event_from(alert(fields={"container.id": short, "container.full_id": full})).container
    assert (container.id if container else None) == expected, "empty: a container without a usable id"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"fd.name": "/etc/shadow"}, "/etc/shadow"),
        ({"fd.name": "/etc/shadow", "fd.type": "file"}, "/etc/shadow"),
        ({"fd.name": "/run/x.sock", "fd.type": "unix"}, ""),
        ({"fd.name": "10.0.0.1:1->10.0.0.2:443"}, ""),
        ({"fd.name": "etc/shadow", "evt.arg.path": "/etc/shadow"}, "/etc/shadow"),
        ({"fs.path.name": "/real", "fd.name": "/other"}, "/real"),
        ({"fd.name": "/a\0b"}, ""),
        ({"fd.name": "/mangled\ufffd"}, ""),
        ({"fd.name": "/" + "a" * LONGEST_TEXT}, ""),
        ({"fd.name": ["/etc/shadow"]}, ""),
    ],
)
def test_only_a_whole_absolute_path_is_a_file(fields: dict[str, Any], expected: str) -> None:
    assert event_from(alert(fields=fields)).file_path == expected


@pytest.mark.parametrize(
    ("given_priority", "expected"),
    [("Informational", "informational"), ("INFO", "informational"), ("Warning", "warning"), ("odd", "odd"), (3, "")],
)
def test_priorities_are_falcos_own_names_in_lower_case(given_priority: object, expected: str) -> None:
    assert event_from(alert(priority=given_priority)).priority == expected


def test_a_uuid_is_the_events_id_and_a_strange_one_is_not() -> None:
    assert event_from(alert(uuid="3f5c7c1e-9d3a-4d0c-8a9e-0f1a2b3c4d5e")).event_id.startswith("3f5c7c1e")
    assert is_execution_id(event_from(alert(uuid="a\nb")).event_id)
    assert is_execution_id(event_from(alert(uuid="x" * 500)).event_id)


def test_an_id_from_content_depends_on_content_and_on_nothing_else() -> None:
    one = alert(fields={"a": 1, "b": "x"})
    assert event_from(one).event_id == event_from(dict(reversed(one.items()))).event_id
    for other in (alert(fields={"a": "1", "b": "x"}), alert(fields={"a": 1}), alert(hostname="h"), alert(output="o")):
        assert event_from(other).event_id != event_from(one).event_id


def test_our_own_audit_fed_back_names_the_execution_that_caused_it() -> None:
    execution_id = "01980000-0000-7000-8000-000000000000"
    assert event_from(alert(fields={"douse.execution_id": execution_id})).caused_by == execution_id
    assert event_from(alert(fields={"douse.execution_id": "not an id"})).caused_by == ""


def test_odd_fields_become_short_text_or_nothing() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    fields = event_from(
        alert(
            fields={
                "none": None,
                "huge": 10**5000,
                "long": LARGEST_LONG,
                "float": 0.5,
                "whole": 4.0,
                "nan": float("nan"),
                "list": [1, "a", None],
                "deep": deep,
                "map": {"a": {"b": 1}},
                "text": "y" * 100_000,
                "lone": "\ud800",
                "nul": "a\0b",
                7: "no name",
            }
        )
    ).fields
    assert set(fields) == {"huge", "long", "float", "whole", "nan", "list", "deep", "map", "text", "lone", "nul"}
    assert fields["whole"] == 4
    assert fields["list"] == "[1, a, None]"
    assert fields["map"] == "{a: {b: 1}}"
    assert fields["deep"] == "[[[[<list>]]]]"
    assert len(str(fields["text"])) == LONGEST_TEXT
    assert (fields["lone"], fields["nul"]) == ("?", "a\ufffdb")
    assert all(isinstance(value, str | int | bool) for value in fields.values())


def test_the_number_of_fields_is_bounded() -> None:
    assert len(event_from(alert(fields={f"f{n}": n for n in range(5000)})).fields) == MOST_FIELDS


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(categories=None))
    | st.sampled_from(["host", "<NA>", "2026-07-04T20:46:44Z", "/bin/sh", "16514a12c7ad", "Falco internal: x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELD_NAMES = st.sampled_from(
    [*LINE, "container.id", "container.full_id", "fd.name", "fd.type", "evt.time", "k8s.ns.name"]
)
ALERTS = ANYTHING | st.fixed_dictionaries(
    {"rule": st.just("R") | ANYTHING, "time": st.just("2026-07-04T20:46:44.18Z") | ANYTHING},
    optional={
        "output_fields": st.dictionaries(FIELD_NAMES, ANYTHING, max_size=8) | ANYTHING,
        **dict.fromkeys(("uuid", "hostname", "source", "tags", "priority", "output"), ANYTHING),
    },
)


@given(ALERTS)
def test_anything_is_an_event_or_malformed_and_the_same_each_time(found: Any) -> None:
    try:
        event = event_from(found)
    except MalformedMessage:
        return
    assert event == event_from(found)
    for text in (event.event_id, event.rule, event.host, event.message, event.file_path, *event.fields, *event.tags):
        text.encode()
    assert 0 < event.occurred_at_ns <= LARGEST_LONG
    assert all(0 < process.pid < 1 << 22 for process in event.process_line)


@given(st.binary(max_size=200) | ALERTS.map(lambda found: json.dumps(found, default=str).encode("utf-8", "replace")))
def test_any_bytes_are_an_event_or_malformed(data: bytes) -> None:
    try:
        DetectorEvents(FakeCodec()).read(record(data))
    except MalformedMessage:
        return


@pytest.mark.parametrize("line", REAL)
def test_a_real_alert_cut_or_flipped_anywhere_is_an_event_or_malformed(line: bytes) -> None:
    reader = DetectorEvents(FakeCodec())
    for at in range(0, len(line), 3):
        for mangled in (line[:at], line[:at] + bytes([line[at] ^ 0x41]) + line[at + 1 :]):
            try:
                reader.read(record(mangled))
            except MalformedMessage:
                continue


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no_value"),
        (b"", "undecodable"),
        (b"\xff\xfe", "undecodable"),
        (b"[" * 100_000, "undecodable"),
        (b'{"a":' * 50_000, "undecodable"),
        (b'{"rule": NaN}', "undecodable"),
        (b'"' + b"a" * (1 << 20) + b'"', "oversize"),
        (b"null", "not_an_object"),
        (b"[1]", "not_an_object"),
        (b"{}", "no_rule"),
    ],
)
def test_poison_is_malformed_with_a_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        DetectorEvents(FakeCodec()).read(record(value))
    assert caught.value.reason == reason


def test_events_of_other_detectors_are_read_through_the_codec_and_bounded() -> None:
    codec = FakeCodec()
    line = (ProcessRef(4711, -5, command_line="c" * 9999), ProcessRef(0), ProcessRef(1))
    event = RuntimeEvent(
        EventId("e"),
        "d",
        "s",
        "R",
        "notice",
        1783198004180672852,
        "h",
        process_line=line,
        container=ContainerRef("web", "web-1"),
        file_path="relative",
    )
    read = DetectorEvents(codec).read(record(codec.encode(event), topics.RUNTIME_EVENTS))
    assert read.process_line == (ProcessRef(4711, None, command_line="c" * 1024),)
    assert read.file_path == ""
    assert read.container == ContainerRef("", "web-1"), "not one of the host because its container's id is unusable"
    for broken in (
        RuntimeEvent(EventId(""), "d", "s", "R", "notice", 1, "h"),
        RuntimeEvent(EventId("e"), "d", "s", "", "notice", 1, "h"),
        RuntimeEvent(EventId("e"), "d", "s", "R", "notice", 1 << 63, "h"),
    ):
        with pytest.raises(MalformedMessage):
            DetectorEvents(codec).read(record(codec.encode(broken), topics.RUNTIME_EVENTS))


def test_an_event_that_was_normalised_once_stays_as_it_is() -> None:
    codec = FakeCodec()
    for line in REAL:
        event = event_from(decoded(line))
        assert DetectorEvents(codec).read(record(codec.encode(event), topics.RUNTIME_EVENTS)) == event


def test_a_file_of_alerts_may_be_one_a_list_or_one_a_line() -> None:
    assert len(alerts_in(b"\n".join(REAL))) == 4
    assert len(alerts_in(b"[" + b",".join(REAL) + b"]")) == 4
    assert len(alerts_in(REAL[0])) == 1
    with pytest.raises(MalformedMessage, match="line 2: not JSON"):
        alerts_in(REAL[0] + b"\n{broken\n")


@pytest.mark.parametrize(
    ("command", "secret"),
    [
        ("mysql --password hunter2 -h db", "hunter2"),
        ("mysql --password=hunter2", "hunter2"),
        ("curl -u bob:hunter2 https://x", "hunter2"),
        ("env AWS_SECRET_ACCESS_KEY=hunter2 aws", "hunter2"),
        ("aws AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_a_command_lines_secret_is_in_no_part_of_the_event(command: str, secret: str) -> None:
    fields = {"proc.pid": 4711, "proc.cmdline": command, "proc.pcmdline": command, "proc.ppid": 4710}
    event = event_from(alert(output=f"spawned (command={command} user=root)", fields=fields))
    assert secret not in repr(event)
    assert len(event.process_line) == 2


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["a-a.", "pass_", "token:", "a+", "eyJ-", "password ", "a='", "://", "bearer "])
def test_a_hostile_field_does_not_make_masking_slow(piece: str) -> None:
    """32 full fields: far under a second where masking looks at each character once, a hang where it backtracks."""
    hostile = ("key" + piece * LONGEST_TEXT)[:LONGEST_TEXT]
    assert len(event_from(alert(fields={f"f{n}": hostile for n in range(32)})).fields) == 32
