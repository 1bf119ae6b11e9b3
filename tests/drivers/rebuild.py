"""Rebuilds of one store, each killed at another place, in a process that ends there.

`python -m tests.drivers.rebuild URL`: after each kill the live store must hold what it held, or what the new one does,
which is the same. At the end one rebuild runs through. Prints every place that was reached. The log is in memory, so
each process forks off with it.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing

from tests.fakes.clock import START_NS
from tests.projecting import CODEC, World
from tests.rebuilding import rebuild
from tests.stories import BORN, NODE, Story, event, heartbeat
from workers.domain.history.retention import Cutoffs
from workers.projector.rebuild import FAILPOINTS, forget_all
from workers.store.history.home import HALF_WAY
from workers.store.history.store import open_history
from workers.system.failpoints import KILLED, failpoints

PLACES = (*FAILPOINTS, HALF_WAY)


def lived(url: str) -> World:
    """A log whose beginning is gone, and a store that has all of it but what is too old."""
    with closing(open_history(url, CODEC)) as store:
        world = World(store)
        for number in range(12):
            world.tell(*Story(number).whole(effect_holds=number % 3 == 0))
            world.detect(event(number))
        world.audit(f"node/{NODE}/{BORN}", 3)
        world.beat(heartbeat(1))
        world.run()
        forget_all(store, Cutoffs(*([START_NS + 4_000_000_000] * 4)))
    for partition in (0, 1):
        world.log.truncate("response.results", partition=partition, below=10)
    return world


def looked_at(url: str) -> tuple[str, dict[str, int], int]:
    """The live store's digest, where it stands, and how much it holds."""
    with closing(open_history(url, CODEC)) as store:
        return store.digest(), dict(store.health().next_offsets), store.health().executions


def main(url: str) -> None:
    """Raises AssertionError where a promise breaks."""
    world = lived(url)
    whole = looked_at(url)
    for place in PLACES:
        child = os.fork()
        if child == 0:
            rebuild(world, url, failpoints=failpoints({"DOUSE_FAILPOINTS": f"{place}=kill"}))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == KILLED, f"{place} was not reached: exit {code}"
        assert looked_at(url) == whole, f"killed at {place}, the live store is not what it was"
        print(place)
    made = rebuild(world, url)
    assert (made.equal, made.replaced) == (True, True), made
    assert looked_at(url) == whole, "rebuilt after the kills, the store is not what it was"


if __name__ == "__main__":
    main(sys.argv[1])
