"""The janitor clears what belongs to no living command, and nothing else; a store that is away is asked again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.node import NODE, NodeBench
from tests.fakes.object_store import FakeObjectStore
from tests.fakes.spool import FakeSpool
from tests.fakes.vault import FakeVault
from workers.domain.errors import TransientFailure
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.targets.custody import object_key
from workers.node.janitor import AGAIN_S, PERIOD_S, Janitor

STRAY = id_from_cause(1_783_198_004_000_000_000, "stray")


class Site:
    """A node that has gathered, and its janitor."""

    def __init__(self) -> None:
        self.bench = NodeBench()
        self.spool, self.store = FakeSpool(), FakeObjectStore(NODE, self.bench.clock)
        host = replace(self.bench.services.host, spool=self.spool, objects=self.store)
        self.janitor = Janitor(replace(self.bench.services, host=host))

    def leave(self, execution_id: ExecutionId) -> None:
        self.spool.copies[execution_id] = b"half"
        self.store.begun.add(object_key(NODE, execution_id))


@pytest.fixture
def site() -> Site:
    return Site()


def test_what_no_command_owns_is_cleared(site: Site) -> None:
    site.leave(STRAY)
    site.store.objects[object_key(NODE, STRAY)] = b"evidence"
    site.janitor.step()
    assert site.spool.kept() == []
    assert site.store.unfinished() == []
    assert site.store.objects == {object_key(NODE, STRAY): b"evidence"}


def test_what_a_living_command_owns_is_left_alone_until_it_has_ended(site: Site) -> None:
    site.bench.world.spawn(1)
    command = site.bench.command()
    site.bench.send(command)
    site.bench.read()
    site.leave(command.command_id)
    site.janitor.step()
    assert site.spool.kept() == [command.command_id]
    assert site.store.unfinished() == [object_key(NODE, command.command_id)]
    site.bench.settle()
    site.bench.clock.advance(PERIOD_S)
    site.janitor.step()
    assert site.spool.kept() == []
    assert site.store.unfinished() == []


def test_rounds_are_rare_and_sooner_after_one_that_could_not_do_everything(site: Site) -> None:
    site.store.fail["unfinished"] = [TransientFailure(code="store_unavailable")]
    site.leave(STRAY)
    site.janitor.step()
    assert site.spool.kept() == []
    assert site.store.unfinished() != []
    site.janitor.step()
    assert site.store.unfinished() != [], "not due yet"
    site.bench.clock.advance(AGAIN_S)
    site.janitor.step()
    assert site.store.unfinished() == []
    site.leave(STRAY)
    site.bench.clock.advance(AGAIN_S)
    site.janitor.step()
    assert site.spool.kept() == [STRAY], "not due yet"


def test_a_node_that_gathers_nothing_has_nothing_to_clear() -> None:
    Janitor(NodeBench().services).step()


def test_the_vault_is_checked_once_and_again_if_that_could_not_be_done(site: Site) -> None:
    vault = FakeVault()
    host = replace(site.bench.services.host, vault=vault)
    janitor = Janitor(replace(site.bench.services, host=host))
    vault.objects[STRAY] = b"object"
    vault.fail["damaged"] = [TransientFailure(code="keyset_expired")]
    janitor.step()
    assert "vault_damaged" not in site.bench.telemetry.events()
    for _ in range(3):
        site.bench.clock.advance(PERIOD_S)
        janitor.step()
    assert site.bench.telemetry.events().count("vault_damaged") == 1
