"""Commands of a machine whose clock differs from the node's: what expired never runs, what is valid always does."""

from __future__ import annotations

import pytest

from tests.fakes.node import NodeBench
from tests.guarantees.node import check_all
from workers.domain.outcome import Outcome

SECOND_NS = 1_000_000_000
OFFSETS_S = (0, 1, -1, 29, -29, 61, -61, 600, -600, 86_400, -86_400)
LIVES_S = (5, 60, 300)
WITHIN_S = 30
"""Clocks may differ by so much before anything valid is refused."""


@pytest.mark.fault("F14")
def test_with_clocks_apart_nothing_expired_runs_and_nothing_valid_is_refused() -> None:
    """The dispatcher's clock is off by each offset, each command arrives at once, or after it has expired."""
    ran = refused = wrongly_run = wrongly_refused = number = 0
    alarmed: set[int] = set()
    for offset_s in OFFSETS_S:
        for life_s in LIVES_S:
            for late in (False, True):
                bench = NodeBench()
                number += 1
                bench.world.spawn(number)
                issued_ns = bench.clock.now_ns() + offset_s * SECOND_NS
                command = bench.command(
                    number=number,
                    issued_at_ns=issued_ns,
                    not_before_ns=issued_ns,
                    expires_at_ns=issued_ns + life_s * SECOND_NS,
                )
                if late:  # on the node's clock, however far that is off
                    bench.clock.set(command.expires_at_ns + SECOND_NS)
                expired = bench.clock.now_ns() > command.expires_at_ns
                bench.send(command)
                bench.settle()
                outcome = bench.results(command.command_id)[-1].outcome
                done = len(bench.world.effects)
                ran, refused = ran + done, refused + (not done)
                wrongly_run += expired and bool(done)
                wrongly_refused += not expired and abs(offset_s) <= WITHIN_S and not done
                if outcome is Outcome.REJECTED:
                    alarmed.add(offset_s)
                check_all(bench.observation())
                later = bench.command(number=number)
                bench.send(later)
                bench.settle()
                assert bench.results(later.command_id)[-1].outcome in (Outcome.COMPLETED, Outcome.NO_ACTION)
    print(f"\n{number} commands, {ran} ran, {refused} refused; wrongly run {wrongly_run}, wrongly {wrongly_refused}")
    assert (wrongly_run, wrongly_refused) == (0, 0)
    assert alarmed == {61, 600, 86_400}, "what is issued ahead is refused as such, not taken for late"


@pytest.mark.fault("F14")
@pytest.mark.parametrize("jump_s", [600, -600, 86_400, -86_400])
def test_a_jump_of_the_node_s_clock_between_intake_and_act_runs_nothing_expired_and_heals(jump_s: int) -> None:
    bench = NodeBench()
    for number in range(20):
        bench.world.spawn(number)
        bench.send(bench.command(number=number))
    assert bench.read()
    bench.clock.set(bench.clock.now_ns() + jump_s * SECOND_NS)
    bench.settle()
    outcomes = {bench.results(each)[-1].outcome for each in bench.accepted}
    assert outcomes == ({Outcome.EXPIRED} if jump_s > 0 else {Outcome.COMPLETED})
    bench.clock.set(bench.clock.now_ns() - jump_s * SECOND_NS)
    bench.restart()
    after = bench.command(number=3)
    bench.world.spawn(3)
    bench.send(after)
    bench.settle()
    assert bench.results(after.command_id)[-1].outcome is Outcome.COMPLETED
    check_all(bench.observation())
