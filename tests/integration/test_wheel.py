"""The wheel alone is enough: built, installed into an empty environment, and found complete there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from workers.system.data_files import schema_files, topic_files

_ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(_ROOT))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what its metadata requires, nothing else."""
    home = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(home)
    interpreter = home / "bin" / "python"
    install = ("install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))
    _run(sys.executable, "-m", "pip", "--python", str(interpreter), *install)
    (packages,) = home.glob("lib/python*/site-packages")
    (metadata,) = packages.glob("douse-*.dist-info")
    for each in _required(Distribution.at(metadata)):
        _link(each, packages)
    return interpreter


def _required(of: Distribution) -> list[Distribution]:
    """Everything that a distribution requires, and what that requires: already installed, in a version that satisfies
    the requirement, so that nothing has to be fetched."""
    found: dict[tuple[str, frozenset[str]], Distribution] = {}
    waiting = [(of, frozenset({""}))]
    while waiting:
        distribution, extras = waiting.pop()
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
                continue
            key = (canonicalize_name(requirement.name), frozenset({"", *requirement.extras}))
            if key not in found:
                found[key] = Distribution.from_name(requirement.name)
                waiting.append((found[key], key[1]))
            version = found[key].version
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version} is installed"
    return list(found.values())


def _link(distribution: Distribution, packages: Path) -> None:
    """Make each of its files, and no other of the same namespace package, importable from another environment."""
    for file in distribution.files or ():
        link = packages / file
        if ".." not in file.parts and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(str(distribution.locate_file(file))).resolve())


def test_the_wheel_holds_every_schema_and_topic_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for path in [*schema_files(), *topic_files()]:
        assert f"workers/_data/{path.relative_to(_ROOT)}" in names
    assert not [name for name in names if name.startswith("tests/")]


def test_an_installed_wheel_finds_its_own_data_files(python: Path, tmp_path: Path) -> None:
    code = (
        "from workers.system.data_files import data_directory, schema_files, topic_files;"
        "print(data_directory('schemas'), len(schema_files()), len(topic_files()))"
    )
    directory, schemas, topics = _run(str(python), "-c", code, cwd=tmp_path).split()
    assert Path(directory).is_relative_to(python.parent.parent)
    assert (int(schemas), int(topics)) == (len(schema_files()), len(topic_files()))


def test_an_installed_wheel_runs_the_demo_in_less_than_a_minute(python: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    output = _run(str(python.with_name("douse")), "demo", cwd=tmp_path)
    seconds = time.monotonic() - began
    assert "✗" not in output
    assert "checks held" in output
    assert seconds < 60, f"{seconds:.1f} s"


def _run(*command: str, cwd: Path | None = None) -> str:
    """Run to the end in a clean environment; the output, or a failure that shows it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
