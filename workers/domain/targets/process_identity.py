"""Whether the present holder of a pid is the process that an event, or a person, meant.

A pid has one holder at a time. The named process was alive when it was observed. So if the present holder of its pid
started before that moment, it is that process; if it started later, it is another. Nothing else counts: exe, command
line, cgroup and name can be changed by the process itself. Called by actions; pure.

**Clocks.** A start time is boot time plus ticks; boot time is CLOCK_REALTIME minus CLOCK_BOOTTIME, read in nanoseconds
(``btime`` in /proc/stat has a grain of a second). Slewing moves both clocks alike, so the difference stays; *setting*
the clock (an NTP step, a leap second) moves it by the step, and a detector that computed its own difference before
the step then disagrees with this node by as much until it restarts. Forward steps make holders look younger: the
verdict is "gone", with both times in it, and nothing is touched. Backward steps make them look older by the step.

**A named start time** (Falco's ``proc.pid.ts``) is never before the true start, but may be long after it: for processes
older than Falco it is the ctime of a /proc file. So a holder younger than it is another process, and a holder older
than it proves nothing against itself. Only a person who names pid and start time, without an event, means exactly that
start.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from workers.domain.targets.process import ProcessFacts, ProcessIdentity

CLOCK_ERROR_NS: Final = 250_000
"""Between the detector's clock and this one on the same machine: each reads two clocks one after the other, which takes
microseconds, and may be interrupted in between."""

WINDOW_TICKS: Final = 2
"""Start times known in ticks only prove nothing within two of them: one for their own grain, one for a start time that
the detector cut to a tick."""


BTIME_GRAIN_NS: Final = 1_000_000_000
"""A start computed from ``btime`` of /proc/stat plus ticks, as by ps and psutil, is up to a second too early."""


class Verdict(Enum):
    """The result of the comparison."""

    SAME = auto()
    GONE = auto()
    """The holder started later: the process that was meant has ended."""
    UNCLEAR = auto()
    """Too close to decide. Nothing may be done on a guess."""
    CONTRADICTED = auto()
    """The holder is older than the exact start time that a person named, or less than a second younger: a mistake, a
    coarse clock or one that was set. Neither surely the same, nor gone."""


class Binding(Enum):
    """By what the holder was recognised; its value is the output ``identity``."""

    START_TIME = "start_time"
    PID_BEFORE_EVENT = "pid_before_event"
    PID_AT_INTAKE = "pid_at_intake"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and, where it is ``SAME``, by what."""

    verdict: Verdict
    binding: Binding


def judge_event(facts: ProcessFacts, *, observed_at_ns: int, named_start_ns: int | None, tick_ns: int) -> Judgement:
    """Whether the holder was alive when the event happened, all times in nanoseconds since the epoch."""
    window = WINDOW_TICKS * tick_ns
    fine = facts.start_grain_ns < tick_ns
    earliest, latest = facts.started_at_ns, facts.started_at_ns + facts.start_grain_ns
    if latest + (CLOCK_ERROR_NS if fine else window - tick_ns) <= observed_at_ns:
        return Judgement(Verdict.SAME, Binding.PID_BEFORE_EVENT)
    if earliest >= observed_at_ns + window:
        return Judgement(Verdict.GONE, Binding.PID_BEFORE_EVENT)
    if named_start_ns is None:
        return Judgement(Verdict.UNCLEAR, Binding.PID_BEFORE_EVENT)
    if (latest if fine else earliest) <= named_start_ns + CLOCK_ERROR_NS:
        return Judgement(Verdict.SAME, Binding.START_TIME)
    if earliest > named_start_ns + window:
        return Judgement(Verdict.GONE, Binding.START_TIME)
    return Judgement(Verdict.UNCLEAR, Binding.START_TIME)


def judge_review(facts: ProcessFacts, *, requested_at_ns: int, named_start_ns: int | None, tick_ns: int) -> Judgement:
    """Whether the holder is what a person named, without an event: a pid (older than the request), or a pid and its
    exact start (to two ticks). ``requested_at_ns`` 0 takes the holder as it is."""
    window = WINDOW_TICKS * tick_ns
    if named_start_ns is not None:
        difference_ns = facts.started_at_ns - named_start_ns
        if difference_ns > window + BTIME_GRAIN_NS:
            return Judgement(Verdict.GONE, Binding.START_TIME)
        if not -window <= difference_ns <= window:
            return Judgement(Verdict.CONTRADICTED, Binding.START_TIME)
        return Judgement(Verdict.SAME, Binding.START_TIME)
    if requested_at_ns == 0:
        return Judgement(Verdict.SAME, Binding.PID_AT_INTAKE)
    judged = judge_event(facts, observed_at_ns=requested_at_ns, named_start_ns=None, tick_ns=tick_ns)
    return Judgement(judged.verdict, Binding.PID_AT_INTAKE)


def is_same(holder: ProcessIdentity, claimed: ProcessIdentity) -> bool:
    """Whether a process that was bound earlier still holds its pid: by the kernel's own number where both have one,
    else by its start in ticks, which setting the clock does not change."""
    if holder.boot_id != claimed.boot_id:
        return False
    if holder.serial and claimed.serial:
        return holder.serial == claimed.serial
    return holder.start_ticks == claimed.start_ticks
