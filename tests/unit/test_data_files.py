"""Data files are found in the wheel or the checkout, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.domain.errors import ConfigError
from workers.system.data_files import data_directory, schema_files, topic_files


def _package(root: Path) -> Path:
    package = root / "workers"
    package.mkdir()
    return package


def _write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_a_checkout_uses_its_own_directories(tmp_path: Path) -> None:
    package = _package(tmp_path)
    schema = _write(tmp_path / "schemas" / "action_command.v1.avsc")
    topic = _write(tmp_path / "topics" / "response.audit.yaml")
    assert schema_files(package=package) == [schema]
    assert topic_files(package=package) == [topic]


def test_an_installed_package_prefers_what_came_with_it(tmp_path: Path) -> None:
    package = _package(tmp_path)
    inside = _write(package / "_data" / "schemas" / "a.avsc")
    _write(tmp_path / "schemas" / "planted_beside_site_packages.avsc")
    assert schema_files(package=package) == [inside]


def test_other_files_are_left_out_and_subdirectories_are_not(tmp_path: Path) -> None:
    package = _package(tmp_path)
    _write(tmp_path / "schemas" / "README.md")
    frozen = _write(tmp_path / "schemas" / "frozen" / "a.avsc")
    newest = _write(tmp_path / "schemas" / "b.avsc")
    assert schema_files(package=package) == [newest, frozen]


def test_nothing_is_looked_for_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "here" / "schemas" / "planted.avsc")
    monkeypatch.chdir(tmp_path / "here")
    package = _package(tmp_path)
    with pytest.raises(ConfigError, match="no schemas"):
        schema_files(package=package)


@pytest.mark.parametrize("kind", ["schemas", "topics"])
def test_this_checkout_has_its_directories(kind: str) -> None:
    assert data_directory(kind).is_dir()
