"""Which machine this is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.chance import FakeRandomness
from workers.domain.errors import ConfigError
from workers.domain.ids import is_node_id
from workers.host.machine_identity import Machine

OWN = "0f" * 16


@pytest.fixture
def machine_id(tmp_path: Path) -> Path:
    path = tmp_path / "machine-id"
    path.write_text("5f2d7d3cf2a34d6a8d2d8a1ab6b1d0c4\n")
    return path


def machine(machine_id: Path, seed: int = 0) -> Machine:
    return Machine(FakeRandomness(seed), machine_id_files=(machine_id,))


def test_a_node_id_follows_from_the_machine_and_does_not_reveal_it(tmp_path: Path, machine_id: Path) -> None:
    found = machine(machine_id)
    node_id = found.node_id(tmp_path / "a", "")
    assert is_node_id(node_id)
    assert machine(machine_id, seed=9).node_id(tmp_path / "b", "") == node_id
    assert machine_id.read_text().strip() not in (node_id, found.machine_key)
    assert node_id != found.machine_key


def test_a_configured_id_is_kept_and_never_changes(tmp_path: Path, machine_id: Path) -> None:
    data = tmp_path / "data"
    assert machine(machine_id).node_id(data, OWN) == OWN
    assert machine(machine_id).node_id(data, "") == OWN
    with pytest.raises(ConfigError, match="a node id never changes"):
        machine(machine_id).node_id(data, "ab" * 16)


def test_an_id_outlives_the_machine_id_it_came_from(tmp_path: Path, machine_id: Path) -> None:
    first = machine(machine_id).node_id(tmp_path / "data", "")
    machine_id.write_text("0" * 32)
    assert machine(machine_id).node_id(tmp_path / "data", "") == first


def test_a_machine_without_an_id_gets_a_random_one_that_is_kept(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    first = machine(missing, seed=1).node_id(tmp_path / "data", "")
    assert machine(missing, seed=2).node_id(tmp_path / "data", "") == first
    assert machine(missing, seed=2).node_id(tmp_path / "other", "") != first


def test_a_broken_id_file_is_reported_and_not_replaced(tmp_path: Path, machine_id: Path) -> None:
    (tmp_path / "node_id").write_text("half an i")
    with pytest.raises(ConfigError, match="holds no node id"):
        machine(machine_id).node_id(tmp_path, "")
    assert (tmp_path / "node_id").read_text() == "half an i"


def test_a_directory_that_cannot_be_made_is_a_configuration_fault(tmp_path: Path, machine_id: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        machine(machine_id).node_id(tmp_path / "file" / "data", OWN)
