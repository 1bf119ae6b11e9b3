"""Whether what one schema version wrote, another can read: Avro's resolution rules, checked before release.

Called by ``douse schemas check`` and the tests. Judges schema files alone, pure; stricter than Avro in one point: no
promotion between number types, since no Douse record needs one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from workers.wire.avro.schemas import SchemaSet

Named = Mapping[str, Any]

_NAMED = ("record", "enum", "fixed")


def unreadable(writer: Any, reader: Any) -> tuple[str, ...]:
    """Why a reader with schema ``reader`` cannot read what ``writer`` wrote; empty when it can."""
    return tuple(_compare(writer, reader, nested_types(writer), nested_types(reader), at=str(reader.get("name", ""))))


def broken_promises(schemas: SchemaSet) -> tuple[str, ...]:
    """FULL_TRANSITIVE: every current schema against every frozen version of its record, both ways."""
    complaints = []
    for old in schemas.frozen:
        new = schemas.current.get(old.name)
        if new is None:
            complaints.append(f"{old.file}: {old.name} is released and has no current schema")
            continue
        complaints += [f"{new.file} cannot read {old.file}: {why}" for why in unreadable(old.source, new.source)]
        complaints += [f"{old.file} cannot read {new.file}: {why}" for why in unreadable(new.source, old.source)]
    return tuple(complaints)


def _compare(writer: Any, reader: Any, written: Named, read: Named, *, at: str) -> Iterator[str]:
    writer, reader = _resolve(writer, written), _resolve(reader, read)
    if isinstance(writer, list):
        for branch in writer:
            yield from _compare(branch, reader, written, read, at=at)
        return
    if isinstance(reader, list):
        if not any(_kind(writer, written) == _kind(branch, read) for branch in reader):
            yield f"{at}: {_kind(writer, written)} is in no branch of the reader"
            return
        reader = next(b for b in reader if _kind(writer, written) == _kind(b, read))
        reader = _resolve(reader, read)
    if _kind(writer, written) != _kind(reader, read):
        yield f"{at}: {_kind(writer, written)} became {_kind(reader, read)}"
        return
    match reader:
        case {"type": "record"}:
            yield from _compare_fields(writer, reader, written, read, at=at)
        case {"type": "array"}:
            yield from _compare(writer["items"], reader["items"], written, read, at=f"{at}[]")
        case {"type": "map"}:
            yield from _compare(writer["values"], reader["values"], written, read, at=f"{at}{{}}")


def _compare_fields(writer: Any, reader: Any, written: Named, read: Named, *, at: str) -> Iterator[str]:
    given = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        name = field["name"]
        if name in given:
            yield from _compare(given[name]["type"], field["type"], written, read, at=f"{at}.{name}")
        elif "default" not in field:
            yield f"{at}.{name}: missing in what was written, and has no default"


def _resolve(schema: Any, named: Named) -> Any:
    """A name stands for its definition; ``{"type": "string"}`` for ``"string"``."""
    if isinstance(schema, str):
        return named.get(schema, schema)
    if isinstance(schema, dict) and schema["type"] not in (*_NAMED, "array", "map"):
        return _resolve(schema["type"], named)
    return schema


def _kind(schema: Any, named: Named) -> str:
    found = _resolve(schema, named)
    if isinstance(found, dict):
        return str(found["name"]).rpartition(".")[2] if found["type"] in _NAMED else str(found["type"])
    return str(found)


def nested_types(schema: Any, namespace: str = "") -> dict[str, Any]:
    """Every named type inside a schema, itself included, by its full and by its short name."""
    found: dict[str, Any] = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= nested_types(branch, namespace)
    elif isinstance(schema, dict):
        if schema.get("type") in _NAMED:
            namespace = schema.get("namespace", namespace)
            full = f"{namespace}.{schema['name']}" if namespace else schema["name"]
            found |= {full: schema, schema["name"]: schema}
        for part in (*(f["type"] for f in schema.get("fields", ())), schema.get("items"), schema.get("values")):
            found |= nested_types(part, namespace)
        if isinstance(schema.get("type"), (dict, list)):
            found |= nested_types(schema["type"], namespace)
    return found
