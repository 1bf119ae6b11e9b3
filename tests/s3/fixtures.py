"""Fixtures that hand a real S3 server to a test. Imported by `tests/conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drivers.quarantine import NODE as DRIVEN
from tests.integration.node_process import NODE as SITE
from tests.s3.rig import NODE, OTHER
from tests.s3.server import S3Server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for the whole run; use a prefix of your own."""
    with S3Server(tmp_path_factory.mktemp("s3"), (NODE, OTHER, DRIVEN, SITE)) as server:
        yield server
