"""Suspending what Douse itself suspended: the second joins the first, and is not lost when the first is undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.node_process import NodeSite, Victim, embedded_broker
from tests.victims import state_of
from workers.domain.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NodeSite]:
    with embedded_broker() as broker, NodeSite(tmp_path, broker) as made:
        yield made


def test_a_second_suspension_names_the_first_holds_nothing_and_is_not_lost_with_it(site: NodeSite) -> None:
    victim = Victim.several(1)[0]
    try:
        site.start()
        first = site.kill(victim.pid, action="suspend_process")
        site.send(first)
        assert site.ended(first.command_id).effect_holds
        second = site.kill(victim.pid, action="suspend_process")
        site.send(second)
        ended = site.ended(second.command_id)
        assert (ended.outcome, ended.code) == (Outcome.NO_ACTION, "suspend_process_success_already_held"), ended
        assert (ended.outputs["held_by"], ended.effect_holds) == (first.command_id, False)
        assert first.command_id in ended.message
        undo = site.kill(0, action="resume_process", target=None, undo_of=first.command_id)
        site.send(undo)
        assert site.ended(undo.command_id).outcome is Outcome.COMPLETED
        assert state_of(victim.pid) != "T"
        beats = len(site.seen.heartbeats)
        site.until(lambda seen: len(seen.heartbeats) >= beats + 3)  # as many looks at what holds
        assert [(r.execution_id, r.alarm) for r in site.read().results if r.alarm] == []
    finally:
        victim.bury()
