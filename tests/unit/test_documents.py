"""Documents made from data are never stale."""

from __future__ import annotations

import pytest

from tests.documents import DOCUMENTS, ROOT


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_generated_document_is_what_its_data_says(name: str) -> None:
    path = ROOT / name
    assert path.is_file(), f"{name} is missing: say make docs"
    assert path.read_text(encoding="utf-8") == DOCUMENTS[name](), f"{name} is stale: say make docs"
