"""Finds the data files that ship with Douse: record schemas and topic definitions.

Called by the codec, the topic catalogue and the tests. Inside an installed wheel they are in `workers/_data`; in a
checkout they are the repository's own `schemas/` and `topics/`. Must never search anywhere else, least of all the
current directory: a file planted there would change what the workers believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workers.domain.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def data_directory(kind: str, *, package: Path = _PACKAGE) -> Path:
    """The directory that holds data files of one kind, `schemas` or `topics`.

    Raises ConfigError if neither the wheel's nor the repository's directory is there.
    """
    for candidate in (package / "_data" / kind, package.parent / kind):
        if candidate.is_dir():
            return candidate
    raise ConfigError(f"no {kind}: neither {package / '_data'} nor {package.parent} has any; install Douse again")


def schema_files(*, package: Path = _PACKAGE) -> Sequence[Path]:
    """Every Avro schema (`*.avsc`, frozen versions in subdirectories included), in a stable order."""
    return _files("schemas", ".avsc", package)


def topic_files(*, package: Path = _PACKAGE) -> Sequence[Path]:
    """Every topic definition (`*.yaml`), in a stable order."""
    return _files("topics", ".yaml", package)


def _files(kind: str, suffix: str, package: Path) -> Sequence[Path]:
    return sorted(path for path in data_directory(kind, package=package).rglob(f"*{suffix}") if path.is_file())
