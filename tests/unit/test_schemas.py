"""The schema files: each field documented, shared parts identical, every release readable for ever."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.strategies import commands, node_states
from workers.domain.command import ActionCommand
from workers.domain.errors import ConfigError
from workers.domain.event import ContainerRef, ProcessRef
from workers.domain.node_state import CommandPosition, NodeState, Progress
from workers.domain.outcome import PostCondition
from workers.domain.request import Actor, Causation, Step
from workers.domain.target import ContainerTarget, FileTarget, NetworkTarget, ProcessTarget, ReviewedFile
from workers.domain.targets.file import Extent, FileAttribute, FileIdentity
from workers.system.data_files import data_directory
from workers.wire.avro import AvroCodec
from workers.wire.avro.compatibility import broken_promises, nested_types, unreadable
from workers.wire.avro.mapping import RECORDS, to_wire
from workers.wire.avro.schemas import Schema, SchemaSet, load_schemas, read_schema, schema_set

SCHEMAS = load_schemas()
RELEASED = json.loads((Path(__file__).parent / "released_schemas.json").read_text())
COMMAND = SCHEMAS.current["douse.v1.ActionCommand"]
STATE = SCHEMAS.current["douse.v1.NodeState"]
NESTED: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Actor,
        Causation,
        CommandPosition,
        ContainerRef,
        ContainerTarget,
        Extent,
        FileAttribute,
        FileIdentity,
        FileTarget,
        NetworkTarget,
        PostCondition,
        ProcessRef,
        ProcessTarget,
        Progress,
        ReviewedFile,
        Step,
    )
}


@pytest.fixture(params=sorted(SCHEMAS.current), name="current")
def _current(request: pytest.FixtureRequest) -> Schema:
    return SCHEMAS.current[str(request.param)]


def test_every_record_has_one_schema_and_every_schema_a_record() -> None:
    assert set(SCHEMAS.current) == set(RECORDS.values())


def test_a_schema_has_exactly_its_record_s_fields_and_the_file_its_name(current: Schema) -> None:
    cls = next(cls for cls, name in RECORDS.items() if name == current.name)
    assert [f["name"] for f in current.source["fields"]] == [f.name for f in dataclasses.fields(cls)]
    words = "".join(part.capitalize() for part in current.file.removesuffix(".v1.avsc").split("_"))
    assert f"douse.v1.{words}" == current.name


def test_a_nested_record_has_exactly_its_class_s_fields(current: Schema) -> None:
    for name, record in nested_types(current.source).items():
        cls = NESTED.get(name.removeprefix("douse.v1."))
        if cls is not None:
            assert [f["name"] for f in record["fields"]] == [f.name for f in dataclasses.fields(cls)]
        else:
            assert name.removeprefix("douse.v1.") in {"Target", "Header", *(known.__name__ for known in RECORDS)}


def test_every_record_and_field_is_documented(current: Schema) -> None:
    silent = [
        f"{name}.{field.get('name', '')}"
        for name, record in nested_types(current.source).items()
        for field in (record, *record["fields"])
        if not field.get("doc", "").strip()
    ]
    assert silent == []


def test_a_field_with_a_default_in_the_record_has_one_in_the_schema(current: Schema) -> None:
    cls = next(cls for cls, name in RECORDS.items() if name == current.name)
    optional = {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    assert optional <= {f["name"] for f in current.source["fields"] if "default" in f}


def test_a_nested_type_is_the_same_in_every_file() -> None:
    seen: dict[str, tuple[str, Any]] = {}
    for schema in SCHEMAS.current.values():
        for name, record in _without_repeats(schema.source):
            first_file, first = seen.setdefault(name, (schema.file, record))
            assert record == first, f"{name} differs between {first_file} and {schema.file}"


def test_no_schema_refers_to_itself_so_nesting_is_bounded(current: Schema) -> None:
    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"{name} is inside itself"
        for used in _used(types[name]):
            if used in types:
                visit(used, (*path, name))

    types = nested_types(current.source)
    visit(current.name, ())


# Releases


@pytest.mark.fault("F24")
def test_every_current_schema_reads_and_is_read_by_every_frozen_version() -> None:
    assert broken_promises(SCHEMAS) == ()


def test_a_released_schema_is_never_edited_removed_or_added_in_silence() -> None:
    frozen = data_directory("schemas") / "frozen"
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(frozen.glob("*.avsc"))}
    assert digests == RELEASED, "schemas/frozen and tests/unit/released_schemas.json differ: a release is for ever"


Change = Callable[[dict[str, Any]], None]


def _add(field: dict[str, Any]) -> Change:
    return lambda source: source["fields"].append(field)


def _drop(name: str) -> Change:
    def change(source: dict[str, Any]) -> None:
        source["fields"] = [field for field in source["fields"] if field["name"] != name]

    return change


def _retype(name: str, new: Any) -> Change:
    def change(source: dict[str, Any]) -> None:
        field = next(field for field in source["fields"] if field["name"] == name)
        field["type"] = new
        field.pop("default", None)

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_add({"name": "new", "type": "string"}), "no default"),
        (_drop("node_id"), "no default"),
        (_retype("node_id", "long"), "string became long"),
        (_retype("target", "string"), "Target became string"),
        (_retype("parameters", {"type": "map", "values": "string"}), "long became string"),
        (_retype("approvals", {"type": "array", "items": "string"}), "bytes became string"),
        (_retype("dry_run", ["null", "string"]), "in no branch"),
    ],
)
def test_a_change_that_breaks_a_reader_is_reported(change: Change, complaint: str) -> None:
    assert any(complaint in line for line in broken_promises(_after(change)))


@pytest.mark.parametrize(
    "change", [_add({"name": "new", "type": "string", "default": ""}), _drop("annotations"), _drop("reason")]
)
def test_a_change_within_the_rules_is_not_reported(change: Change) -> None:
    assert broken_promises(_after(change)) == ()


def test_a_released_version_equal_to_the_current_one_is_read_without_resolving() -> None:
    both = schema_set([COMMAND, _frozen(COMMAND)])
    assert both.by_fingerprint[COMMAND.fingerprint] is COMMAND
    assert [schema.file for schema in both.frozen] == [f"frozen/{COMMAND.file}"]


def test_a_default_taken_away_is_reported_though_the_fingerprint_stays() -> None:
    def change(source: dict[str, Any]) -> None:
        source["fields"] = [{k: v for k, v in f.items() if k != "default"} for f in source["fields"]]

    changed = _changed(change, file=COMMAND.file)
    assert changed.fingerprint == COMMAND.fingerprint
    older = _changed(_drop("annotations"), file="frozen/older.avsc")
    assert any("annotations" in line for line in broken_promises(schema_set([changed, older])))


def test_a_record_that_vanished_is_reported() -> None:
    kept = [schema for schema in SCHEMAS.current.values() if schema is not COMMAND]
    (line,) = broken_promises(schema_set([*kept, _frozen(COMMAND)]))
    assert "no current schema" in line


@pytest.mark.fault("F24")
@settings(max_examples=20)
@given(commands)
def test_an_older_and_a_newer_version_are_read_as_the_current_one(command: ActionCommand) -> None:
    others = [schema for schema in SCHEMAS.current.values() if schema is not COMMAND]
    older = _changed(_drop("annotations"), file="frozen/older.avsc")
    newer = _changed(_add({"name": "new", "type": "long", "default": 7}), file="frozen/newer.avsc")
    here = AvroCodec(schema_set([COMMAND, older, newer, *others]))
    without = dataclasses.replace(command, annotations={})
    for other, expected in ((older, without), (newer, command)):
        there = dataclasses.replace(other, file="current.avsc")
        wire = _Raw(schema_set([there, *others])).write(command)
        assert wire[2:10] == other.fingerprint
        assert here.decode(wire, ActionCommand) == expected


@pytest.mark.fault("F24")
@settings(max_examples=2)
@given(st.data())
def test_producers_and_consumers_of_three_generations_read_each_other(data: st.DataObject) -> None:
    """The last release or what came before a field, today, and one field more: every record type, every pair."""
    cells = 0
    for name, schema in SCHEMAS.current.items():
        others = [each for each in SCHEMAS.current.values() if each is not schema]
        newer = _changed(_add({"name": "new", "type": "long", "default": 7}), file="frozen/newer.avsc", of=schema)
        generations = [*(each for each in SCHEMAS.frozen if each.name == name), schema, newer]
        cls = next(cls for cls, known in RECORDS.items() if known == name)
        record = data.draw(strategies.RECORDS[cls])
        for producer in generations:
            wire = _Raw(schema_set([dataclasses.replace(producer, file="current.avsc"), *others])).write(record)
            for consumer in generations:
                known = [
                    dataclasses.replace(each, file=f"frozen/{number}.avsc")
                    for number, each in enumerate(generations)
                    if each is not consumer and each.fingerprint != consumer.fingerprint
                ]
                codec = AvroCodec(schema_set([dataclasses.replace(consumer, file="current.avsc"), *known, *others]))
                read: object = codec.decode(wire, cls)
                assert type(read) is cls
                cells += 1
    print(f"\n{cells} pairs of producer and consumer read each other")
    assert cells >= 4 * len(SCHEMAS.current)


@settings(max_examples=20)
@given(node_states)
def test_a_heartbeat_of_an_older_or_newer_node_is_read_and_an_older_reader_reads_the_current_one(
    state: NodeState,
) -> None:
    """By the very schema of the first release, which knows nothing of uploads and of runtimes."""
    others = [schema for schema in SCHEMAS.current.values() if schema is not STATE]
    (released,) = (each for each in SCHEMAS.frozen if each.file == "frozen/node_state.0.1.0.avsc")
    newer = _changed(_add({"name": "new", "type": "long", "default": 7}), file="frozen/newer.avsc", of=STATE)
    here = AvroCodec(schema_set([STATE, released, newer, *others]))
    then = dataclasses.replace(released, file=STATE.file)
    without = dataclasses.replace(state, gathering=(), runtimes=())
    for there, expected in ((then, without), (newer, state)):
        wire = _Raw(schema_set([dataclasses.replace(there, file="current.avsc"), *others])).write(state)
        assert wire[2:10] == there.fingerprint
        assert here.decode(wire, NodeState) == expected
    ours = AvroCodec().encode(state)
    assert AvroCodec().decode(ours, NodeState) == state
    past = AvroCodec(schema_set([then, dataclasses.replace(STATE, file="frozen/ours.avsc"), *others]))
    assert past.decode(ours, NodeState) == without


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"type": "record"}', '{"type": "record", "name": "A", "fields": [1]}', "3"]
)
def test_a_file_that_is_not_a_schema_is_a_configuration_error_naming_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"schemas/broken\.avsc"):
        read_schema(text, "broken.avsc")


def test_two_current_files_for_one_record_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="already"):
        schema_set([COMMAND, dataclasses.replace(COMMAND, file="again.avsc")])


def test_a_missing_record_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="ActionCommand"):
        AvroCodec(schema_set(schema for schema in SCHEMAS.current.values() if schema is not COMMAND))


def test_a_schema_reads_itself() -> None:
    assert unreadable(COMMAND.source, COMMAND.source) == ()


class _Raw:
    """Writes with whatever fields a schema set's record has."""

    def __init__(self, schemas: SchemaSet) -> None:
        self._schemas = schemas

    def write(self, record: Any) -> bytes:
        schema, body = self._schemas.current[RECORDS[type(record)]], io.BytesIO()
        fastavro.schemaless_writer(body, schema.parsed, to_wire(record))
        return b"\xc3\x01" + schema.fingerprint + body.getvalue()


