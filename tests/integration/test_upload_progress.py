"""A real node uploads a file in parts to a real S3 server over a slow connection: its heartbeats report how far it
is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.node_process import NodeSite, Seen, embedded_broker
from tests.integration.s3_outage import Outage
from tests.s3.proxy import FaultyProxy
from tests.s3.server import S3Server
from workers.domain.node_state import NodeState, Progress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PART = 5 << 20
SIZE = 3 * PART + 7
"""Four parts."""
PAUSE_S = 0.012
"""Before each chunk of at most 64 KiB: a part takes about a second or longer, which is five heartbeats."""


@pytest.fixture
def outage(s3_server: S3Server, tmp_path: Path) -> Iterator[Outage]:
    with ExitStack() as stack:
        broker = stack.enter_context(embedded_broker())
        proxy = stack.enter_context(FaultyProxy(s3_server.port))
        (tmp_path / "site").mkdir()
        site = stack.enter_context(NodeSite(tmp_path / "site", broker))
        yield Outage(site, s3_server, proxy, tmp_path)


def test_heartbeats_say_how_far_an_upload_is_and_nothing_once_it_is_over(outage: Outage) -> None:
    outage.proxy.pause_s = PAUSE_S
    (execution_id,) = outage.gather(1, size=SIZE)
    outage.site.ended(execution_id, timeout_s=120)
    outage.settle()
    silent = outage.site.heartbeat().record_no
    last: NodeState = outage.site.until(lambda seen: _later(seen, silent))
    assert last.gathering == ()
    reported = [progress for beat in outage.site.seen.heartbeats for progress in beat.gathering]
    assert {(each.execution_id, each.size) for each in reported} == {(execution_id, SIZE)}
    steps = [done for done, _ in itertools.groupby(each.done for each in reported)]
    assert steps == sorted(set(steps)), "it never goes back"
    assert set(steps) <= {0, PART, 2 * PART, 3 * PART, SIZE}, "only whole parts count"
    assert {PART, 2 * PART} <= set(steps), f"it was not seen to grow: {steps}"


def test_the_next_worker_tells_from_where_the_last_one_was_killed(outage: Outage) -> None:
    outage.proxy.pause_s = PAUSE_S
    (execution_id,) = outage.gather(1, size=SIZE)
    outage.site.until(lambda seen: Progress(execution_id, 2 * PART, SIZE) in seen.heartbeats[-1].gathering)
    outage.site.stop(9)
    outage.proxy.uploaded = 0
    outage.site.start()
    outage.site.up()
    outage.settle()
    assert outage.proxy.uploaded < SIZE - PART, "the parts that the store had were sent again"
    fresh = outage.site.heartbeat().instance_id
    reported = [
        each.done for beat in outage.site.seen.heartbeats if beat.instance_id == fresh for each in beat.gathering
    ]
    assert set(reported) & {2 * PART, 3 * PART}, f"it was not seen to go on: {reported}"
    assert reported == sorted(reported)
    outage.site.until(lambda seen: seen.heartbeats[-1].gathering == ())


def _later(seen: Seen, record_no: int) -> NodeState | None:
    """The newest heartbeat, once it is one that was said after that record."""
    newest = seen.heartbeats[-1]
    return newest if newest.record_no > record_no else None
