"""A store rebuilt from the log replaces the live one, on every database: whole, in one step, nothing lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.fakes.clock import START_NS
from tests.guarantees.history import ReplayChangesNothing
from tests.postgresql import Cluster, NewUrl
from tests.projecting import CODEC, VERIFIER, World
from tests.rebuilding import BUSY_S, rebuild
from tests.stories import BORN, NODE, SECOND, Story, event, heartbeat, step_of
from workers.domain.errors import ConfigError, TransientFailure
from workers.domain.history.execution import FoldedStep, fold
from workers.domain.history.rebuild import Carried, Tally
from workers.domain.history.retention import Cutoffs
from workers.domain.history.sequence import Ranges
from workers.domain.ids import EventId, LogId
from workers.domain.log import topics
from workers.domain.log.record import LogPosition
from workers.projector.projector import Projector
from workers.projector.rebuild import (
    CARRIED,
    CAUGHT_UP,
    COMPARED,
    FAILPOINTS,
    FOLDED,
    HELD,
    SETTLED,
    Choice,
    forget_all,
)
from workers.projector.record_reader import TOPICS
from workers.store.history.dialect import home_of
from workers.store.history.home import HALF_WAY
from workers.store.history.ports import HistoryStore
from workers.store.history.rebuild import open_rebuilding
from workers.store.history.store import open_history
from workers.wire.event_reader import DetectorEvents

Lived = Callable[[], tuple[str, World]]


@pytest.fixture
def lived(new_url: NewUrl) -> Iterator[Lived]:
    """A world on a real store, and the store's URL; each call makes another."""
    stores: list[HistoryStore] = []

    def make() -> tuple[str, World]:
        url = new_url()
        stores.append(open_history(url, CODEC, busy_s=BUSY_S))
        return url, World(stores[-1], limit=9)

    yield make
    for store in stores:
        store.close()


def live(world: World, *numbers: int) -> None:
    """A little of everything."""
    for number in numbers:
        world.tell(*Story(number).whole(effect_holds=number % 3 == 0))
        world.detect(event(number))
    world.audit(f"node/{NODE}/{BORN}", 3)
    world.beat(heartbeat(1 + max(numbers)))


def check(world: World) -> None:
    """History is what the log amounts to."""
    log = [record for topic in TOPICS for record in world.log.records(topic)]
    ReplayChangesNothing(VERIFIER, CODEC, DetectorEvents(CODEC, VERIFIER)).check(world.store, log)