def _changed(change: Change, *, file: str, of: Schema = COMMAND) -> Schema:
    source = copy.deepcopy(of.source)
    change(source)
    return read_schema(json.dumps(source), file)


def _frozen(schema: Schema) -> Schema:
    return dataclasses.replace(schema, file=f"frozen/{schema.file}")


def _after(change: Change) -> SchemaSet:
    return schema_set([_changed(change, file=COMMAND.file), _frozen(COMMAND)])


def _without_repeats(source: Any) -> Iterator[tuple[str, Any]]:
    """Each named type once, with the types inside it by name only, so that first mentions compare equal."""
    for name, record in nested_types(source).items():
        yield name.removeprefix("douse.v1."), _shallow(record)


def _shallow(schema: Any, *, top: bool = True) -> Any:
    match schema:
        case list():
            return [_shallow(branch, top=False) for branch in schema]
        case {"type": "record"} if not top:
            return f"douse.v1.{schema['name']}"
        case {"type": "record"}:
            fields = [{**field, "type": _shallow(field["type"], top=False)} for field in schema["fields"]]
            return {"name": schema["name"], "doc": schema["doc"], "fields": fields}
        case {"type": "array"}:
            return {"type": "array", "items": _shallow(schema["items"], top=False)}
        case _:
            return schema


def _used(record: Any) -> set[str]:
    text = json.dumps(_shallow(record))
    return {part for part in text.split('"') if part.startswith("douse.v1.")}
