"""A missing component skips on a laptop and fails under CI; a present one does neither."""

from __future__ import annotations

import pytest

from tests.components import require


def test_a_missing_component_skips_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not on this machine: the sweep traces with it"):
        require("no-such-program", "the sweep traces with it")


def test_a_missing_component_fails_under_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not on this machine"):
        require("no-such-program", "the sweep traces with it")


def test_a_present_component_lets_the_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    require("sh", "every machine has one")
    require("a cluster", "said by the caller", present=True)
