"""The wheel alone is enough: built, installed into an empty environment, and found complete there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

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
    """The interpreter of an environment that holds the wheel and its dependencies, nothing else."""
    home = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(home, with_pip=True)
    interpreter = home / "bin" / "python"
    _run(str(interpreter), "-m", "pip", "install", "-q", "-c", str(_ROOT / "constraints.txt"), str(wheel))
    return interpreter


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
    said = _run(str(python.with_name("douse")), "demo", cwd=tmp_path)
    seconds = time.monotonic() - began
    assert "✗" not in said
    assert "checks held" in said
    assert seconds < 60, f"{seconds:.1f} s"


def _run(*command: str, cwd: Path | None = None) -> str:
    """Run to the end in a clean environment; the output, or a failure that shows it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
