"""What every test has at hand: `require` for real components, and the marker of the measurements."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.components import require as require_component
from tests.kafka.fixtures import (  # noqa: F401 - a fixture is found by its name here
    kafka,
    kafka_distribution,
    killable_kafka,
    new_topic,
    start_kafka,
)

# A shared 2-core machine stalls for longer than Hypothesis' 200 ms; a slow example is no fault of the code.
settings.register_profile("douse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make check` runs at every save: a fifth of the examples there, all of them in `make test`.
settings.register_profile("quick", settings.get_profile("douse"), max_examples=20)
settings.load_profile(os.environ.get("DOUSE_EXAMPLES", "douse"))

_BENCH = Path(__file__).parent / "bench"


@pytest.fixture
def require() -> Callable[..., None]:
    """`require(component, reason)`: skips on a laptop, fails under CI=true, when the component is missing."""
    return require_component


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything under tests/bench is a measurement and never runs by accident."""
    for item in items:
        if item.path.is_relative_to(_BENCH):
            item.add_marker(pytest.mark.bench)
