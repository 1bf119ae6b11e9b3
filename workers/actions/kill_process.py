"""kill_process: SIGKILL to exactly the process that was meant, through a descriptor that can become no other.

Run by the node worker in the containment lane. The present holder of a pid is acted on only where
``core.process_identity`` says that it is the one that was meant, and ``core.protection`` that it may be killed. What
the target can write (argv, exe, name, cgroup) is evidence and never a reason to refuse. It must never signal a pid.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from workers.action import Action, Done, FieldSpec, Job, Lane, NotDone, Pending, Permission, Probe, parameter
from workers.core.errors import CommandRejected
from workers.core.event import ProcessRef
from workers.core.outcome import Outcome, PostCondition, Report, Values
from workers.core.process import ProcessFacts, ProcessIdentity
from workers.core.process_identity import Judgement, Verdict, judge_event, judge_review
from workers.core.protection import protection
from workers.core.request import ActorKind
from workers.core.target import MAX_ANCESTORS, ProcessTarget
from workers.ports import HeldProcess, Host

FAILPOINTS: Final = ("kill_process.signalled",)
"""Right after the kernel took the signal, before anything is known of its effect."""

WAIT_S: Final = 5.0
"""How long a signalled process may take to end before the outcome is UNKNOWN: a large one frees gigabytes first."""

MOST_AHEAD_NS: Final = 30_000_000_000
"""How far the clock of whoever saw the process may be ahead of ours: the skew that the whole of Douse tolerates. A
process that is younger than the sighting would look older by as much."""

_LONGEST: Final = 512
"""Characters of a text output: the limit of the compatible API."""


@dataclass(frozen=True, slots=True)
class KillParameters:
    """What may be chosen."""

    ancestor: int = parameter(
        "Which process of the event's line: 0 its own, 1 its parent, 2 its grandparent",
        default=0,
        maximum=MAX_ANCESTORS - 1,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The present holder of the pid, and what it was judged to be."""

    facts: ProcessFacts
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class _Gone:
    """The process that was meant has ended."""

    why: str


