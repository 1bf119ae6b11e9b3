"""F15: how long a kill takes while the object store is away and files wait for it, beside the same node's kills while
nothing is gathered, and while a store that is well takes such files.

One node process, one real S3 server behind a faulty proxy. Every block of kills beside a store has a quiet
one of its own next to it, before it or after it in turns, because other load on the machine comes and goes. A kill is
measured from before the command is signed and sent to the kernel's word that the victim has ended. Asked is at most 1.2
times: the median p99 of all blocks beside an outage by the median p99 of the quiet blocks beside them.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from tests.bench.board import Board, percentile
from tests.integration.node_process import NodeSite, embedded_broker
from tests.integration.s3_outage import OUTAGES, Outage, break_off, mend
from tests.s3.proxy import FaultyProxy
from tests.s3.server import S3Server

ROUNDS = 8
KILLS = 25
"""Of one block: its p99 is its slowest."""
ASKED = 1.2
HEALTHY = "a healthy store"
Blocks = dict[str, list[list[float]]]


@pytest.mark.timeout(1800)
def test_containment_while_the_store_is_away(s3_server: S3Server, tmp_path: Path, board: Board) -> None:
    beside: Blocks = defaultdict(list)
    quiet: Blocks = defaultdict(list)
    with ExitStack() as stack:
        broker = stack.enter_context(embedded_broker())
        proxy = stack.enter_context(FaultyProxy(s3_server.port))
        (tmp_path / "site").mkdir()
        outage = Outage(stack.enter_context(NodeSite(tmp_path / "site", broker)), s3_server, proxy, tmp_path)

        def block() -> list[float]:
            return [outage.kill() for _ in range(KILLS)]

        for _ in range(2):
            block()
        for number in range(ROUNDS):
            for name in (HEALTHY, *OUTAGES):
                if number % 2:
                    quiet[name].append(block())
                if name != HEALTHY:
                    break_off(proxy, name)
                ids = outage.gather()
                if name != HEALTHY:
                    outage.await_sealed(ids)
                beside[name].append(block())
                mend(proxy)
                outage.settle()
                if not number % 2:
                    quiet[name].append(block())
    _tell(board, beside, quiet)
    away, alone = (
        median(percentile(each, 0.99) for name in OUTAGES for each in blocks[name]) for blocks in (beside, quiet)
    )
    asked = f"median p99 of {ROUNDS * len(OUTAGES)} blocks, by that of their quiet ones; asked: at most {ASKED}"
    board.alone("kill beside an outage of any kind", "times", away / alone, asked)
    assert away / alone <= ASKED


def _tell(board: Board, beside: Blocks, quiet: Blocks) -> None:
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        for name in beside:
            ours, theirs = ([percentile(each, share) for each in blocks[name]] for blocks in (beside, quiet))
            output = name if name == HEALTHY else f"a store that {name}"
            board.compare(f"kill beside {output}, {what}", "ms", ours, "kill while nothing is gathered", theirs)
