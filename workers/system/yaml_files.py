"""The one doorway to YAML: settings, rule and topic files in, settings and context files out.

Called by wiring and by the adapters that own a kind of file. Never builds anything but plain data (safe loader).
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from workers.domain.errors import ConfigError

LONGEST: Final = 8 * 1024 * 1024
"""Bytes of a file: parsing 30 MB takes 13 s, and a rule that somebody wrote takes a few hundred bytes."""

LARGEST: Final = 1_000_000
"""Values in a document. A bomb of a dozen lines stands for billions: every program that walks them runs out of time."""


def read_mapping(path: Path) -> Mapping[str, Any]:
    """The mapping a YAML file holds; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is no YAML (with line and column), or its top is no mapping.
    """
    parsed = read_text(_text_of(path), name=str(path))
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigError(f"{path}: the top of the file must be a mapping (key: value)")
    return parsed


def read_text(text: str, *, name: str) -> Any:
    """The plain data that YAML text holds; ``name`` says where it came from.

    Raises:
        ConfigError: not YAML, more than one document, a key that a mapping has twice (YAML forbids it, and the parser
            would keep the last), or more data than anybody writes by hand once its aliases are followed.
    """
    try:
        return _loaded(text, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{name}: not valid YAML{where}: {_reason(error)}") from None
    except RecursionError:
        raise ConfigError(f"{name}: not valid YAML: nested too deeply") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None


def _reason(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, yaml.constructor.ConstructorError) and "constructor for the tag" in str(error.problem):
        return "a tag (!...) is not allowed; write text, numbers, lists and mappings"
    return str(error.problem)


def _loaded(text: str, name: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > LARGEST:
            raise ConfigError(f"{name}: more than {LARGEST} values once its aliases are followed; write them out")
        twice = next(_repeated_keys(node, set()), None)
        if twice is not None:
            raise ConfigError(
                f"{name}: line {twice.start_mark.line + 1}: the key {twice.value!r} is given twice; keep one"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for: one that an alias names counts each time, one that holds itself for ever."""
    if id(node) not in known:
        known[id(node)] = LARGEST + 1  # until it is known: whoever comes here again is inside it
        match node:
            case yaml.MappingNode():
                parts = [part for pair in node.value for part in pair]
            case yaml.SequenceNode():
                parts = node.value
            case _:
                parts = []
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _repeated_keys(node: yaml.Node, known: set[int]) -> Iterator[yaml.ScalarNode]:
    """Every key that its mapping has already, in the order of the file."""
    if id(node) in known:  # an alias
        return
    known.add(id(node))
    keys: set[str] = set()
    match node:
        case yaml.MappingNode():
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    # A bare `on` is a truth value in YAML 1.1, and rules read it as the text: with or without quotes,
                    # it is one key.
                    if key.value in keys:
                        yield key
                    keys.add(key.value)
                yield from _repeated_keys(value, known)
        case yaml.SequenceNode():
            for each in node.value:
                yield from _repeated_keys(each, known)


def read_document(path: Path) -> Any:
    """Whatever one YAML document a file holds: other tools' files need not be mappings.

    Raises:
        ConfigError: the file cannot be read, or is no YAML.
    """
    return read_text(_text_of(path), name=str(path))


def text_of(content: Any) -> str:
    """Plain data as YAML, in the order it has."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def write(path: Path, content: Mapping[str, Any], *, mode: int = 0o600) -> None:
    """Replace a YAML file as a whole: never half written, and ``mode`` from its first byte on."""
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise ConfigError(f"{path}: larger than {LONGEST} bytes; split it")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