class KillProcess(Action[KillParameters]):
    """Kills one process."""

    name = "kill_process"
    summary = "Kill the event's process, or one of its ancestors, with SIGKILL"
    drawbacks = (
        "The process gets no chance to save, flush or clean up.",
        "Its memory is lost as evidence; its children live on.",
        "A supervisor (systemd, a container runtime, a cron job) may start it again.",
        "Killing a container's init ends the container, and its restart policy may bring it back.",
        "Seen within 20 ms of its start, it is left alone unless the detector prints that start (deploy/falco does).",
    )
    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    local = True
    target = ProcessTarget
    parameters = KillParameters
    outputs = (
        FieldSpec("pid", "integer", "The process id on this host"),
        FieldSpec("started_at", "integer", "When it started, nanoseconds since the epoch"),
        FieldSpec("exe", "string", "Its executable"),
        FieldSpec("name", "string", "What it called itself"),
        FieldSpec("command_line", "string", "Its command line, secrets masked"),
        FieldSpec("user_id", "integer", "Whose it was"),
        FieldSpec("container_init", "boolean", "It was a container's init: the container ends, and may be restarted"),
        FieldSpec("identity", "string", "By what it was recognised: start_time, pid_before_event or pid_at_intake"),
    )
    privileges = ("KILL", "SYS_PTRACE")
    mounts = ()
    ttl_s = 300
    timeout_s = 60
    example: ClassVar[Mapping[str, Any]] = {
        "target": ProcessTarget(
            line=(
                ProcessRef(
                    pid=4711,
                    started_at_ns=1_783_198_004_170_000_000,
                    exe="/tmp/xmrig",
                    name="xmrig",
                    command_line="/tmp/xmrig -o pool.example:3333",
                ),
                ProcessRef(pid=4700, exe="/usr/bin/bash", name="bash"),
            ),
            observed_at_ns=1_783_198_004_180_672_852,
        ),
        "parameters": {"ancestor": 0},
    }

    def serial_key(self, job: Job[KillParameters]) -> str:
        """One at a time for each pid, whichever event named it."""
        line = job.target.line if isinstance(job.target, ProcessTarget) else ()
        return f"process:{line[job.parameters.ancestor].pid if job.parameters.ancestor < len(line) else 0}"

    def admit(self, job: Job[KillParameters], host: Host) -> None:
        """Refuse what needs no look at the process; ``bind`` looks once, and refuses by identity and protection."""
        _meant(job)

    def bind(self, job: Job[KillParameters], host: Host) -> Values:
        """The process that was meant, if it is still there: ``present`` says so, and ``gone`` why not."""
        found = _find(job, host)
        if isinstance(found, _Gone):
            return {"pid": _meant(job)[1].pid, "present": False, "gone": found.why}
        _refuse_protected(found.facts, host)
        facts = found.facts
        return {
            "pid": facts.pid,
            "present": True,
            "boot_id": facts.boot_id,
            "start_ticks": facts.start_ticks,
            "serial": facts.serial,
            "started_at": facts.started_at_ns,
            "exe": _short(facts.exe),
            "name": facts.name,
            "command_line": _short(facts.command_line),
            "user_id": facts.uid,
            "cgroup": _short(facts.cgroup),
            "container_init": facts.namespace_pid == 1 and facts.pid != 1,
            "identity": found.judgement.binding.value,
        }

    def execute(self, job: Job[KillParameters], claim: Values, host: Host) -> Report:
        """Take hold of the claimed process again, kill it, and wait until it has ended."""
        if not claim["present"]:
            return self._nothing_to_do(claim, str(claim["gone"]))
        handle = _reopen(claim, host)
        if handle is None:
            return self._nothing_to_do(claim, "it ended by itself before it could be killed")
        try:
            return self._kill(job, claim, host, handle)
        finally:
            handle.close()

    def probe(self, job: Job[KillParameters], claim: Values, host: Host) -> Probe:
        """SAFETY section 4: gone is done, alive is not done, unless a SIGKILL is already waiting for it to wake."""
        if not claim["present"]:
            return Done(self._nothing_to_do(claim, str(claim["gone"])))
        handle = _reopen(claim, host)
        if handle is None:
            return Done(self._killed(claim, "it is no longer there", cause="unproven"))
        try:
            facts = handle.refresh()
        finally:
            handle.close()
        if facts is None:
            return Done(self._killed(claim, "it is no longer there", cause="unproven"))
        waits = facts.kill_pending and (facts.frozen or facts.state == "D")
        return Pending(self._pending(claim, facts)) if waits else NotDone()

    def rehearse(self, job: Job[KillParameters], claim: Values, host: Host) -> Report:
        """What would be killed."""
        message = (
            f"would kill {_called(claim)}; nothing was touched"
            if claim["present"]
            else f"would do nothing: {claim['gone']}"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=_outputs(claim))

    def _kill(self, job: Job[KillParameters], claim: Values, host: Host, handle: HeldProcess) -> Report:
        before = host.clock.monotonic_ns()
        if not handle.signal(signal.SIGKILL):
            return self._nothing_to_do(claim, "it ended by itself before it could be killed")
        host.failpoints.reach("kill_process.signalled")
        left_s = (job.deadline_ns - host.clock.now_ns()) / 1_000_000_000
        if handle.wait_gone(max(0.0, min(WAIT_S, left_s))):
            took_ms = (host.clock.monotonic_ns() - before) / 1_000_000
            return self._killed(claim, f"it ended {took_ms:.1f} ms after the signal")
        facts = handle.refresh()
        return self._killed(claim, "it ended") if facts is None else self._pending(claim, facts)

    def _killed(self, claim: Values, detail: str, *, cause: str = "action") -> Report:
        more = (
            "; it was a container's init, so the container has ended and its restart policy may bring it back"
            if claim["container_init"]
            else ""
        )
        return self.report(
            Outcome.COMPLETED,
            "killed",
            f"{_called(claim)} was killed: {detail}{more}",
            outputs=_outputs(claim),
            post_condition=PostCondition("process_gone", holds=True, detail=detail),
            cause=cause,
        )

    def _pending(self, claim: Values, facts: ProcessFacts) -> Report:
        waits = (
            "its cgroup is frozen: it dies when it is thawed"
            if facts.frozen
            else "it is in a call that nothing interrupts (state D): it dies when the call returns"
            if facts.state == "D"
            else f"it has not ended yet (state {facts.state})"
        )
        return self.report(
            Outcome.UNKNOWN,
            "kill_pending",
            f"SIGKILL was sent to {_called(claim)}, but {waits}",
            outputs=_outputs(claim),
            post_condition=PostCondition("process_gone", holds=False, detail=waits),
        )

    def _nothing_to_do(self, claim: Values, why: str) -> Report:
        return self.report(
            Outcome.NO_ACTION,
            "target_gone",
            f"process {claim['pid']} was not killed by this command: {why}",
            outputs=_outputs(claim),
            post_condition=PostCondition("process_gone", holds=True, detail=why),
        )


