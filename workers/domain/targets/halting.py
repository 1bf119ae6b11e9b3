"""Whether any instruction of a process can run, judged by the states of its threads that the kernel shows.

Read by ``host.processes``, judged here for the actions that suspend, resume and kill. Pure.

A stop signal counts for a whole process: the first thread that takes it sends all others to stop with it, and one that
is inside the kernel stops before it comes out. So a thread in a call that nothing interrupts (state D), or in a frozen
cgroup, runs no instruction of its own any more once a stop is pending; it only has not arrived yet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

_ENDED: Final = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class ThreadFacts:
    """One thread, as /proc/<pid>/task/<id>/status shows it."""

    number: int
    state: str
    """One letter: T stopped by a signal, t stopped by its tracer, D in a call that nothing interrupts."""
    stop_pending: bool
    """A SIGSTOP was sent, to it or to its process, and not taken yet."""


class Halt(Enum):
    """How far a process is stopped."""

    RUNNING = auto()
    """At least one thread can run."""
    STOPPED = auto()
    """Every thread is stopped by a signal."""
    ARRIVING = auto()
    """None can run: some are stopped, the others are held in the kernel and stop before they leave it."""
    TRACED = auto()
    """None runs: some are stopped by a tracer, which may continue them at any time."""


def halt_of(threads: Iterable[ThreadFacts], *, frozen: bool = False) -> Halt:
    """How far the process of these threads is stopped; ``frozen`` is whether its cgroup is frozen."""
    living = _living(threads)
    stopping = any(thread.state == "T" for thread in living)
    if not living or not all(_is_stopped(thread, frozen=frozen, stopping=stopping) for thread in living):
        return Halt.RUNNING
    if any(thread.state == "t" for thread in living):
        return Halt.TRACED
    return Halt.STOPPED if all(thread.state == "T" for thread in living) else Halt.ARRIVING


def all_stopped(threads: Iterable[ThreadFacts]) -> bool:
    """Whether every thread has arrived in state T."""
    return halt_of(threads) is Halt.STOPPED


def none_stopped(threads: Iterable[ThreadFacts]) -> bool:
    """Whether no thread is stopped by a signal, nor will be."""
    return not any(thread.state == "T" or thread.stop_pending for thread in _living(threads))


def _living(threads: Iterable[ThreadFacts]) -> Sequence[ThreadFacts]:
    """A main thread may have ended before the others."""
    return [thread for thread in threads if thread.state not in _ENDED]


def _is_stopped(thread: ThreadFacts, *, frozen: bool, stopping: bool) -> bool:
    if thread.state in "Tt":
        return True
    return (thread.state == "D" or frozen) and (thread.stop_pending or stopping)
