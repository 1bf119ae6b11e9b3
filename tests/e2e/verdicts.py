"""One thing that was asked for, what came of it, and whether the world agrees.

Used by `client.py` at the end of a test. It reads the state of processes and files, and never asks a worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.e2e.victim_files import VictimFiles
from tests.e2e.victim_processes import VictimProcesses
from tests.victims import state_of

STARTED_NS: Final = 250_000_000
"""What has started before its expiry may end after it: the gate is asked before the claim is made durable, a kill takes
milliseconds, the thread that records the death runs a little later on a busy machine."""

FINISHED: Final = "COMPLETED"
NOTHING_YET: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class Order:
    """One thing that was asked for, and what may come of it."""

    kind: str
    outcomes: frozenset[str]
    pid: int = 0
    """Whose death was asked for; 0 where it is about a file."""
    path: Path | None = None
    container_id: str = ""
    undoes: Order | None = None
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
        output = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        files = f"; {self.taken} files taken, {self.given_back} back as they were" if self.taken else ""
        counts = f"lost {self.lost}, done twice {self.twice}, repeats {self.wire_repeats}"
        return f"{self.asked} asked: {counts} ({output}){files}"


@dataclass(frozen=True, slots=True)
class Ending:
    """How one execution ended, read from the wire by an outsider."""

    outcome: str
    code: str
    expires_ns: int
    intended_ns: Sequence[int]
    """When each of its attempts said that it would act, before it did."""


def of_process(each: Order, ending: Ending, processes: VictimProcesses) -> Iterator[str]:
    """What is wrong with something that was to kill, or not to."""
    yield from _in_general(each, ending)
    died = None if each.kind == "protected" else processes.died_ns(each.pid)
    if (died is not None) != (ending.outcome == FINISHED):
        yield f"says {ending.outcome}, and its process is dead: {died is not None}"
    if died is not None and processes.status(each.pid) != -9:
        yield f"status {processes.status(each.pid)}"
    if died is not None and not ending.intended_ns:
        yield "acted without an audited intent"
    family = [processes.died_ns(pid) is not None for pid in processes.family(each.pid)]
    if each.kind == "kill tree" and family != [ending.outcome == FINISHED] * len(family):
        yield f"says {ending.outcome}, and of its tree are dead: {family}"
    if ending.outcome != FINISHED and "T" in [state_of(pid) for pid in processes.family(each.pid)]:
        yield f"says {ending.outcome}, and left somebody stopped"
    if died is not None and ending.expires_ns and died > ending.expires_ns + STARTED_NS:
        yield f"was done {(died - ending.expires_ns) / 1e9:.3f} s after its expiry"


def of_suspension(each: Order, ending: Ending, processes: VictimProcesses, undone: Sequence[str]) -> Iterator[str]:
    """What is wrong with something that was to stop a process; `undone` are the outcomes of its undos."""
    yield from _in_general(each, ending)
    if processes.died_ns(each.pid) is not None:
        yield "its process is dead"
    stopped = state_of(each.pid) == "T"
    if stopped != (ending.outcome == FINISHED and FINISHED not in undone):
        yield f"says {ending.outcome}, undone {list(undone)}, and its process is stopped: {stopped}"
    if ending.outcome == FINISHED and not ending.intended_ns:
        yield "acted without an audited intent"


def of_file(each: Order, ending: Ending, files: VictimFiles, undone: Sequence[str]) -> Iterator[str]:
    """What is wrong with something that was to take a file away, or not to; `undone` are the outcomes of its undos."""
    assert each.path is not None
    yield from _in_general(each, ending)
    given_back = undone.count(FINISHED)
    if given_back > 1:
        yield f"{given_back} undos gave it back"
    if each.kind == "absent":
        output = "it is there" if each.path.exists() else ""
    elif ending.outcome != FINISHED:
        output = files.untouched(each.path)
    elif given_back:
        output = files.back(each.path)
    else:
        output = files.away(each.path, each.execution_id)
    if output:
        yield f"says {ending.outcome}, undone {list(undone)}, and {output}"
    if ending.outcome == FINISHED and not ending.intended_ns:
        yield "acted without an audited intent"


def is_given_up(ending: Ending) -> bool:
    """Whether the node stopped trying because it died too often in it."""
    return ending.code.endswith("_error_poison_action")


def of_given_up(
    each: Order, ending: Ending, processes: VictimProcesses, files: VictimFiles, undone: Sequence[str]
) -> Iterator[str]:
    """What is wrong with something that the node gave up: it has had no effect, or it counts as held and was undone."""
    if each.undoes is not None:
        return  # whether it is back is asked of what it was to undo
    if ending.outcome == "PARTIAL" and FINISHED not in undone:
        yield f"counts as held, and was undone {list(undone)}"
    if each.path is not None:
        problem = files.back(each.path)
        if problem:
            yield f"was given up ({ending.outcome}), and {problem}"
        return
    if processes.died_ns(each.pid) is not None:
        yield "was given up, and its process is dead"
    if "T" in [state_of(pid) for pid in processes.family(each.pid)]:
        yield "was given up, and left a process stopped"


def of_container(each: Order, ending: Ending, state: str, undone: Sequence[str]) -> Iterator[str]:
    """What is wrong with something that was to contain a container, which has this state now."""
    given_up = is_given_up(ending)
    if not given_up:
        yield from _in_general(each, ending)
    holds = ending.outcome in {FINISHED, "PARTIAL"} and FINISHED not in undone
    wanted = {"pause": "paused"}.get(each.kind, "exited") if holds else "running"
    if state != wanted:
        yield f"says {ending.outcome}, undone {list(undone)}, and its container is {state}"


def of_undo(each: Order, ending: Ending) -> Iterator[str]:
    """What is wrong with an undo, but for the file itself."""
    yield from _in_general(each, ending)
    if ending.outcome == "REJECTED" and not ending.code.endswith("_not_ended"):
        yield f"was refused: {ending.code}"
    if ending.outcome == FINISHED and not ending.intended_ns:
        yield "acted without an audited intent"


def in_history(ending: Ending, row: Mapping[str, Any]) -> Iterator[str]:
    """What history says otherwise."""
    if row.get("outcome") != ending.outcome or row.get("conflict"):
        yield f"is {ending.outcome}; history says {row.get('outcome')}"


def _in_general(each: Order, ending: Ending) -> Iterator[str]:
    if ending.outcome not in each.outcomes:
        yield f"is {ending.outcome} ({ending.code})"
    if ending.expires_ns and ending.intended_ns and min(ending.intended_ns) > ending.expires_ns + STARTED_NS:
        yield f"was begun {(min(ending.intended_ns) - ending.expires_ns) / 1e9:.3f} s after its expiry"