def beside(url: str) -> list[str]:
    """What there is of other stores beside it."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        found = [each.name for each in path.parent.iterdir() if each != path]
        return sorted(name for name in found if not name.endswith((".lock", "-wal", "-shm", path.resolve().name)))
    schema = url.rpartition("=")[2]
    engine = home_of(url).engine()
    with engine.connect() as connection:
        names = connection.execute(
            text("SELECT nspname FROM pg_namespace WHERE nspname LIKE :like AND nspname <> :schema"),
            {"like": f"{schema}\\_%", "schema": schema},
        )
        found = sorted(names.scalars())
    engine.dispose()
    return found


def test_a_rebuilt_store_holds_the_same_and_open_readers_continue_in_it(lived: Lived) -> None:
    url, world = lived()
    live(world, *range(6))
    projector = world.run()
    before = world.store.health()
    with closing(open_history(url, CODEC)) as reader:
        assert reader.health().executions == 6
        for _ in range(3):
            made = rebuild(world, url)
            assert (made.equal, made.replaced, made.behind, made.carried) == (True, True, {}, Carried())
            assert made.records == sum(before.next_offsets.values())
            assert (reader.health(), beside(url)) == (before, [])
        live(world, 7)
        until_folded(world, projector)
        assert reader.execution(Story(7).id) is not None
    check(world)


def until_folded(world: World, projector: Projector) -> None:
    """What waits in the log, however often the store was busy or replaced meanwhile."""
    for _ in range(100):
        try:
            world.run(projector)
        except TransientFailure:
            continue
        return
    raise AssertionError("never folded")


def test_a_comparison_leaves_the_live_store(lived: Lived) -> None:
    url, world = lived()
    live(world, 1, 2)
    world.run()
    made = rebuild(world, url, Choice(replace=False))
    assert (made.equal, made.replaced, beside(url)) == (True, False, [])


class Meddler:
    """At every failpoint that a rebuild passes, the projector of the live store gets more to fold, and tries to."""

    def __init__(self, world: World, projector: Projector) -> None:
        self._world = world
        self._projector = projector
        self.refused: list[str] = []
        self.passed: list[str] = []

    def reach(self, name: str) -> None:
        self.passed.append(name)
        self._world.tell(*Story(100 + len(self.passed)).whole())
        try:
            self._world.run(self._projector)
        except TransientFailure as error:
            self.refused.append(f"{name} {error.reason}")


def test_what_a_projector_folds_during_a_rebuild_is_not_lost_and_never_written_to_the_old_store(lived: Lived) -> None:
    url, world = lived()
    live(world, *range(6))
    projector = world.run()
    meddler = Meddler(world, projector)

    made = rebuild(world, url, failpoints=meddler)

    assert (made.equal, made.replaced) == (True, True)
    assert {*FAILPOINTS, HALF_WAY} == set(meddler.passed)
    # A SQLite file is replaced at once, a schema when the transaction ends; until then no other process writes.
    assert {refusal.split()[0] for refusal in meddler.refused} >= {HELD, SETTLED, HALF_WAY}
    assert not {refusal.split()[0] for refusal in meddler.refused} & {FOLDED, CARRIED, COMPARED, CAUGHT_UP}
    until_folded(world, projector)
    check(world)
    assert world.store.health().executions == 6 + len(meddler.passed)


@dataclass
class Passing:
    """Failpoints that call a function."""

    reach: Callable[[str], None]


def test_a_writer_that_waited_for_the_lock_does_not_write_to_the_store_that_was_replaced(lived: Lived) -> None:
    url, world = lived()
    live(world, 1)
    projector = world.run()
    waiting: list[Future[None]] = []

    def wait_for_the_lock(name: str) -> None:
        if name == HELD:
            waiting.append(pool.submit(write))
            time.sleep(0.2)  # until it stands at the lock; too short a time would only prove less

    def write() -> None:
        with patient.begin() as tx:
            tx.put_sender("late", Ranges(((7, 7),)))

    with ThreadPoolExecutor(1) as pool, closing(open_history(url, CODEC, busy_s=60)) as patient:
        assert rebuild(world, url, failpoints=Passing(wait_for_the_lock)).replaced
        refused = waiting[0].exception(60)
    assert refused is None or (isinstance(refused, TransientFailure) and refused.reason == "store_replaced")
    with closing(open_history(url, CODEC)) as fresh, fresh.begin() as tx:
        assert bool(tx.senders(["late"])) is (refused is None)
    world.run(projector)


def test_what_is_older_than_the_log_is_copied(lived: Lived) -> None:
    url, world = lived()
    live(world, *range(8))
    world.detect(event(3, message="another content"))
    world.run()
    before = world.store.digest(), world.store.health()
    for topic in (topics.RESULTS, topics.RUNTIME_EVENTS, topics.AUDIT):
        for partition in (0, 1):
            world.log.truncate(topic, partition=partition, below=4)

    made = rebuild(world, url)

    assert (made.equal, made.replaced) == (True, True)
    assert made.carried.carried.steps == 8
    assert made.carried.carried.events > 0
    assert made.carried.left == Tally()
    assert (world.store.digest(), world.store.health()) == before
    first = world.store.event(EventId("event-3"))
    assert first is not None
    assert first.event == event(3)
    assert all(stored.verified for stored in world.store.audit())
    again = rebuild(world, url)
    assert (again.equal, again.carried.carried.steps) == (True, 8)


def test_after_a_log_was_replaced_everything_is_copied(lived: Lived) -> None:
    url, world = lived()
    live(world, *range(4))
    world.run()
    for topic in TOPICS:
        world.log.create_topic(topic, 2)
    live(world, 5, 6)
    world.run()
    before = world.store.digest()
    made = rebuild(world, url)
    assert (made.equal, made.replaced, made.carried.carried.steps) == (True, True, 16)
    assert world.store.digest() == before
    world.tell(*Story(9).whole())
    world.run()
    assert world.store.execution(Story(9).id) is not None


def test_what_the_log_should_have_and_lacks_is_not_copied_and_the_old_store_stays_unless_forced(
    lived: Lived,
) -> None:
    url, world = lived()
    live(world, 1, 2)
    world.run()
    invented = Story(50)
    steps = [step_of(result) for result in invented.whole()]
    payloads = [FoldedStep(s.result, s.digest, CODEC.encode(s.result), s.signed) for s in steps]
    with world.store.begin() as tx:
        tx.put_steps(payloads)
        tx.put_execution(fold(invented.id, payloads))

    made = rebuild(world, url)

    assert (made.equal, made.replaced, made.carried.left) == (False, False, Tally(steps=4))
    assert world.store.execution(invented.id) is not None
    assert beside(url) == []

    made = rebuild(world, url, Choice(even_if_different=True))
    assert (made.equal, made.replaced) == (False, True)
    assert world.store.execution(invented.id) is None
    kept = f"{url.rpartition('=')[0]}={made.kept}" if "postgresql" in url else f"sqlite:///{made.kept}"
    with closing(open_history(kept, CODEC)) as old:
        assert old.execution(invented.id) is not None
    check(world)


def test_a_record_that_history_lost_comes_back(lived: Lived) -> None:
    url, world = lived()
    live(world, 1, 2)
    world.run()
    engine = home_of(url).engine()
    with engine.begin() as connection:
        for table in ("steps", "executions"):
            connection.execute(text(f"DELETE FROM {table} WHERE execution_id = :id"), {"id": Story(1).id})
    engine.dispose()
    made = rebuild(world, url, Choice(even_if_different=True))
    assert (made.equal, made.replaced) == (False, True)
    check(world)


def test_what_retention_took_does_not_come_back(lived: Lived) -> None:
    url, world = lived()
    live(world, *range(8))
    projector = world.run()
    cutoffs = Cutoffs(*([START_NS + 5 * SECOND] * 4))
    with world.store.begin() as tx:
        tx.forget(cutoffs, limit=2)  # and no further: the rebuild finishes what was begun
    made = rebuild(world, url)
    assert (made.equal, made.replaced) == (True, True)
    assert [number for number in range(8) if world.store.execution(Story(number).id) is not None] == [0, 3, 4, 5, 6, 7]
    with world.store.begin() as tx:
        assert tx.forgotten() == cutoffs
        assert tx.forget(cutoffs, limit=9).total == 0
    before = world.store.digest()
    for record in world.log.records(topics.RESULTS):
        world.log.duplicate(record)
    until_folded(world, projector)
    assert world.store.digest() == before


def test_retention_and_then_a_rebuild_is_a_rebuild_and_then_retention(lived: Lived) -> None:
    digests = []
    for first in ("forget", "rebuild"):
        url, world = lived()
        for number in range(9):
            world.tell(*Story(number, event_id=EventId(f"event-{number % 4}")).whole(effect_holds=number % 4 == 1))
            world.detect(event(number))
        world.tell(*Story(9, undo_of=Story(1, event_id=EventId("event-1")).id).whole())
        world.audit(f"node/{NODE}/{BORN}", 5)
        world.beat(heartbeat(1))
        world.run()
        for partition in (0, 1):
            world.log.truncate(topics.RESULTS, partition=partition, below=6)
        cutoffs = Cutoffs(*([START_NS + 5 * SECOND] * 4))
        if first == "forget":
            forget_all(world.store, cutoffs)
        assert rebuild(world, url).replaced
        if first == "rebuild":
            forget_all(world.store, cutoffs)
        digests.append((world.store.digest(), world.store.health().executions))
    assert digests[0] == digests[1]


def test_one_rebuild_at_a_time(lived: Lived) -> None:
    url, world = lived()
    live(world, 1)
    world.run()
    with (
        closing(open_rebuilding(url, CODEC, world.failpoints)),
        pytest.raises(ConfigError, match=r"another|in use"),
    ):
        rebuild(world, url)
    assert rebuild(world, url).replaced


def test_killed_at_every_step_the_store_is_whole_and_the_next_rebuild_ends_well(new_url: NewUrl) -> None:
    url = new_url()
    done = subprocess.run(
        [sys.executable, "-m", "tests.drivers.rebuild", url], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*FAILPOINTS, HALF_WAY]
    assert beside(url) == []


def test_the_readers_of_a_schema_may_read_the_new_one_too(postgresql: Cluster) -> None:
    url = postgresql.url()
    with closing(open_history(url, CODEC)) as store:
        world = World(store)
        live(world, 1)
        world.run()
    schema = url.rpartition("=")[2]
    role = f"reader_{schema}"
    engine = home_of(url).engine()
    with engine.begin() as connection:
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
        ):
            connection.execute(text(statement))
    engine.dispose()
    assert rebuild(world, url).replaced
    with closing(open_history(url.replace("//postgres@", f"//{role}@"), CODEC)) as reader:
        assert reader.execution(Story(1).id) is not None
        assert reader.next_offset(LogPosition(LogId("x"), "t", 0)) is None
