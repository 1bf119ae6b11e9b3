"""Makes message classes out of our own small ``.proto`` files, at run time: no generated code to keep or to trust.

Called by ``endpoint``. The files are ours, and use this much of the language: one package, flat messages and enums,
scalars, ``repeated``, ``map``, and comments. A test compares the reading with that of the real compiler.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

_COMMENT: Final = re.compile(r"//[^\n]*")
_PACKAGE: Final = re.compile(r"package\s+([\w.]+)\s*;")
_BLOCK: Final = re.compile(r"(message|enum)\s+(\w+)\s*\{([^}]*)\}")
_VALUE: Final = re.compile(r"(\w+)\s*=\s*(\d+)\s*;")
_FIELD: Final = re.compile(r"(?:(repeated)\s+)?(?:map\s*<\s*(\w+)\s*,\s*(\w+)\s*>|(\w+))\s+(\w+)\s*=\s*(\d+)\s*;")


def messages(path: Path) -> Mapping[str, Any]:
    """The message classes of one file, by their short names."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    described = describe(path)
    pool = DescriptorPool()  # its own: nobody else's names are in it
    pool.Add(described)
    names = (message.name for message in described.message_type)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{described.package}.{name}")) for name in names}


def describe(path: Path) -> "FileDescriptorProto":
    """One file as the compiler would describe it.

    Raises:
        ValueError: it says something that this reader does not understand.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    text = _COMMENT.sub("", path.read_text(encoding="utf-8"))
    package = _PACKAGE.search(text)
    if package is None:
        raise ValueError(f"{path.name} names no package")
    described = FileDescriptorProto(name=path.name, package=package[1], syntax="proto3")
    enums = {name for kind, name, _ in _BLOCK.findall(text) if kind == "enum"}
    for kind, name, body in _BLOCK.findall(text):
        if kind == "message":
            message = described.message_type.add(name=name)
            for field in _all(_FIELD, body, path):
                _add(message, field, prefix=f".{package[1]}.", enums=enums)
        else:
            enum = described.enum_type.add(name=name)
            for value in _all(_VALUE, body, path):
                enum.value.add(name=value[1], number=int(value[2]))
    return described


def _all(statement: re.Pattern[str], body: str, path: Path) -> Iterator[re.Match[str]]:
    if left := statement.sub("", body).strip():
        raise ValueError(f"{path.name}: cannot read {left.splitlines()[0].strip()!r}")
    return statement.finditer(body)


def _add(message: "DescriptorProto", field: re.Match[str], *, prefix: str, enums: set[str]) -> None:
    repeated, key, value, kind, name, number = field.groups()
    if key is None:
        _plain(message, name, int(number), kind, repeated=bool(repeated), prefix=prefix, enums=enums)
        return
    entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
    entry.options.map_entry = True
    _plain(entry, "key", 1, key, repeated=False, prefix=prefix, enums=enums)
    _plain(entry, "value", 2, value, repeated=False, prefix=prefix, enums=enums)
    _plain(message, name, int(number), entry.name, repeated=True, prefix=f"{prefix}{message.name}.", enums=set())


def _plain(
    message: "DescriptorProto", name: str, number: int, kind: str, *, repeated: bool, prefix: str, enums: set[str]
) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Kinds

    scalars = {"string": Kinds.TYPE_STRING, "int64": Kinds.TYPE_INT64, "uint32": Kinds.TYPE_UINT32}
    scalars |= {"bool": Kinds.TYPE_BOOL}
    camel = name.split("_")
    field = message.field.add(
        name=name,
        number=number,
        label=Kinds.LABEL_REPEATED if repeated else Kinds.LABEL_OPTIONAL,
        json_name=camel[0] + "".join(part.capitalize() for part in camel[1:]),
    )
    if kind in scalars:
        field.type = scalars[kind]
    else:
        field.type = Kinds.TYPE_ENUM if kind in enums else Kinds.TYPE_MESSAGE
        field.type_name = prefix + kind
