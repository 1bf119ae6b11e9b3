"""The one doorway to YAML: settings, rule and topic files in, settings and context files out.

Called by wiring and by the adapters that own a kind of file. Never builds anything but plain data (safe loader).
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from workers.domain.errors import ConfigError

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
        raise ConfigError(f"{path}: the top of the file must be a mapping, not {type(parsed).__name__}")
    return parsed


def read_text(text: str, *, name: str) -> Any:
    """The plain data that YAML text holds; ``name`` says where it came from.

    Raises:
        ConfigError: not YAML, more than one document, or more data than anybody writes by hand once its aliases are
            followed.
    """
    try:
        return _loaded(text, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{name}: not valid YAML{where}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None


def _loaded(text: str, name: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > LARGEST:
            raise ConfigError(f"{name}: more than {LARGEST} values once its aliases are followed; write them out")
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
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
