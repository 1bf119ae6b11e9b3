"""What every kind of target owes to the rest: a name on every interface, a record on the wire, and its checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from tests.strategies import container_ids, moments, targets
from workers.domain.event import ProcessRef, RuntimeEvent
from workers.domain.ids import EventId
from workers.domain.target import KINDS, ContainerTarget, FileTarget, NetworkTarget, ProcessTarget, Target
from workers.domain.target_kind import NoTarget

SCHEMAS = Path(__file__).parent.parent.parent / "schemas"
SECOND = 10**9

sound = st.one_of(
    st.builds(
        lambda pid, start, at: ProcessTarget((ProcessRef(pid, start),), at),
        st.integers(1, (1 << 22) - 1),
        st.none() | st.integers(1, (1 << 63) - 1),
        moments,
    ),
    st.builds(ContainerTarget, container_ids, moments),
    st.builds(FileTarget, st.just(b"/tmp/\xffx"), moments, container_ids | st.just("")),
    st.builds(NetworkTarget, moments, container_ids | st.just("")),
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_strategies_make_every_kind(kind: type[Target]) -> None:
    assert isinstance(find(targets, lambda target: isinstance(target, kind)), kind)


def test_every_kind_has_its_field_in_the_avro_record_of_targets() -> None:
    for record in ("action_request", "action_command"):
        assert _target_fields(record) == {kind.kind for kind in KINDS}


@given(target=sound)
def test_a_target_named_by_its_own_names_is_the_same_target(target: Target) -> None:
    assert target.fault() is None
    again = type(target).named(target.names(), now_ns=target.observed_at_ns)
    assert again.names() == target.names()


@given(target=targets)
def test_any_target_can_be_described_and_queued(target: Target) -> None:
    """Also one that is none: what arrives over the log is shown and refused, never a crash."""
    target.fault()
    assert target.describe()
    assert target.serial_key.startswith(target.kind)
    assert target.incarnation.startswith(target.kind)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (ProcessTarget((), 1), ""),
        (ProcessTarget((ProcessRef(0),), 1), "pid"),
        (ProcessTarget((ProcessRef(1 << 22),), 1), "pid"),
        (ProcessTarget((ProcessRef(7), ProcessRef(-1)), 1), "pid"),
        (ProcessTarget((ProcessRef(7, 0),), 1), "start_time_ns"),
        (ContainerTarget("", 1), "id"),
        (ContainerTarget("web", 1), "id"),
        (ContainerTarget("AB" * 32, 1), "id"),
        (ContainerTarget("a" * 65, 1), "id"),
        (FileTarget(b"relative", 1), "path"),
        (FileTarget(b"/a\0b", 1), "path"),
        (FileTarget("/cut\ufffd".encode(), 1), "path"),
        (FileTarget(b"/a", 1, "web"), "container_id"),
        (NetworkTarget(1, "web"), "container_id"),
    ],
)
def test_what_cannot_be_a_target_is_refused_with_the_field_that_is_wrong(target: Target, field: str) -> None:
    fault = target.fault()
    assert fault is not None
    assert fault.field == field


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_that_names_nothing_gives_no_target(kind: type[Target]) -> None:
    event = RuntimeEvent(EventId("e"), "falco", "syscall", "rule", "notice", SECOND, "web-1")
    found = kind.from_event(event)
    assert isinstance(found, NoTarget)
    assert found.code == "lacks_field"
    assert any(found.field in needed.any_of for needed in kind.detector_fields if needed.needed)


def _target_fields(record: str) -> set[str]:
    """The fields of the record ``Target`` in a schema."""
    pending: list[Any] = [json.loads((SCHEMAS / f"{record}.v1.avsc").read_text())]
    while pending:
        match pending.pop():
            case {"name": "Target", "fields": list(fields)}:
                return {field["name"] for field in fields}
            case dict() as node:
                pending += node.values()
            case list() as nodes:
                pending += nodes
    raise AssertionError(f"{record} has no record Target")
