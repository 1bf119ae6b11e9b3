"""F15: how long a kill takes while the object store is away and files wait for it, beside the same node's kills while
nothing is gathered, and while a store that is well takes such files.

One node process, one real S3 server behind a way that can be broken, everything in turns: a block without gathering, a
block beside a healthy store, then a block for each way in which a store can fail, over again. A kill is measured from
before the command is signed and sent to the kernel's word that the victim has ended. The ratio of p99s is that of each
outage's block by its own round's quiet block; its median over the rounds is what is held against the 1.2 asked for.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.board import Board, percentile
from tests.integration.node_process import NodeSite, embedded_broker
from tests.integration.s3_outage import OUTAGES, Outage, break_off, mend
from tests.s3.proxy import Way
from tests.s3.server import S3Server

ROUNDS = 9
KILLS = 40
ASKED = 1.2


@pytest.mark.timeout(1800)
def test_containment_while_the_store_is_away(s3_server: S3Server, tmp_path: Path, board: Board) -> None:
    times: dict[str, list[list[float]]] = defaultdict(list)
    with ExitStack() as stack:
        broker = stack.enter_context(embedded_broker())
        way = stack.enter_context(Way(s3_server.port))
        (tmp_path / "site").mkdir()
        outage = Outage(stack.enter_context(NodeSite(tmp_path / "site", broker)), s3_server, way, tmp_path)
        for _ in range(2 * KILLS):
            outage.kill()
        for _ in range(ROUNDS):
            times["quiet"].append([outage.kill() for _ in range(KILLS)])
            outage.gather()
            times["a healthy store"].append([outage.kill() for _ in range(KILLS)])
            outage.settle()
            for name in OUTAGES:
                break_off(way, name)
                outage.await_sealed(outage.gather())
                times[f"a store that {name}"].append([outage.kill() for _ in range(KILLS)])
                mend(way)
                outage.settle()
    quiet = times.pop("quiet")
    ratios = {}
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        beside = [percentile(block, share) for block in quiet]
        for name, blocks in times.items():
            ours = [percentile(block, share) for block in blocks]
            ratio = board.compare(f"kill beside {name}, {what}", "ms", ours, "kill while nothing is gathered", beside)
            ratios[name, what] = ratio
    outages = {name: ratio for (name, what), ratio in ratios.items() if what == "p99" and "healthy" not in name}
    assert max(outages.values()) <= ASKED, outages
