"""F15: the store refuses, swallows, stalls, resets or crawls under a real node. Kills go on meanwhile, and what was
gathered arrives once, whole; after the janitor nothing is half uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.node_process import NodeSite, embedded_broker
from tests.integration.s3_outage import OUTAGES, Outage, break_off, mend
from tests.s3.proxy import FaultyProxy
from tests.s3.server import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def outage(s3_server: S3Server, tmp_path: Path) -> Iterator[Outage]:
    with ExitStack() as stack:
        broker = stack.enter_context(embedded_broker())
        proxy = stack.enter_context(FaultyProxy(s3_server.port))
        (tmp_path / "site").mkdir()
        site = stack.enter_context(NodeSite(tmp_path / "site", broker))
        yield Outage(site, s3_server, proxy, tmp_path)


@pytest.mark.fault("F15")
def test_kills_go_on_while_the_store_is_away_and_what_was_gathered_arrives_once(outage: Outage) -> None:
    for name in OUTAGES:
        break_off(outage.proxy, name)
        ids = outage.gather()
        outage.await_sealed(ids)
        for _ in range(3):
            outage.kill()
        stuck = outage.unfinished(ids)
        if name in ("refuses", "never answers", "stalls in a part"):
            assert stuck == ids, f"{name}: the store was not away"
        mend(outage.proxy)
        outage.settle()
    print(f"half uploads before the janitor: {outage.swept()}, after it: 0")
    assert outage.site.seen.dead_letters == []
