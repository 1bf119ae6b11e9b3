"""A rebuild among fakes, on a real store: the log in memory, the two stores where a URL says.

world = World(open_history(url, CODEC))
world.tell(...)
rebuild(world, url)
"""

from __future__ import annotations

from contextlib import closing

from tests.fakes.failpoints import FakeFailpoints
from tests.projecting import CODEC, World
from workers.domain.history.rebuild import Rebuilt
from workers.log.ports import LogReader
from workers.projector.bounded_log import BoundedLog
from workers.projector.rebuild import Choice, Rebuild, SilentRecorder
from workers.store.history.rebuild import open_rebuilding
from workers.system.ports import Failpoints

BUSY_S = 0.05


def rebuild(
    world: World,
    url: str,
    choice: Choice | None = None,
    *,
    failpoints: Failpoints | None = None,
    reader: LogReader | None = None,
) -> Rebuilt:
    """As `douse history rebuild` would."""
    armed = failpoints if failpoints is not None else FakeFailpoints()
    with closing(open_rebuilding(url, CODEC, armed, busy_s=BUSY_S)) as twin:
        upto = BoundedLog(reader if reader is not None else world.log.reader())
        fresh = World(twin.fresh, log=world.log, limit=7)
        projector = fresh.projector(reader=upto, recorder=SilentRecorder())
        made = Rebuild(projector, upto, twin, failpoints=armed).run(choice if choice is not None else Choice())
        assert fresh.outbox.published == []
        return made