def _meant(job: Job[KillParameters]) -> tuple[ProcessTarget, ProcessRef]:
    """The target, and the process of its line that the command means."""
    target = job.target
    if not isinstance(target, ProcessTarget) or not target.line:
        raise CommandRejected("kill_process needs a process as its target", code="invalid_target")
    chosen = job.parameters.ancestor
    if chosen >= len(target.line):
        known = len(target.line) - 1
        raise CommandRejected(
            f"ancestor {chosen} is unknown: the event names {known or 'no'} ancestor{'' if known == 1 else 's'}. "
            "Let the detector print more of the line (Falco: append_output with proc.ppid, proc.apid[2] …), "
            "or choose a nearer one",
            code="ancestor_unknown",
        )
    return target, target.line[chosen]


def _find(job: Job[KillParameters], host: Host) -> _Found | _Gone:
    """The present holder of the pid, where it is the process that was meant."""
    target, ref = _meant(job)
    if target.boot_id and target.boot_id != host.processes.boot_id():
        return _Gone("it has gone with its boot: the machine was restarted since")
    handle = host.processes.open(ref.pid)
    if handle is None:
        return _Gone("it has ended")
    facts = handle.facts
    handle.close()
    judgement = _judge(job, facts, host)
    match judgement.verdict:
        case Verdict.SAME:
            return _Found(facts, judgement)
        case Verdict.GONE:
            return _Gone(
                f"it has ended, and its pid belongs to a process that started at {facts.started_at_ns} ns, "
                f"after it was seen ({target.observed_at_ns} ns)"
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
                "asked for; look at it again and send its own start time, or -1 for whichever holds the pid",
                code="start_time_mismatch",
            )


def _judge(job: Job[KillParameters], facts: ProcessFacts, host: Host) -> Judgement:
    """A person who names a process without an event means the exact start time; everyone else an event's process."""
    target, ref = _meant(job)
    seen_ns, tick_ns = target.observed_at_ns, host.processes.tick_ns()
    ahead_ns = seen_ns - host.clock.now_ns()
    if ahead_ns > MOST_AHEAD_NS:
        raise CommandRejected(
            f"process {ref.pid} was seen {ahead_ns / 1e9:.1f} s in this machine's future, so nobody can tell who held "
            "the pid then. Set the clocks right, and restart a detector that ran while its clock was set",
            code="identity_unclear",
        )
    if job.command.actor.kind is ActorKind.PERSON and not job.command.causation.event_id:
        return judge_review(facts, asked_at_ns=seen_ns, named_start_ns=ref.started_at_ns, tick_ns=tick_ns)
    if seen_ns <= 0:
        raise CommandRejected(
            f"process {ref.pid} is named without the time it was seen at, so its identity cannot be told",
            code="identity_missing",
        )
    return judge_event(facts, observed_at_ns=seen_ns, named_start_ns=ref.started_at_ns, tick_ns=tick_ns)


def _refuse_protected(facts: ProcessFacts, host: Host) -> None:
    reason = protection(facts, own_line=host.processes.own_line(), own_cgroup=host.processes.own_cgroup())
    if reason is not None:
        raise CommandRejected(f"process {facts.pid} is protected on this node: {reason}", code="protected_target")


def _reopen(claim: Values, host: Host) -> HeldProcess | None:
    """Hold the claimed process; None when it has ended, whoever has its pid now."""
    claimed = ProcessIdentity(str(claim["boot_id"]), int(claim["start_ticks"]), int(claim["serial"]))
    return host.processes.reopen(int(claim["pid"]), claimed)


def _outputs(claim: Values) -> Values:
    """What the catalogue promises, out of the claim; of a process that was gone only its pid is known."""
    return {spec.name: claim[spec.name] for spec in KillProcess.outputs if spec.name in claim}


def _called(claim: Values) -> str:
    what = claim["exe"] or claim["name"]
    return f"process {claim['pid']} ({what})" if what else f"process {claim['pid']}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
