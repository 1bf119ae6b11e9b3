"""Which process a command names, and whether the present holder of its pid is that one and may be touched.

Called by ``base.process`` and ``snapshot_process``; knows the domain and ports only. The present holder of a pid is
acted on only where ``domain.targets.process_identity`` finds that it is the named process, and
``domain.targets.protected_processes`` that it may be. What the target can write (argv, exe, name, cgroup) is evidence
and never a reason to refuse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from workers.domain.command import ActionCommand
from workers.domain.errors import CommandRejected
from workers.domain.event import ProcessRef
from workers.domain.event_bounds import is_pid
from workers.domain.request import ActorKind
from workers.domain.target import ProcessTarget
from workers.domain.targets.process import ProcessFacts
from workers.domain.targets.process_identity import Binding, Judgement, Verdict, judge_event, judge_review
from workers.domain.targets.protected_processes import protection
from workers.host.ports import Host
from workers.host.processes.ports import ProcessHandle

MOST_AHEAD_NS: Final = 30_000_000_000
"""How far the detector's clock may be ahead of this machine's: the skew that the whole of Douse tolerates. A process
that started after the event would look older by as much."""


@dataclass(frozen=True, slots=True)
class Found:
    """The present holder of the pid: it is the named process. The caller closes ``handle``."""

    handle: ProcessHandle
    binding: Binding


@dataclass(frozen=True, slots=True)
class Gone:
    """The named process is not there."""

    why: str
    seen: bool = True
    """Whether it ever was there: an event has it, or a start time was named. A bare pid that nothing has may be a
    mistake."""


def named_process(command: ActionCommand, ancestor: int) -> tuple[ProcessTarget, ProcessRef]:
    """The target, and the process of its line that the command names.

    Raises:
        CommandRejected: ``invalid_target``, ``ancestor_unknown``.
    """
    target = command.target
    if not isinstance(target, ProcessTarget) or not target.line:
        raise CommandRejected(f"{command.action} needs a process as its target", code="invalid_target")
    if ancestor >= len(target.line):
        known = len(target.line) - 1
        raise CommandRejected(
            f"ancestor {ancestor} is unknown: the event names {known or 'no'} ancestor{'' if known == 1 else 's'}. "
            "Let the detector print more of the line (Falco: append_output with proc.ppid, proc.apid[2] …), "
            "or choose a nearer one",
            code="ancestor_unknown",
        )
    return target, target.line[ancestor]


def find(command: ActionCommand, ancestor: int, host: Host) -> Found | Gone:
    """The present holder of the pid, held, where it is the named process.

    Raises:
        CommandRejected: it may be another one (``identity_unclear``, ``identity_missing``, ``start_time_mismatch``).
    """
    target, ref = named_process(command, ancestor)
    if target.boot_id and target.boot_id != host.processes.boot_id():
        return Gone("it ended when the machine rebooted")
    handle = host.processes.open(ref.pid)
    if handle is None:
        return _absent(command, ref)
    try:
        judgement = _judge(command, target, ref, handle.facts, host)
        why = _gone_or_refused(judgement, target, ref, handle.facts)
    except BaseException:
        handle.close()
        raise
    if why:
        handle.close()
        return Gone(why)
    return Found(handle, judgement.binding)


def _absent(command: ActionCommand, ref: ProcessRef) -> Gone:
    """No process has the pid."""
    if not is_pid(ref.pid):
        return Gone("no kernel gives out this pid", seen=False)
    if command.causation.event_id or ref.started_at_ns is not None:
        return Gone("it has ended")
    return Gone("no process has this pid, and neither an event nor a start time says that one had", seen=False)


def refuse_protected(facts: ProcessFacts, host: Host) -> None:
    """Raises ``CommandRejected`` (``protected_target``) where it must not be touched."""
    reason = guard_of(host)(facts)
    if reason is not None:
        raise CommandRejected(f"process {facts.pid} is protected on this node: {reason}", code="protected_target")


def guard_of(host: Host) -> Callable[[ProcessFacts], str | None]:
    """Why a process must not be touched here; None where it may be."""
    own_line, own_cgroup = host.processes.own_line(), host.processes.own_cgroup()
    return lambda facts: protection(facts, own_line=own_line, own_cgroup=own_cgroup)


def _judge(
    command: ActionCommand, target: ProcessTarget, ref: ProcessRef, facts: ProcessFacts, host: Host
) -> Judgement:
    """A person who names a process without an event means the exact start time; any other command an event's
    process."""
    observed_at_ns, tick_ns = target.observed_at_ns, host.processes.tick_ns()
    ahead_ns = observed_at_ns - host.clock.now_ns()
    if ahead_ns > MOST_AHEAD_NS:
        raise CommandRejected(
            f"process {ref.pid} was observed {ahead_ns / 1e9:.1f} s in this machine's future, so it is unknown which "
            "process held the pid then. Set the clocks right, and restart a detector that ran while its clock was set",
            code="identity_unclear",
        )
    if command.actor.kind is ActorKind.PERSON and not command.causation.event_id:
        return judge_review(facts, requested_at_ns=observed_at_ns, named_start_ns=ref.started_at_ns, tick_ns=tick_ns)
    if observed_at_ns <= 0:
        raise CommandRejected(
            f"process {ref.pid} is named without the time of its observation, so its identity is unknown",
            code="identity_missing",
        )
    return judge_event(facts, observed_at_ns=observed_at_ns, named_start_ns=ref.started_at_ns, tick_ns=tick_ns)


def _gone_or_refused(judgement: Judgement, target: ProcessTarget, ref: ProcessRef, facts: ProcessFacts) -> str:
    """Why it is gone; empty where it is the named process."""
    match judgement.verdict:
        case Verdict.SAME:
            return ""
        case Verdict.GONE:
            return (
                f"it has ended, and its pid belongs to a process that started at {facts.started_at_ns} ns, "
                f"after the event ({target.observed_at_ns} ns)"
            )
        case Verdict.UNCLEAR:
            raise CommandRejected(
                f"process {ref.pid} started within clock error of the event, so it may be another one that got the "
                "pid. Let the detector print the start time (Falco: append_output with proc.pid.ts)",
                code="identity_unclear",
            )
        case Verdict.CONTRADICTED:
            raise CommandRejected(
                f"process {ref.pid} started at {facts.started_at_ns} ns, not at the {ref.started_at_ns} ns that was "
                "requested; read it again and send its own start time, or -1 for the present holder of the pid",
                code="start_time_mismatch",
            )
