"""One thing that was asked for, what came of it, and whether the world agrees.

Used by `ledger.py` at the end of a test. Pure but for the looks that morgue and shelf take: nothing here asks a worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.e2e.morgue import Morgue
from tests.e2e.shelf import Shelf
from tests.victims import state_of

STARTED_NS: Final = 250_000_000
"""What has started before its expiry may end after it: the gate is asked before the claim is made durable, a kill takes
milliseconds, the morgue's thread has its turn a little later on a busy machine."""

FINISHED: Final = "COMPLETED"
NOTHING_YET: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class Asked:
    """One thing that was asked for, and what may come of it."""

    kind: str
    outcomes: frozenset[str]
    pid: int = 0
    """Whose death was asked for; 0 where it is about a file."""
    path: Path | None = None
    undoes: Asked | None = None
    """What is to be undone."""
    key: str = ""
    event_id: str = ""
    execution_id: str = ""


@dataclass(slots=True)
class Verdict:
    """What the judge found, for printing."""

    asked: int
    lost: int = 0
    twice: int = 0
    wire_repeats: int = 0
    """The very same record more than once on the wire, which is allowed."""
    taken: int = 0
    given_back: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        files = f"; {self.taken} files taken, {self.given_back} back as they were" if self.taken else ""
        counts = f"lost {self.lost}, done twice {self.twice}, repeats {self.wire_repeats}"
        return f"{self.asked} asked: {counts} ({said}){files}"


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of one execution on the wire, from outside."""

    outcome: str
    code: str
    expires_ns: int
    intended_ns: Sequence[int]
    """When each of its attempts said that it would act, before it did."""


def of_process(each: Asked, heard: Heard, morgue: Morgue) -> Iterator[str]:
    """What is wrong with something that was to kill, or not to."""
    yield from _in_general(each, heard)
    died = None if each.kind == "protected" else morgue.died_ns(each.pid)
    if (died is not None) != (heard.outcome == FINISHED):
        yield f"says {heard.outcome}, and its process is dead: {died is not None}"
    if died is not None and morgue.status(each.pid) != -9:
        yield f"status {morgue.status(each.pid)}"
    if died is not None and not heard.intended_ns:
        yield "acted without an audited intent"
    family = [morgue.died_ns(pid) is not None for pid in morgue.family(each.pid)]
    if each.kind == "kill tree" and family != [heard.outcome == FINISHED] * len(family):
        yield f"says {heard.outcome}, and of its tree are dead: {family}"
    if heard.outcome != FINISHED and "T" in [state_of(pid) for pid in morgue.family(each.pid)]:
        yield f"says {heard.outcome}, and left somebody stopped"
    if died is not None and heard.expires_ns and died > heard.expires_ns + STARTED_NS:
        yield f"was done {(died - heard.expires_ns) / 1e9:.3f} s after its expiry"


def of_suspension(each: Asked, heard: Heard, morgue: Morgue, undone: Sequence[str]) -> Iterator[str]:
    """What is wrong with something that was to stop a process; `undone` are the outcomes of its undos."""
    yield from _in_general(each, heard)
    if morgue.died_ns(each.pid) is not None:
        yield "its process is dead"
    stopped = state_of(each.pid) == "T"
    if stopped != (heard.outcome == FINISHED and FINISHED not in undone):
        yield f"says {heard.outcome}, undone {list(undone)}, and its process is stopped: {stopped}"
    if heard.outcome == FINISHED and not heard.intended_ns:
        yield "acted without an audited intent"


def of_file(each: Asked, heard: Heard, shelf: Shelf, undone: Sequence[str]) -> Iterator[str]:
    """What is wrong with something that was to take a file away, or not to; `undone` are the outcomes of its undos."""
    assert each.path is not None
    yield from _in_general(each, heard)
    given_back = undone.count(FINISHED)
    if given_back > 1:
        yield f"{given_back} undos gave it back"
    if each.kind == "absent":
        said = "it is there" if each.path.exists() else ""
    elif heard.outcome != FINISHED:
        said = shelf.untouched(each.path)
    elif given_back:
        said = shelf.back(each.path)
    else:
        said = shelf.away(each.path, each.execution_id)
    if said:
        yield f"says {heard.outcome}, undone {list(undone)}, and {said}"
    if heard.outcome == FINISHED and not heard.intended_ns:
        yield "acted without an audited intent"


def of_undo(each: Asked, heard: Heard) -> Iterator[str]:
    """What is wrong with an undo, but for the file itself."""
    yield from _in_general(each, heard)
    if heard.outcome == "REJECTED" and not heard.code.endswith("_not_ended"):
        yield f"was refused: {heard.code}"
    if heard.outcome == FINISHED and not heard.intended_ns:
        yield "acted without an audited intent"


def in_history(heard: Heard, row: Mapping[str, Any]) -> Iterator[str]:
    """What history says otherwise."""
    if row.get("outcome") != heard.outcome or row.get("conflict"):
        yield f"is {heard.outcome}; history says {row.get('outcome')}"


def _in_general(each: Asked, heard: Heard) -> Iterator[str]:
    if heard.outcome not in each.outcomes:
        yield f"is {heard.outcome} ({heard.code})"
    if heard.expires_ns and heard.intended_ns and min(heard.intended_ns) > heard.expires_ns + STARTED_NS:
        yield f"was begun {(min(heard.intended_ns) - heard.expires_ns) / 1e9:.3f} s after its expiry"
