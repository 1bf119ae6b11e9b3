"""What every test has at hand: `require` for real components, and the marker of the measurements."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.components import require as require_component
from tests.engines import DockerRig, PodmanRig, require_engine
from tests.kafka.fixtures import (  # noqa: F401 - a fixture is found by its name here
    kafka,
    kafka_distribution,
    killable_kafka,
    new_topic,
    start_kafka,
)
from tests.postgresql import new_url, postgresql  # noqa: F401
from tests.s3.fixtures import s3_server  # noqa: F401 - a fixture is found by its name here

if TYPE_CHECKING:
    from tests.containerd.rig import ContainerdRig

# A shared 2-core machine stalls for longer than Hypothesis' 200 ms; a slow example is no fault of the code.
settings.register_profile("douse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make check` runs at every save: a fifth of the examples there, all of them in `make test`.
settings.register_profile("quick", settings.get_profile("douse"), max_examples=20)
settings.load_profile(os.environ.get("DOUSE_EXAMPLES", "douse"))

_TESTS = Path(__file__).parent
_LONGEST = (
    "contract/test_log_ports.py",
    "e2e/test_broker_faults.py",
    "e2e/test_crashes.py",
    "integration/test_docker_files.py",
    "integration/test_node_worker.py",
    "integration/test_isolate_network.py",
    "integration/test_responder_process.py",
    "integration/test_dispatcher.py",
    "e2e/test_replay.py",
    "integration/test_quarantine_sweep.py",
    "integration/test_projector_process.py",
    "e2e/test_demo.py",
    "integration/test_container_files.py",
    "integration/test_compose_system.py",
    "integration/test_network_rules.py",
    "integration/test_stuck_filesystem.py",
    "contract/test_container_logs.py",
    "attacks/test_lost_effects.py",
    "integration/test_node_disk.py",
    "integration/test_node_limits.py",
    "integration/test_wheel.py",
    "integration/test_container_actions.py",
    "integration/test_process_actions.py",
    "e2e/test_evidence.py",
    "integration/test_cri_actions.py",
    "e2e/test_poison.py",
    "integration/test_kafka_adapters.py",
    "integration/test_real_kafka.py",
    "integration/test_gateway_process.py",
    "contract/test_containers.py",
)
"""Files of more than 20 s, the longest first (`pytest --durations=0`)."""


@pytest.fixture
def require() -> Callable[..., None]:
    """`require(component, reason)`: skips on a laptop, fails under CI=true, when the component is missing."""
    return require_component


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRig]:
    """A dockerd of the tests' own. Whoever uses it leaves no container behind: ``rig.clear()``."""
    require_engine("docker")
    rig = DockerRig(tmp_path_factory.mktemp("docker"))
    yield rig
    rig.close()


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[PodmanRig]:
    """A Podman service of the tests' own, as ``docker_engine``."""
    require_engine("podman")
    # Not among the tests' directories: Podman refuses a place for its run files of more than 50 characters.
    directory = Path(tempfile.mkdtemp(prefix="podman"))
    rig = PodmanRig(directory)
    yield rig
    rig.close()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerdRig]:
    """A containerd of the tests' own, as ``docker_engine``."""
    from tests.containerd.rig import ContainerdRig

    require_engine("containerd")
    rig = ContainerdRig(tmp_path_factory.mktemp("containerd"))
    yield rig
    rig.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything under tests/bench as a measurement. With several workers, start the longest files first: one that
    starts last would keep its worker busy when the others have nothing left to do."""
    for item in items:
        if item.path.is_relative_to(_TESTS / "bench"):
            item.add_marker(pytest.mark.bench)
    if hasattr(config, "workerinput"):
        order = {_TESTS / name: position for position, name in enumerate(_LONGEST)}
        items.sort(key=lambda item: order.get(item.path, len(order)))
