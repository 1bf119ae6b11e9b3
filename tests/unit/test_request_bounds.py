"""A request fits what the dispatcher takes, whatever the texts and paths of its targets are."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from workers.domain.event import MAX_ANCESTORS, ProcessRef
from workers.domain.event_bounds import LARGEST_LONG, LARGEST_PID, LONGEST_EVIDENCE, LONGEST_NAME
from workers.domain.ids import id_from_cause
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
from workers.domain.request_bounds import MAX_BYTES, MAX_EVIDENCE, MAX_STEPS, MAX_TEXT, check_size, fitted
from workers.domain.target import FileTarget, ProcessTarget, Target
from workers.domain.trust.envelope import PayloadType
from workers.wire.avro import AvroCodec
from workers.wire.signing import EnvelopeSigner, PrivateKey

NOW_NS: Final = 1_900_000_000_000_000_000
SIGNER: Final = EnvelopeSigner(PrivateKey.generate(), AvroCodec())
CHARACTERS: Final = ("a", "\u00e9", "\u20ac", "\U0001f480")


def request(*targets: Target) -> ActionRequest:
    wide = CHARACTERS[-1] * MAX_TEXT
    return ActionRequest(
        verb=Verb.EXECUTE,
        requested_at_ns=NOW_NS,
        actor=Actor(ActorKind.RULE, wide),
        host=wide,
        steps=tuple(
            Step(id_from_cause(NOW_NS, str(number)), "kill_process", target, {"ancestor": 31})
            for number, target in enumerate(targets)
        ),
        reason=wide,
        causation=Causation(),
        detected_at_ns=LARGEST_LONG,
    )


def line(length: int, character: str) -> tuple[ProcessRef, ...]:
    text, name = character * LONGEST_EVIDENCE, character * LONGEST_NAME
    return tuple(ProcessRef(LARGEST_PID - 1, LARGEST_LONG, text, name, text) for _ in range(length))


@given(
    st.lists(
        st.builds(
            lambda length, character: ProcessTarget(line(length, character), NOW_NS),
            st.integers(1, MAX_ANCESTORS),
            st.sampled_from(CHARACTERS),
        ),
        min_size=1,
        max_size=MAX_STEPS - 2,
    ),
    st.integers(0, 2),
)
def test_every_request_fits(processes: list[ProcessTarget], files: int) -> None:
    path = CHARACTERS[-1].encode() * 4095
    made = fitted(request(*processes, *[FileTarget(path, NOW_NS)] * files))
    check_size(SIGNER.sign(PayloadType.REQUEST, made).value)
    for step, before in zip(made.steps, processes, strict=False):
        assert isinstance(step.target, ProcessTarget)
        assert [(each.pid, each.started_at_ns) for each in step.target.line] == [
            (each.pid, each.started_at_ns) for each in before.line
        ]


def test_what_fits_stays_as_it_was() -> None:
    made = request(ProcessTarget(line(3, "a"), NOW_NS))
    assert fitted(made) is made


def test_the_longest_texts_are_cut_and_the_short_ones_stay_whole() -> None:
    short = ProcessRef(7, None, "/usr/bin/bash", "bash", "bash -c evil")
    made = fitted(request(ProcessTarget((short, *line(31, "\U0001f480")), NOW_NS)))
    target = made.steps[0].target
    assert isinstance(target, ProcessTarget)
    assert target.line[0] == short
    lengths = [len(text.encode()) for each in target.line for text in (each.exe, each.name, each.command_line)]
    assert MAX_EVIDENCE * 0.9 < sum(lengths) <= MAX_EVIDENCE < MAX_BYTES
    assert set(target.line[1].exe) == {"\U0001f480"}, "no character is cut in two"
