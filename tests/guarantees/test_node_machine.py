"""A node as a state machine: commands, duplicates, garbage, crashes anywhere, restarts, time, a full disk."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, invariant, multiple, precondition, rule

from tests.fakes.failpoints import Crash
from tests.fakes.node import KEYSET, NodeBench
from tests.fakes.signing import FakeVerifier
from tests.guarantees.node import (
    AtMostOneEffectPerTargetIncarnation,
    RejectedMeansUntouched,
    TheNodeWins,
    check_all,
)
from workers.domain.command import ActionCommand
from workers.domain.errors import LimitExceeded
from workers.domain.trust.envelope import PayloadType
from workers.node.services import FAILPOINTS

ACTIONS = ("scripted_kill", "quick_kill", "scripted_stop", "scripted_copy", "no_such_action")
SCRIPTS = ("", "transient", "transient_after", "hang", "hang_after", "permanent", "bug", "reject")
NUMBERS = st.integers(1, 4)


class NodeMachine(RuleBasedStateMachine):
    """Everything that can happen to a node, in any order."""

    commands: Bundle[ActionCommand] = Bundle("commands")

    def __init__(self) -> None:
        super().__init__()
        self.bench = NodeBench()
        for number in (1, 2, 3):
            self.bench.world.spawn(number)
        self.bench.world.protected.add(3)
        self.bench.put(b"somebody else's", key=b"b" * 32)
        self.bench.settle()  # it has read this log before: a first day begins one retention back

    def go(self, patience_s: float = 0.0) -> None:
        """Work until it rests; a crash on the way is a restart."""
        for _ in range(20):
            try:
                self.bench.settle(patience_s=patience_s)
            except Crash:
                self.restart()
            else:
                return

    @rule(
        target=commands,
        action=st.sampled_from(ACTIONS),
        number=NUMBERS,
        dry_run=st.booleans(),
        ttl_s=st.sampled_from((0, 30, 300)),
    )
    def submit(self, action: str, number: int, dry_run: bool, ttl_s: int) -> ActionCommand:
        now_ns = self.bench.clock.now_ns()
        command = self.bench.command(
            action, number, dry_run=dry_run, expires_at_ns=now_ns + ttl_s * 1_000_000_000, timeout_s=60
        )
        self.bench.send(command)
        return command

    @rule(command=commands)
    def deliver_again(self, command: ActionCommand) -> None:
        self.bench.send(command)

    @rule(target=commands, command=commands)
    def undo(self, command: ActionCommand) -> ActionCommand | MultipleResults[ActionCommand]:
        if command.undo_of:
            return multiple()
        undo = self.bench.command("scripted_start", undo_of=command.command_id, target=None)
        self.bench.send(undo)
        return undo

    @rule(value=st.binary(max_size=40))
    def garbage(self, value: bytes) -> None:
        self.bench.put(value)

    @rule(number=NUMBERS)
    def forge(self, number: int) -> None:
        self.bench.send(self.bench.command(number=number, incarnation="another life"), genuine=False)

    @rule(number=NUMBERS, script=st.sampled_from(SCRIPTS))
    def misbehave(self, number: int, script: str) -> None:
        self.bench.world.scripts.setdefault(number, []).append(script)

    @rule(number=NUMBERS)
    def be_born(self, number: int) -> None:
        if number not in self.bench.world.alive:
            self.bench.world.spawn(number)

    @rule()
    def work(self) -> None:
        self.go()

    @rule(place=st.sampled_from(FAILPOINTS), nth=st.integers(1, 3))
    def crash_while_working(self, place: str, nth: int) -> None:
        self.bench.failpoints.arm(place, nth=nth)
        self.go()

    @rule()
    def restart(self) -> None:
        self.bench.journal.break_with(None)
        self.bench.restart()

    @rule(seconds=st.sampled_from((1.0, 31.0, 301.0, 86_400.0)))
    def let_time_pass(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

    @rule(seconds=st.sampled_from((-86_400, -60, 60)))
    def turn_the_clock(self, seconds: int) -> None:
        self.bench.clock.set(self.bench.clock.now_ns() + seconds * 1_000_000_000)

    @rule()
    def fill_the_disk(self) -> None:
        self.bench.journal.break_with(LimitExceeded("full", code="journal_full"))

    @rule()
    def free_the_disk(self) -> None:
        self.bench.journal.break_with(None)

    @rule()
    def beat_and_tidy(self) -> None:
        self.bench.heartbeat.step()
        with suppress(LimitExceeded):
            self.bench.heartbeat.tidy()

    @precondition(lambda self: self.bench.world.effects)
    @invariant()
    def nothing_was_done_twice_or_unasked(self) -> None:
        observation = self.bench.observation()
        AtMostOneEffectPerTargetIncarnation().check(observation)
        RejectedMeansUntouched().check(observation)
        TheNodeWins().check(observation)
        assert all(effect.intended for effect in observation.effects)

    def teardown(self) -> None:
        """Heal everything, let it come to rest, and hold it to every promise."""
        self.bench.journal.break_with(None)
        self.bench.world.scripts.clear()
        self.bench.failpoints.disarm()
        self.go(patience_s=1_000)
        self.bench.restart()
        self.go(patience_s=1_000)
        seen = self.bench.observation()
        # What lay on the bus for days after its expiry is nobody's to answer any more: a dead letter, and no effect.
        values = [letter.value for letter in seen.dead_letters if letter.reason == "too_old"]
        opened = [FakeVerifier(KEYSET).verify(value or b"", PayloadType.COMMAND, ActionCommand) for value in values]
        forgotten = {found.record.command_id for found in opened}
        answered = {result.execution_id for result in seen.results}
        unanswerable = forgotten - answered
        kept = {known: command for known, command in seen.accepted.items() if known not in unanswerable}
        if not self.bench.spare.published:  # numbers spent in memory while the disk was full die with the process
            output = {repr(result): result.record_no for result in seen.results}
            output |= {repr(state): state.record_no for state in self.bench.heartbeats()}
            assert sorted(output.values()) == list(range(len(output))), "a record number twice, or one left out"
        check_all(replace(seen, accepted=kept, strangers=seen.strangers | unanswerable))


NodeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestNodeMachine = NodeMachine.TestCase
