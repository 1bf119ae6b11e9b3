"""Every setting of every worker explains itself."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from tests.settings_document import WORKERS, rows


@pytest.mark.parametrize(("name", "kind"), WORKERS)
def test_every_setting_has_a_meaning(name: str, kind: type[BaseModel]) -> None:
    assert [key for key, _, _, meaning in rows(kind) if not meaning] == [], f"settings of {name} without a docstring"
