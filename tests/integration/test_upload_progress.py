"""A real node uploads a file in parts to a real S3 server over a slow connection: its heartbeats report how far it
is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.integration.node_process import NodeSite, Seen, embedded_broker
from tests.integration.s3_outage import Outage, mend
from tests.s3.proxy import FaultyProxy
from tests.s3.server import S3Server
from workers.domain.ids import ExecutionId
from workers.domain.node_state import COPYING, UPLOADING, NodeState, Progress
from workers.domain.outcome import Outcome
from workers.domain.result import ActionResult

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PART = 5 << 20
SIZE = 3 * PART + 7
"""Four parts."""
HOLE = 3 << 30
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
    reported = [each for beat in outage.site.seen.heartbeats for each in beat.gathering if each.step == UPLOADING]
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


@pytest.mark.fault("F15")
def test_a_slow_store_gets_what_takes_longer_than_the_action_s_time(outage: Outage) -> None:
    outage.restart(timeout=2)
    outage.proxy.pause_s = 0.03  # 2 MB/s: every part takes longer than the time
    began = time.monotonic()
    (execution_id,) = outage.gather(1, size=SIZE)
    ended = outage.site.ended(execution_id, timeout_s=120)
    assert ended.outcome is Outcome.COMPLETED, ended
    assert time.monotonic() - began > 3 * 2
    outcomes = [r.outcome for r in outage.site.seen.results if r.execution_id == execution_id and r.outcome]
    assert outcomes == [Outcome.COMPLETED], "it was given up on the way"
    assert outage.proxy.uploaded < SIZE + PART, "a part was sent twice"
    outage.settle()


@pytest.mark.fault("F15")
def test_a_store_that_stands_still_is_given_up_in_the_action_s_time_and_gone_on_with(outage: Outage) -> None:
    outage.restart(timeout=2)
    outage.proxy.stall_after = PART + PART // 2
    (execution_id,) = outage.gather(1, size=SIZE)
    outage.await_sealed([execution_id], 1)
    began = time.monotonic()
    outage.site.until(partial(_stalled, execution_id), timeout_s=60)
    assert time.monotonic() - began < 40, "the time, and 20 s until the store counts as unreachable"
    mend(outage.proxy)
    outage.settle()


def test_a_copy_that_takes_longer_than_the_action_s_time_is_seen_to_grow(outage: Outage) -> None:
    """The file has nothing but a hole: that is read and hashed like any other content, and costs no disk."""
    outage.restart(timeout=1, max_file_size_mb=HOLE >> 20)
    outage.proxy.mode = "refuse"
    (execution_id,) = outage.gather(1, size=HOLE, hole=True)
    ended = outage.site.until(partial(_stalled, execution_id), timeout_s=120)
    assert ended.code.endswith(("upload_pending", "half_done")), ended
    reported = [each for beat in outage.site.seen.heartbeats for each in beat.gathering if each.step == COPYING]
    assert {(each.execution_id, each.size) for each in reported} == {(execution_id, HOLE)}
    steps = [each.done for each in reported]
    assert steps == sorted(steps)
    assert len(set(steps) - {0}) > 1, f"it was not seen to grow: {steps}"


def _stalled(execution_id: ExecutionId, seen: Seen) -> ActionResult | None:
    """Its first outcome, once that is not known yet."""
    first = next((r for r in seen.results if r.execution_id == execution_id and r.outcome), None)
    assert first is None or first.outcome is Outcome.UNKNOWN, first
    return first


def _later(seen: Seen, record_no: int) -> NodeState | None:
    """The newest heartbeat, once it is one that was said after that record."""
    newest = seen.heartbeats[-1]
    return newest if newest.record_no > record_no else None
